"""How the language model itself learns: pretraining, tuning, distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from isthmus.config.section import Section

TUNING_METHODS = (
    "side",
    "full",
    "last-layers",
    "adapter",
    "lora",
    "dora",
    "adalora",
    "ia3",
    "prefix",
    "prompt",
)
"""What of a language model may learn; `isthmus.language.tuning.methods` says how."""

TuningMethod = Literal[
    "side", "full", "last-layers", "adapter", "lora", "dora", "adalora", "ia3", "prefix", "prompt"
]


class PretrainingConfig(Section):
    """Language modelling on the domains' texts and corpora (`isthmus pretrain`)."""

    objective: Literal["auto", "mlm", "clm"] = Field(
        "auto", description="Masked or causal language modelling; auto: what suits the model."
    )
    scratch: Literal["none", "bert", "gpt"] = Field(
        "none",
        description="none: go on from language.model; else a new model and tokenizer.",
    )
    vocabulary: int = Field(8000, ge=300, description="scratch: most tokens of the tokenizer.")
    dim: int = Field(256, ge=8, description="scratch: width of its states.")
    layers: int = Field(4, ge=1, description="scratch: transformer blocks.")
    heads: int = Field(4, ge=1, description="scratch: attention heads; divides dim.")
    positions: int = Field(128, ge=8, description="scratch: longest text it can read, in tokens.")
    head_steps: int = Field(
        400,
        ge=0,
        description="Steps with the body frozen, where the model comes without a head.",
    )
    steps: int = Field(800, ge=1, description="Steps of the whole model.")
    batch_tokens: int = Field(2048, ge=16, description="Tokens per step, after padding.")
    learning_rate: float = Field(2e-4, gt=0, description="Peak, AdamW, of the whole model.")
    head_rate: float = Field(2e-3, gt=0, description="Peak rate of the head alone.")
    mask_share: float = Field(0.15, gt=0, lt=1, description="Tokens to be guessed in masked LM.")
    held_out: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="Share of the texts that perplexity is measured on, at most 2,000 of them.",
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> PretrainingConfig:
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide dim {self.dim}")
        wanted = {"bert": "mlm", "gpt": "clm"}.get(self.scratch)
        if wanted and self.objective not in ("auto", wanted):
            raise ValueError(f"a {self.scratch} learns by {wanted}; set objective = 'auto'")
        return self


class TuningConfig(Section):
    """Tuning of the language model by behaviour (`isthmus tune-language`)."""

    method: TuningMethod = Field(
        "side",
        description="What learns: side: a network on top of the cached vectors; full, "
        "last-layers, adapter, lora, dora, adalora, ia3, prefix, prompt: part of the model itself.",
    )
    last_layers: int = Field(2, ge=1, description="last-layers: blocks that learn.")
    rank: int = Field(8, ge=1, description="lora, dora, adalora: rank.")
    scale: float = Field(2.0, gt=0, description="lora, dora, adalora: alpha as a multiple of rank.")
    bottleneck: int = Field(48, ge=1, description="adapter: width of the bottleneck.")
    virtual_tokens: int = Field(8, ge=1, description="prefix, prompt: learned tokens in front.")
    width: int = Field(768, ge=1, description="side: width of the network.")
    hidden_layers: list[int] = Field(
        default_factory=list,
        description="side: layers whose pooled states it reads beside the final ones; 1: behind "
        "the first block, −2: before the last.",
    )
    steps: int | None = Field(
        None, ge=1, description="Training steps; None: 1800 for side, else 600."
    )
    batch_examples: int | None = Field(
        None, ge=2, description="Histories or pairs a step; None: 512 for side, else 64."
    )
    history: int | None = Field(
        None,
        ge=0,
        description="Latest items of a history that together stand for it, and whose next item is "
        "learnt; 0: pairs of items instead; None: 8 for side, else 0.",
    )
    recency: float = Field(
        0.75, gt=0, le=1, description="history: weight of an item, per event of age."
    )
    negatives: int | None = Field(
        None,
        ge=0,
        description="Items a step that are drawn beside the batch's own; None: 512 for side, else "
        "none.",
    )
    hard_share: float = Field(
        0.0, ge=0, le=1, description="Of these, drawn among the texts nearest to the answers."
    )
    temperature: float = Field(0.07, gt=0, description="Of the cosines.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak, AdamW; None: what suits the method."
    )
    window: int = Field(3, ge=1, description="pairs: most events apart that two items make one.")
    order_decay: float = Field(
        1.0, gt=0, le=1, description="pairs: weight of one, per event apart."
    )
    cross_share: float = Field(
        0.25, ge=0, le=1, description="pairs: steps on those across domains, where there are some."
    )
    held_out: float = Field(
        0.02, gt=0, le=0.5, description="Share of the people, or pairs, to stop early by."
    )
    patience: int = Field(3, ge=1, description="Looks at what is held out without gain to stop.")

    @property
    def n_steps(self) -> int:
        """`steps`, or as many as suit the method."""
        return self.steps or (1800 if self.method == "side" else 600)


class DistillationConfig(Section):
    """A smaller language model that learns from a larger one (`isthmus distil-language`)."""

    teacher: str = Field("embedded", description="'embedded', a hub name, or a folder.")
    teacher_tuned: Path | None = Field(None, description="Tuned weights of the teacher.")
    student: str | None = Field(
        None, description="A folder or hub name; None: some of the teacher's own blocks."
    )
    student_layers: int = Field(3, ge=1, description="How many of these, evenly spaced.")
    match: Literal["vectors", "rankings"] = Field(
        "rankings",
        description="vectors: the teacher's own; rankings: which texts it finds alike, so widths "
        "need not agree.",
    )
    temperature: float = Field(0.1, gt=0, description="rankings: of the cosines.")
    steps: int = Field(800, ge=1, description="Training steps.")
    batch_texts: int = Field(128, ge=4, description="Texts a step.")
    learning_rate: float = Field(3e-4, gt=0, description="Peak, AdamW.")
    held_out: float = Field(
        0.05, gt=0, le=0.5, description="Share of texts to measure on, at most 2,000 of them."
    )
