"""What a search may try: values of configuration keys, the configured ones always among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.config import Config, Range
from isthmus.errors import ConfigError, did_you_mean

Value = bool | int | float | str
Values = dict[str, Value]

REACHED = ("language", "alignment", "model", "training", "transfer", "blend")
"""Sections that a trial is made by. Tables, split and what is learnt elsewhere all trials share."""

_ALSO = ("evaluation.max_history",)
_NOT = (
    *("language.cache", "language.runtime", "language.batch_tokens"),
    *("training.device", "training.threads", "training.checkpoint_seconds"),
    # A trial is judged in front of the gate.
    *("blend.gate", "blend.gate_from", "blend.gate_level", "blend.slice_users"),
)


class SearchSpace:
    """Keys and what each may be.

    Args:
        config: gives the space and the configured values.

    Raises:
        ConfigError: a key that is no setting, or none that a trial depends on, or a value that it
            cannot have.
    """

    def __init__(self, config: Config) -> None:
        if not config.search.space:
            raise ConfigError(
                "nothing is to be tried", where="search.space", hint="Name a key and its values"
            )
        self.config = config
        for key in config.search.space:
            _check_reached(key)
        self.usual: Values = {key: value_of(config, key) for key in config.search.space}
        self.ranges = {
            key: _with_usual(key, space, self.usual[key])
            for key, space in config.search.space.items()
        }
        for key, space in self.ranges.items():
            ends = [space.low, space.high] if isinstance(space, Range) else space
            for value in ends:
                whole = isinstance(space, Range) and space.whole
                try:
                    self.with_values({key: int(value) if whole else value})
                except ConfigError as error:
                    raise ConfigError(
                        f"{value!r} cannot be tried: {error.what}", where=f"search.space.{key}"
                    ) from None

    def suggest(self, trial: Any) -> Values:
        """Values of one Optuna trial."""
        found: Values = {}
        for key, space in self.ranges.items():
            if not isinstance(space, Range):
                found[key] = trial.suggest_categorical(key, space)
            elif space.whole:
                found[key] = trial.suggest_int(key, int(space.low), int(space.high), log=space.log)
            else:
                found[key] = trial.suggest_float(key, space.low, space.high, log=space.log)
        return found

    def with_values(self, values: Mapping[str, Value]) -> Config:
        """The configuration with these values.

        Raises:
            ConfigError: values that cannot be, or not together.
        """
        raw = self.config.model_dump(mode="json")
        for key, value in values.items():
            *parents, last = key.split(".")
            place = raw
            for parent in parents:
                place = place[parent]
            place[last] = value
        return Config.parse(raw, where="search.space")


def value_of(config: Config, key: str) -> Value:
    """The configured value of a dotted key.

    Raises:
        ConfigError: no such key, or one that holds no single value.
    """
    place: Any = config
    for part in key.split("."):
        fields = list(type(place).model_fields) if hasattr(type(place), "model_fields") else []
        if part not in fields:
            raise ConfigError(
                f"{key!r} is no setting",
                where="search.space",
                hint=did_you_mean(part, fields) if fields else None,
            )
        place = getattr(place, part)
    if not isinstance(place, bool | int | float | str):
        raise ConfigError(
            f"{key!r} holds no single value", where="search.space", hint="Name a key within it"
        )
    return place


def _check_reached(key: str) -> None:
    """Refuse a setting that is the same to all trials, or only to how fast they are.

    Raises:
        ConfigError: it is one.
    """
    section = key.partition(".")[0]
    shared = section in Config.model_fields and section not in REACHED and key not in _ALSO
    if shared or key in _NOT:
        raise ConfigError(
            f"{key!r} changes no trial, so nothing can be found out about it",
            where="search.space",
            hint=f"Name keys of {', '.join(REACHED)}, or run 'isthmus compare' with each value",
        )


def _with_usual(key: str, space: list[Value] | Range, usual: Value) -> list[Value] | Range:
    """The space, widened where the configured value lies outside."""
    if not isinstance(space, Range):
        return space if usual in space else [usual, *space]
    if isinstance(usual, bool | str):
        raise ConfigError(
            f"{key!r} is no number", where="search.space", hint="Give a list of values"
        )
    ends = {"low": min(space.low, usual), "high": max(space.high, usual)}
    return space.model_copy(update=ends)
