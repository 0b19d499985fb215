"""Which settings count when a fitted recommender is taught; all others are those of its fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from isthmus.config import Config, CrossEncoderConfig, TasksConfig
from isthmus.errors import ConfigError

Way = Literal["recommender", "language"]

_ALWAYS = (
    "name",
    "seed",
    "tasks",
    "tracking",
    "training.checkpoint_seconds",
    "training.clip",
    "training.domain_weights",
    "training.threads",
    "training.warmup",
)
COUNT: dict[Way, tuple[str, ...]] = {
    "recommender": (*_ALWAYS, "evaluation.batch"),
    "language": (
        *_ALWAYS,
        "language.model",
        "training.bf16",
        "training.device",
        "training.weight_decay",
    ),
}
"""Keys, and sections, that count in teaching, by the way it goes."""


def check_settings(own: Config, given: Config, way: Way) -> None:
    """Refuse settings that teaching could only leave aside.

    Args:
        own: of the fitted recommender.
        given: the same but for what is to count.
        way: heads on the recommender, or a language model.

    Raises:
        ConfigError: they differ in a key that has no say.
    """
    # Overriding nothing makes paths absolute in both.
    before, after = (c.override().model_dump(mode="json") for c in (own, given))
    for key in _changed(before, after):
        if not any(f"{key}.".startswith(f"{known}.") for known in COUNT[way]):
            raise ConfigError(
                "has no say when a fitted model is taught, and would be left aside",
                where=key,
                hint=_instead(key, way),
            )


def _changed(before: Any, after: Any, key: str = "") -> Iterator[str]:
    """Keys at which two nested dictionaries differ, `a.b.c`."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield key
        return
    for name in before | after:
        inner = f"{key}.{name}" if key else name
        if (name in before) != (name in after):
            yield inner
        else:
            yield from _changed(before[name], after[name], inner)


def _instead(key: str, way: Way) -> str:
    """The key of tasks that does the same, or all that count."""
    section, known = (
        ("tasks", TasksConfig.model_fields)
        if way == "recommender"
        else ("tasks.cross_encoder", CrossEncoderConfig.model_fields)
    )
    last = key.rpartition(".")[2]
    if last in known:
        return f"Set {section}.{last}"
    return f"These count: {', '.join(COUNT[way])}; the others are given to 'isthmus fit'"
