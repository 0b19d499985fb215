"""The core model, and how it learns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator, model_validator

from isthmus.config.section import Section
from isthmus.settings import known_component

HEADS = ("low-rank",)
"""What turns a state into a question about one domain, by name."""


class ModelConfig(Section):
    """The core model: item tower and user tower."""

    dim: int = Field(64, ge=4, description="Width of item vectors and user states.")
    layers: int = Field(2, ge=1, description="Transformer blocks.")
    heads: int = Field(2, ge=1, description="Attention heads; divides dim.")
    feed: int = Field(2, ge=1, description="Width of the feed-forward layer, in multiples of dim.")
    dropout: float = Field(0.5, ge=0, lt=1, description="In the blocks and on the input.")
    max_length: int = Field(50, ge=1, description="Latest events the user tower reads.")
    head: str = Field(
        "low-rank",
        description="What turns a user's state into a question about one domain, one for each: "
        "low-rank, or a class of your own, `package.module:Class`.",
    )
    adapter_rank: int = Field(8, ge=0, description="Rank of per-domain adapters; 0: none.")
    use_ids: bool = Field(True, description="ID embeddings beside text.")
    use_text: bool = Field(True, description="Text vectors beside IDs.")
    fusion: Literal["sum", "null-space"] = Field(
        "sum",
        description="sum: projected text plus ID; null-space: frozen text, and the ID in "
        "dimensions of its own; give several domains alignment.basis = shared.",
    )
    text_share: float = Field(
        0.5, gt=0, lt=1, description="null-space: share of the dimensions that the text has."
    )
    cross_attention_penalty: float = Field(
        0.0, ge=0, description="Weight of the attention that goes to events of other domains."
    )
    id_shrinkage: float = Field(2.0, ge=0, description="k in n/(n+k): evidence an ID needs.")
    id_dropout: float = Field(0.1, ge=0, lt=1, description="Share of IDs hidden in training.")
    time_gaps: bool = Field(True, description="Embed the time between events.")

    @field_validator("head")
    @classmethod
    def _head_is_known(cls, name: str) -> str:
        return known_component(name, HEADS)

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> ModelConfig:
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide dim {self.dim}")
        return self

    @model_validator(mode="after")
    def _items_are_known_by_something(self) -> ModelConfig:
        if not (self.use_ids or self.use_text):
            raise ValueError("use_ids and use_text are both off, and items are known by nothing")
        if self.fusion == "null-space" and not (self.use_ids and self.use_text):
            raise ValueError("fusion = 'null-space' needs both use_ids and use_text")
        if self.fusion == "null-space" and not 0 < round(self.dim * self.text_share) < self.dim:
            raise ValueError("text_share leaves no dimension to the text, or none to the IDs")
        return self


class TrainingConfig(Section):
    """How the core model learns."""

    epochs: int = Field(30, ge=1, description="Most passes over the training events.")
    patience: int = Field(4, ge=1, description="Evaluations without gain before stopping.")
    evaluate_every: int = Field(3, ge=1, description="Epochs between looks at validation.")
    stopping_questions: int = Field(
        4000, ge=1, description="Most validation questions per domain asked while training."
    )
    batch_events: int = Field(1024, ge=16, description="History events per packed batch.")
    newcomer_steps: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Further steps for each ordinary one, on histories without the domain of what "
        "is learnt, as of people new to it; none in Reptile and in updates.",
    )
    negatives: int = Field(512, ge=1, description="Shared uniform negatives per domain and batch.")
    full_softmax: bool = Field(False, description="Whole catalogue instead of sampled negatives.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak, AdamW.")
    id_rate: float = Field(
        30.0, gt=0, description="Rate of ID rows as a multiple; a row is seldom touched."
    )
    weight_decay: float = Field(0.01, ge=0, description="On matrices only, never on tables.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of steps to the peak rate.")
    clip: float = Field(1.0, gt=0, description="Gradient norm at which it is clipped.")
    domain_weights: dict[str, NonNegativeFloat] = Field(
        default_factory=dict, description="Weight of a domain's mean loss; 1 where not named."
    )
    checkpoint_seconds: float = Field(
        20.0, ge=0, description="Least time between checkpoints; 0: at every epoch's end."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto: CUDA where present, else CPU.",
    )
    bf16: Literal["auto", "on", "off"] = Field("auto", description="auto: on CUDA only.")
    threads: PositiveInt | None = Field(
        None, description="CPU threads of a fit, a comparison and of tuning; None: all there are."
    )
