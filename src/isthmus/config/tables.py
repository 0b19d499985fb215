"""Where the tables lie, what their columns mean, how they are cleaned and what is held back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from isthmus.config.section import Section

DOMAIN_NAMES = (
    "Write a name without slashes, colons and commas, which stand in paths and between domain and "
    "item ids, and without blanks around it"
)


def misnamed(names: Iterable[str]) -> str | None:
    """What is wrong with the first name that no domain can have; None where all are fine."""
    for name in names:
        if not name or name != name.strip() or set(name) & set("/\\:,"):
            return f"{name!r} cannot be the name of a domain"
    return None


class EventColumns(Section):
    """Which columns of the interactions file hold what."""

    user: str = Field("user_id", description="Who acted.")
    item: str = Field("item_id", description="On what.")
    time: str | None = Field(None, description="When: Unix seconds, milliseconds or ISO dates.")
    order: str | None = Field(None, description="Place in the user's history, where no clock is.")
    rating: str | None = Field(None, description="How much they liked it.")
    kind: str | None = Field(None, description="Type of event: view, click, buy.")
    weight: str | None = Field(None, description="Weight of the event in training.")


class ItemColumns(Section):
    """Which columns of the items file hold what."""

    item: str = Field("item_id", description="The item's id.")
    title: str | None = Field(None, description="Short name shown to people.")
    category: str | None = Field(None, description="Category path, used for filters and profiles.")
    text: list[str] = Field(
        default_factory=list,
        description="Columns the language model reads, joined by ' | '; empty: title, category.",
    )
    vectors: dict[str, str] = Field(
        default_factory=dict, description="Further modalities: name = list column of floats."
    )


class DomainConfig(Section):
    """One catalogue and what people did in it."""

    interactions: Path | None = Field(None, description="CSV (.gz, .zst), Parquet or JSONL.")
    items: Path | None = Field(None, description="Catalogue; None: items known by id only.")
    events: EventColumns = EventColumns()
    catalogue: ItemColumns = ItemColumns()
    corpus: list[Path] = Field(default_factory=list, description="Free text files, one a line.")
    keep_kinds: list[str] | None = Field(None, description="Event types to keep; None: all.")
    only: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Column = values: rows to take, where one file holds several domains; of the "
        "catalogue too, where it has the column and such values.",
    )
    sample_users: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of its people whose events are read, in stretches, for a file larger "
        "than memory; by their raw id, so the same people wherever an id is the same.",
    )

    @model_validator(mode="after")
    def _kinds_are_mapped(self) -> DomainConfig:
        if self.keep_kinds is not None and self.interactions and self.events.kind is None:
            raise ValueError("keep_kinds needs events.kind, the column that holds the types")
        return self


class PeopleConfig(Section):
    """Optional tables about people and knowledge, shared by all domains.

    Where `linked` is off or there is a mapping, these tables name people by `domain:user_id` or
    `person_id`; an id as in the events will do where it can mean one person only. Impressions name
    their domain, and give ids as its events do.
    """

    users: Path | None = Field(None, description="Attributes; column user_id and any others.")
    mapping: Path | None = Field(
        None, description="Links ids across domains; columns domain, user_id, person_id."
    )
    linked: bool = Field(True, description="Same user id in two domains is one person.")
    links: Path | None = Field(None, description="Friends or trust; columns user_id, other_id.")
    groups: Path | None = Field(None, description="Membership; columns user_id, group_id.")
    triples: Path | None = Field(None, description="Knowledge; columns head, relation, tail.")
    impressions: Path | None = Field(
        None,
        description="What was shown; columns user_id, domain, item_id, time, propensity, clicked "
        "(yes or no, 1 or 0).",
    )


class CleaningConfig(Section):
    """What happens to rows that cannot be used as they are."""

    bad_rows: Literal["stop", "drop"] = Field(
        "stop", description="Null ids, unreadable times, bad ratings: stop, or drop and count."
    )
    unknown_items: Literal["keep", "drop"] = Field(
        "keep", description="Events on items missing from the catalogue: keep by id, or drop."
    )
    unknown_users: Literal["keep", "drop"] = Field(
        "keep",
        description="When a domain joins a fitted model or gets events: those of people whom the "
        "model does not know; keep, or drop.",
    )
    duplicates: Literal["keep", "first", "last"] = Field(
        "keep", description="Events equal in user, item and time; keep, or one of them."
    )
    item_conflicts: Literal["stop", "first", "last"] = Field(
        "stop", description="Catalogue rows with one id and different content."
    )
    min_user_events: int = Field(1, ge=1, description="k-core: least events of a user.")
    min_item_events: int = Field(0, ge=0, description="k-core: least events of an item.")
    min_rating: float | None = Field(None, description="Drop events rated below this.")
    rating_scale: tuple[float, float] | None = Field(
        None, description="Lowest and highest rating; others are bad rows. None: as found."
    )
    max_text_chars: int = Field(2000, ge=16, description="Longer texts are cut and counted.")
    order_by: Literal["auto", "time", "order"] = Field(
        "auto", description="What orders a history; auto: time where there is one, else order."
    )
    tie_seed: int = Field(0, description="Breaks ties in time; independent of training seeds.")

    @field_validator("rating_scale")
    @classmethod
    def _scale_rises(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not scale[0] < scale[1]:
            raise ValueError(f"the lowest rating must be below the highest, found {list(scale)}")
        return scale


class SplitConfig(Section):
    """What is held back to measure on."""

    kind: Literal["auto", "global", "leave-one-out"] = Field(
        "auto", description="auto: one global cut where there are timestamps, else leave-one-out."
    )
    quantiles: tuple[float, float] = Field((0.8, 0.9), description="Global cut, by events.")
    min_history: int = Field(1, ge=0, description="Least earlier events of a question's user.")
    shuffle_items: NonNegativeInt | None = Field(
        None, description="Renumber items by this seed: figures must not change beyond noise."
    )

    @field_validator("quantiles")
    @classmethod
    def _cuts_rise(cls, cuts: tuple[float, float]) -> tuple[float, float]:
        if not 0 < cuts[0] < cuts[1] < 1:
            raise ValueError(f"two rising shares between 0 and 1 are needed, found {list(cuts)}")
        return cuts
