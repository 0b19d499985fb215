"""How the transferred side uses the other domains."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from isthmus.config.section import Section
from isthmus.errors import did_you_mean

STRATEGIES = (
    "joint",
    "pretrain-finetune",
    "distil",
    "meta",
    "pseudo-label",
    "zero-shot",
    "target-only",
)
"""What the transferred side can do by name; see `isthmus.transfer.strategies`."""


class PretrainConfig(Section):
    """Of `pretrain-finetune`: texts first, then IDs."""

    domains: Literal["all", "sources"] = Field(
        "all", description="What is pretrained on; sources: all but the one target."
    )
    share: float = Field(0.5, gt=0, lt=1, description="Of the epochs, before IDs join.")
    rate: float = Field(
        0.1, gt=0, description="Learning rate of pretrained weights once IDs join, as a multiple."
    )


class DistilConfig(Section):
    """Of `distil`: a teacher's lists as a second thing to learn."""

    teacher: Literal["joint", "sources"] = Field(
        "joint", description="What the teacher learns; sources: all domains but the one target."
    )
    width: float = Field(2.0, gt=0, description="Of the teacher, in multiples of model.dim.")
    share: float = Field(0.5, gt=0, lt=1, description="Of the epochs, for the teacher.")
    top: int = Field(10, ge=1, description="Length of the teacher's lists.")
    strength: float = Field(0.5, gt=0, description="Of the loss against the lists.")
    temperature: float = Field(
        1.0, gt=0, description="Above 1 the items of a list count more evenly."
    )


class MetaConfig(Section):
    """Of `meta`: Reptile over domains and groups of people, then adaptation to the target."""

    share: float = Field(0.7, gt=0, lt=1, description="Of the epochs, before adaptation.")
    groups: int = Field(4, ge=1, description="Groups of like taste that people are divided into.")
    inner_steps: int = Field(5, ge=1, description="Steps on one domain and group in turn.")
    outer_rate: float = Field(
        0.5, gt=0, le=1, description="How far the weights follow these steps; 1: all the way."
    )
    rate: float = Field(1.0, gt=0, description="Learning rate in adaptation, as a multiple.")


class PseudoLabelConfig(Section):
    """Of `pseudo-label`: confident predictions become further training events."""

    share: float = Field(0.5, gt=0, lt=1, description="Of the epochs, before the first labels.")
    rounds: int = Field(1, ge=1, description="Times that labels are given and learnt.")
    fewer_than: int = Field(
        3, ge=1, description="People with fewer training events in the domain get a label."
    )
    confidence: float = Field(
        0.3, ge=0, le=1, description="Least share of the ten likeliest items' probability."
    )
    most: float = Field(0.5, gt=0, description="Most labels, as a multiple of the real events.")
    weight: float = Field(1.0, gt=0, description="Of a label in the loss, times its confidence.")


class TransferConfig(Section):
    """How the transferred side uses the other domains."""

    strategy: str = Field(
        "joint",
        description=f"{', '.join(STRATEGIES)}, or a class of your own, `package.module:Class`.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of a class of your own."
    )
    pretrain: PretrainConfig = PretrainConfig()
    distil: DistilConfig = DistilConfig()
    meta: MetaConfig = MetaConfig()
    pseudo_label: PseudoLabelConfig = PseudoLabelConfig()

    @model_validator(mode="after")
    def _strategy_is_known(self) -> TransferConfig:
        named = self.strategy in STRATEGIES
        if not named and ":" not in self.strategy:
            near = did_you_mean(self.strategy, STRATEGIES)
            raise ValueError(f"no strategy is called {self.strategy!r}. {near}")
        if named and self.options:
            raise ValueError(
                f"options are for a class of your own, and {self.strategy!r} is none; "
                "its settings are sections of [transfer]"
            )
        return self
