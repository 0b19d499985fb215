"""The one configuration file, `isthmus.toml`, whole.

`Config.load("isthmus.toml", overrides=["training.epochs=5"])` reads, overrides and checks it.
Paths in the file are relative to the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from isthmus.config.continual import LearningConfig
from isthmus.config.judging import BlendConfig, EvaluationConfig
from isthmus.config.language_learning import (
    DistillationConfig,
    PretrainingConfig,
    TuningConfig,
)
from isthmus.config.learning import ModelConfig, TrainingConfig
from isthmus.config.online import OnlineConfig
from isthmus.config.search import SearchConfig, TrackingConfig
from isthmus.config.section import Section
from isthmus.config.serving import ServingConfig
from isthmus.config.tables import (
    DOMAIN_NAMES,
    CleaningConfig,
    DomainConfig,
    PeopleConfig,
    SplitConfig,
    misnamed,
)
from isthmus.config.tasks import TasksConfig
from isthmus.config.texts import AlignmentConfig, LanguageConfig
from isthmus.config.transfer import TransferConfig
from isthmus.errors import ConfigError, did_you_mean
from isthmus.settings import apply_override, explained, with_absolute_paths


class Config(Section):
    """A whole run."""

    name: str = Field("isthmus", description="Names the run's folder; no slashes, no dot in front.")
    seed: int = Field(0, ge=0, description="One seed for everything but ties.")
    target: str | None = Field(None, description="Domain of the question; None: every domain.")
    domains: dict[str, DomainConfig] = Field(
        default_factory=dict, description="The catalogues, by name; no slash, colon or comma in it."
    )
    people: PeopleConfig = PeopleConfig()
    cleaning: CleaningConfig = CleaningConfig()
    split: SplitConfig = SplitConfig()
    language: LanguageConfig = LanguageConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    tuning: TuningConfig = TuningConfig()
    distillation: DistillationConfig = DistillationConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    transfer: TransferConfig = TransferConfig()
    blend: BlendConfig = BlendConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
    learning: LearningConfig = LearningConfig()
    online: OnlineConfig = OnlineConfig()
    tasks: TasksConfig = TasksConfig()
    search: SearchConfig = SearchConfig()
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[^/\\.][^/\\]*", name):
            raise ValueError(
                f"a run's name has no slash in it and no dot in front, and is not empty: {name!r}"
            )
        return name

    @model_validator(mode="after")
    def _domains_are_named(self) -> Config:
        if self.target is not None and self.domains and self.target not in self.domains:
            raise ValueError(
                f"target {self.target!r} is no domain. {did_you_mean(self.target, self.domains)}"
            )
        anchor = self.alignment.anchor
        if anchor is not None and self.domains and anchor not in self.domains:
            raise ValueError(
                f"alignment.anchor: {anchor!r} is no domain. {did_you_mean(anchor, self.domains)}"
            )
        for name in self.language.tuned_by_domain if self.domains else ():
            if name not in self.domains:
                raise ValueError(
                    f"language.tuned_by_domain: {name!r} is no domain. "
                    f"{did_you_mean(name, self.domains)}"
                )
        for name in self.training.domain_weights if self.domains else ():
            if name not in self.domains:
                raise ValueError(
                    f"training.domain_weights: {name!r} is no domain. "
                    f"{did_you_mean(name, self.domains)}"
                )
        if self.domains and not any(
            self.training.domain_weights.get(name, 1.0) for name in self.domains
        ):
            raise ValueError("training.domain_weights: every weight is 0, nothing would be learnt")
        return self

    @model_validator(mode="after")
    def _ratings_are_mapped(self) -> Config:
        rated = any(domain.events.rating for domain in self.domains.values())
        for key in ("min_rating", "rating_scale"):
            if self.domains and not rated and getattr(self.cleaning, key) is not None:
                raise ValueError(
                    f"cleaning.{key} needs ratings, and no domain maps a column of them. "
                    "Set domains.NAME.events.rating"
                )
        return self

    @classmethod
    def load(cls, path: Path | str, *, overrides: Sequence[str] = ()) -> Config:
        """Read a TOML file, apply `a.b=c` overrides, check every key and make paths absolute.

        Raises:
            ConfigError: no such file, not TOML, an unknown key (the near one is named) or a value
                of the wrong kind, or a name that no domain can have.
        """
        path = Path(path)
        if not path.is_file():
            raise ConfigError(
                "no such configuration file",
                where=str(path),
                hint="Write one with 'isthmus init FILES…'",
            )
        try:
            raw = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"not valid TOML: {error}", where=str(path)) from None
        _domains_are_there(raw, overrides)
        config = cls.parse(raw, overrides=overrides, base=path.parent, where=str(path))
        # Here and not in `parse`, which also reads what earlier models were saved with.
        wrong = misnamed(config.domains)
        if wrong is not None:
            raise ConfigError(f"domains: {wrong}", where=str(path), hint=DOMAIN_NAMES)
        return config

    @classmethod
    def parse(
        cls,
        raw: dict[str, Any],
        *,
        overrides: Sequence[str] = (),
        base: Path = Path(),
        where: str = "configuration",
    ) -> Config:
        """Check a nested dictionary; see `load`."""
        given = deepcopy(raw)
        for override in overrides:
            apply_override(raw, override)
        try:
            config = cls.model_validate(raw)
        except ValidationError as error:
            blamed = _override_to_blame(error, given, overrides, cls)
            raise explained(error, where if blamed is None else f"--set {blamed}", cls) from None
        return with_absolute_paths(config, base.resolve())

    def override(self, *overrides: str) -> Config:
        """A copy with `a.b=c` overrides applied."""
        return Config.parse(self.model_dump(mode="json"), overrides=overrides)


def _domains_are_there(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """Refuse an override within a domain that the file lacks and no override gives a table.

    Raises:
        ConfigError: there is one; near names are named.
    """
    known = set(raw["domains"]) if isinstance(raw.get("domains"), dict) else set()
    keys = [override.partition("=")[0].strip().split(".") for override in overrides]
    of_domains = [key for key in keys if key[0] == "domains" and len(key) > 1]
    new = {key[1] for key in of_domains if key[2:] in ([], ["interactions"], ["items"])}
    for key in of_domains:
        if key[1] not in known | new:
            raise ConfigError(
                f"there is no domain {key[1]!r}",
                where=f"--set {'.'.join(key)}",
                hint=did_you_mean(key[1], known),
            )


def _override_to_blame(
    error: ValidationError, given: dict[str, Any], overrides: Sequence[str], root: type[Config]
) -> str | None:
    """The override that brought in the first problem; None where it was there without any."""
    first = _problems(error)[0]
    settings = deepcopy(given)
    for override in (None, *overrides):
        if override is not None:
            apply_override(settings, override)
        try:
            root.model_validate(settings)
        except ValidationError as found:
            if first in _problems(found):
                return override
    return None


def _problems(error: ValidationError) -> list[tuple[str, ...]]:
    """Where each problem is, what is said of it, and the value, unless that is a whole section."""
    return [
        (
            ".".join(map(str, problem["loc"])),
            problem["msg"],
            "" if isinstance(problem["input"], dict | Section) else repr(problem["input"]),
        )
        for problem in error.errors()
    ]
