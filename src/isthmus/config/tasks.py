"""Tasks beside ranking: telling ratings and classes, by heads or by a cross-encoder."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from isthmus.config.section import Section
from isthmus.settings import known_component

RATE_HEADS = ("squared", "ordinal")
"""What tells a rating, by name."""

CLICK_HEADS = ("softmax",)
"""What tells a class, by name."""

TUNED = ("last", "full", "adapter", "lora", "dora", "adalora", "ia3", "prefix", "prompt")
"""What of a language model that reads pairs is tuned, by name; as in `isthmus tune-language`."""


class RateConfig(Section):
    """Telling how much somebody will like an item."""

    head: str = Field(
        "squared",
        description="squared: mean squared error; ordinal: a chance for every rating that occurs; "
        "or a class of your own, `package.module:Class`.",
    )

    @field_validator("head")
    @classmethod
    def _head_is_known(cls, name: str) -> str:
        return known_component(name, RATE_HEADS)


class ClickConfig(Section):
    """Telling what somebody will do with an item, as one of several classes."""

    head: str = Field(
        "softmax",
        description="softmax: cross-entropy over the classes; or a class of your own, "
        "`package.module:Class`.",
    )
    examples: Path | None = Field(
        None,
        description="Labelled pairs; columns user_id, domain, item_id, label, optionally time and "
        "split (train, validation, test). None: what was shown (people.impressions), or else "
        "events against items drawn by popularity.",
    )
    negatives: int = Field(
        1, ge=1, description="Items drawn for each event, where nothing else says what was not."
    )

    @field_validator("head")
    @classmethod
    def _head_is_known(cls, name: str) -> str:
        return known_component(name, CLICK_HEADS)


class CrossEncoderConfig(Section):
    """A language model that reads a person's text and an item's text in one sequence."""

    model: str | None = Field(
        None, description="'embedded', a hub name, or a folder; None: as language.model."
    )
    tune: str = Field(
        "last",
        description="What is tuned beside the new head: last: the last `layers` layers; full: all; "
        "adapter, lora, dora, adalora, ia3, prefix, prompt: a few weights added; or a function of "
        "your own, `package.module:function`.",
    )
    layers: int = Field(2, ge=1, description="last: how many.")
    rank: int = Field(8, ge=1, description="lora, dora, adalora: rank.")
    scale: float = Field(2.0, gt=0, description="lora, dora, adalora: alpha as a multiple of rank.")
    bottleneck: int = Field(48, ge=1, description="adapter: width of the bottleneck.")
    virtual_tokens: int = Field(8, ge=1, description="prefix, prompt: learned tokens in front.")
    max_tokens: int = Field(
        96, ge=8, description="Both texts together; of a longer one the oldest events go first."
    )
    history: int = Field(5, ge=1, description="Latest events whose texts stand for a person.")
    epochs: int = Field(3, ge=1, description="Most passes over the pairs.")
    patience: int = Field(1, ge=1, description="Passes without gain on validation before stopping.")
    batch: int = Field(32, ge=1, description="Pairs at a step.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak, AdamW; None: what suits the way of tuning."
    )
    most_pairs: int = Field(
        20_000, ge=1, description="Most pairs that are learnt from; more are thinned out at random."
    )
    rerank: int = Field(50, ge=1, description="Best items of a list that it puts in order anew.")
    weigh: int = Field(
        300,
        ge=0,
        description="Validation questions of each domain that tell how far it counts beside the "
        "order; 0: nothing else counts.",
    )

    @field_validator("tune")
    @classmethod
    def _tuning_is_known(cls, name: str) -> str:
        # Its name in [tuning].
        return known_component("last" if name == "last-layers" else name, TUNED)


class TasksConfig(Section):
    """Tasks beside ranking; the settings of heads on the recommender's states and item vectors."""

    hidden: int = Field(32, ge=1, description="Width of what the heads of all domains share.")
    dropout: float = Field(0.2, ge=0, lt=1, description="On it.")
    entries: int = Field(16, ge=1, description="Numbers that state and item are brought down to.")
    entry_dropout: float = Field(
        0.8, ge=0, lt=1, description="Share of state's and item's entries hidden at a step."
    )
    epochs: int = Field(20, ge=1, description="Most passes over the examples.")
    patience: int = Field(4, ge=1, description="Passes without gain on validation before stopping.")
    batch: int = Field(512, ge=2, description="Most examples at a step.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak, AdamW.")
    weight_decay: float = Field(0.1, ge=0, description="On matrices.")
    rate: RateConfig = RateConfig()
    click: ClickConfig = ClickConfig()
    cross_encoder: CrossEncoderConfig = CrossEncoderConfig()
