"""The tables of one domain by itself: mapped in a configuration, or by a guess."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.config import CleaningConfig, Config, DomainConfig
from isthmus.data.cleaning import CleaningReport
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.guess import guess_domain
from isthmus.data.tables import read_domain, read_people
from isthmus.errors import ConfigError, DataError, did_you_mean


@dataclass(frozen=True)
class OneDomain:
    """What was read.

    Attributes:
        frames: the domain's tables.
        people: who is who, as the configuration says; None without one.
        cleaning: what to do with rows that cannot be used, likewise.
        guesses: what the mapping of columns rests on, where nobody said it.
    """

    frames: DomainFrames
    people: PeopleFrames | None
    cleaning: CleaningConfig | None
    guesses: tuple[str, ...]


def read_one_domain(
    name: str,
    *,
    items: Path | None = None,
    events: Path | None = None,
    config: Path | None = None,
    catalogue: bool = True,
    report: CleaningReport,
) -> OneDomain:
    """Read the tables of a domain.

    Args:
        name: of the domain.
        items: file of its catalogue; None: the configured one.
        events: file of its events; None: the configured one.
        config: file whose section `domains.NAME` maps columns, and whose `people` and `cleaning`
            hold; None: columns are guessed.
        catalogue: whether the catalogue is wanted; without, the events alone are read.
        report: filled with what reading them found.

    Raises:
        ConfigError: the configuration cannot be understood, or does not name the domain.
        DataError: a file cannot be read or is no such table, or none is named.
    """
    guesses: tuple[str, ...] = ()
    if config is None:
        mapping, guesses = guess_domain(name, items=items if catalogue else None, events=events)
        people = cleaning = None
    else:
        settings = Config.load(config)
        mapping = _section(settings, name, config)
        given = {"items": items, "interactions": events}
        mapping = mapping.model_copy(update={k: v for k, v in given.items() if v is not None})
        people, cleaning = read_people(settings.people, report), settings.cleaning
    if not catalogue:
        mapping = mapping.model_copy(update={"items": None, "corpus": []})
    if mapping.items is None and mapping.interactions is None:
        wanted = "items, of events or both" if catalogue else "events"
        raise DataError(
            f"no file of {name!r} is named",
            where=f"domains.{name}",
            hint=f"Name one of {wanted}, as an option or in the file of --config",
        )
    return OneDomain(read_domain(name, mapping, report), people, cleaning, guesses)


def _section(settings: Config, name: str, path: Path) -> DomainConfig:
    if name not in settings.domains:
        raise ConfigError(
            f"names no domain {name!r}",
            where=str(path),
            hint=did_you_mean(name, settings.domains),
        )
    return settings.domains[name]
