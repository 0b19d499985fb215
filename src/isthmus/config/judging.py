"""How parts are weighed, when transfer is let in, and what is measured."""

from __future__ import annotations

from pydantic import Field, PositiveInt, field_validator, model_validator

from isthmus.config.section import Section
from isthmus.errors import did_you_mean

PARTS = ("neural", "co-occurrence", "text", "recent-popular")
"""What a blend can be made of."""


class BlendConfig(Section):
    """How parts are weighed and when transfer is let in."""

    parts: list[str] = Field(list(PARTS), min_length=1, description="What is blended.")
    folds: int = Field(2, ge=2, description="Cross-fitting folds over validation users.")
    gate: bool = Field(True, description="Off: the transferred model is used as it is.")
    gate_from: float = Field(0.5, ge=0.5, lt=1, description="Confidence at which it opens.")
    gate_level: float = Field(0.9, gt=0.5, lt=1, description="Confidence at which it is open.")
    slice_users: int = Field(
        50, ge=10, description="Least validation users of a group that is gated on its own."
    )
    enough_questions: int = Field(
        1000,
        ge=0,
        description="Validation questions about a domain that are enough to weigh and gate by; "
        "where there are fewer, those that stopped the training early are asked as well.",
    )
    cold_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of validation users asked again as if they were new to the target.",
    )

    @field_validator("parts")
    @classmethod
    def _parts_are_known(cls, parts: list[str]) -> list[str]:
        for name in parts:
            if name not in PARTS:
                raise ValueError(f"no part is called {name!r}. {did_you_mean(name, PARTS)}")
        return parts

    @model_validator(mode="after")
    def _gate_opens_upwards(self) -> BlendConfig:
        if self.gate_from >= self.gate_level:
            raise ValueError("gate_from must be below gate_level")
        return self


class EvaluationConfig(Section):
    """What is measured."""

    cutoffs: list[PositiveInt] = Field([5, 10, 20, 100], description="k of @k.")
    exclude_seen: bool = Field(
        True,
        description="Items in the history are not candidates, neither where parts are weighed and "
        "transfer is judged nor in figures. Recommendations leave them out unless asked with "
        "`seen`.",
    )
    candidates: PositiveInt | None = Field(
        None, description="Sampled protocol: negatives; None: full."
    )
    batch: int = Field(256, ge=1, description="Requests scored at once.")
    max_history: int = Field(200, ge=1, description="History events a request carries.")
    bootstrap: int = Field(
        1000,
        ge=100,
        description="Resamples of users for intervals; comparisons draw more where with so few "
        "no slice could be found to differ.",
    )
    cold_share: float = Field(0.2, ge=0, le=1, description="Users whose target history is hidden.")
    min_slice: int = Field(500, ge=1, description="Smaller slices are merged with a neighbour.")

    @field_validator("cutoffs")
    @classmethod
    def _headline_is_measured(cls, cutoffs: list[int]) -> list[int]:
        if 10 not in cutoffs:
            raise ValueError("10 must be among the cutoffs: verdicts rest on it")
        return cutoffs
