"""What a generated world is asked to be: its size, its domains and its dials."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from isthmus.data.world.themes import N_THEMES, TOPICS_PER_THEME

DomainName = Literal["books", "films", "gear", "courses"]

_USUAL: dict[str, dict[str, Any]] = {
    "books": {"n_items": 800, "events_per_user": 14.0, "starts_after_days": 0.0},
    "films": {"n_items": 500, "events_per_user": 6.0, "starts_after_days": 60.0},
    "gear": {
        "n_items": 500,
        "events_per_user": 5.0,
        "starts_after_days": 150.0,
        "sensitivity": 0.5,
    },
    "courses": {"n_items": 300, "events_per_user": 3.0, "starts_after_days": 180.0},
}


class DomainSpec(BaseModel):
    """One catalogue; fields not given take what is usual for the domain of that name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: DomainName
    n_items: int = Field(800, ge=1, description="Size of the catalogue.")
    events_per_user: float = Field(14.0, gt=0, description="Mean events of a user active here.")
    starts_after_days: float = Field(
        0.0, ge=0, description="How long after joining a user begins to act here."
    )
    sensitivity: float = Field(
        0.0, ge=0, description="How much price above budget and risk above tolerance put off."
    )

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"name": given}
        if isinstance(given, dict):
            return {**_USUAL.get(str(given.get("name")), {}), **given}
        return given


class WorldConfig(BaseModel):
    """A world; `WorldConfig(transfer=0, domains=("books", "gear"))` is one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_users: int = Field(2000, ge=1, description="How many people there are.")
    domains: tuple[DomainSpec, ...] = Field(
        default=(DomainSpec(name="books"), DomainSpec(name="films"), DomainSpec(name="gear")),
        min_length=1,
        description="Catalogues, by name alone or with their sizes.",
    )
    transfer: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of a person's interests that are the same in all domains.",
    )
    drift: float = Field(
        0.05, ge=0, le=1, description="How fast tastes change; 0: never, 1: nearly new in a year."
    )
    seed: int = Field(0, ge=0, description="Same seed, same world.")
    overlap: float = Field(
        0.7, ge=0, le=1, description="Share of users active in all domains; the rest keep to one."
    )
    n_themes: int = Field(
        N_THEMES, ge=2, le=N_THEMES, description="Human themes; fewer make a denser, easier world."
    )
    focus: float = Field(
        2.0, ge=0, description="How few themes a person cares for: standard deviation of log taste."
    )
    hidden: float = Field(
        0.7, ge=0, description="Weight of the part of taste that no text tells, in log odds."
    )
    popularity_bias: float = Field(
        0.7, ge=0, description="Exponent of the power law by which items are shown; 0: evenly."
    )
    exposure_bias: float = Field(
        0.6, ge=0, le=1, description="Share of places filled by a guess of the user's taste."
    )
    slate: int = Field(6, ge=1, description="Places on one page that is shown to a user.")
    click_rate: float = Field(0.25, gt=0, lt=1, description="Mean share of shown items clicked.")
    new_items: float = Field(
        0.15, ge=0, le=1, description="Share of items released in the second half of the time."
    )
    missing_text: float = Field(0.02, ge=0, le=1, description="Share of items without any text.")
    misleading_text: float = Field(
        0.02, ge=0, le=1, description="Share of items whose text speaks of another topic."
    )
    friends_per_user: float = Field(4.0, ge=0, description="Mean number of links a user makes.")
    start: float = Field(1_672_531_200.0, description="First moment, Unix seconds.")
    days: float = Field(730.0, gt=0, description="How long the world lasts.")

    @model_validator(mode="after")
    def _consistent(self) -> WorldConfig:
        names = [spec.name for spec in self.domains]
        if len(set(names)) < len(names):
            raise ValueError(f"a domain is named twice: {', '.join(names)}")
        least = self.n_themes * TOPICS_PER_THEME
        for spec in self.domains:
            if spec.n_items < least:
                raise ValueError(
                    f"{spec.name} has {spec.n_items} items for {least} topics: "
                    "raise n_items or lower n_themes"
                )
        return self

    @property
    def end(self) -> float:
        """Last moment, Unix seconds."""
        return self.start + self.days * 86_400.0

    @property
    def names(self) -> tuple[str, ...]:
        """Domain names in index order; the last is the target of a written world."""
        return tuple(spec.name for spec in self.domains)

    @property
    def n_topics(self) -> int:
        """Topics of all themes together."""
        return self.n_themes * TOPICS_PER_THEME
