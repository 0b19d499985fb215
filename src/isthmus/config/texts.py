"""How the items' texts are read, and how the domains are brought together."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from isthmus.config.section import Section
from isthmus.settings import known_component


class LanguageConfig(Section):
    """The model that reads the items' texts."""

    model: str = Field("embedded", description="'embedded' (MiniLM), a hub name, or a folder.")
    tuned: Path | None = Field(
        None, description="Tuned weights on top of it, a folder of 'isthmus tune-language'."
    )
    tuned_by_domain: dict[str, Path] = Field(
        default_factory=dict, description="Tuned weights of a domain's own, by its name."
    )
    pooling: Literal["auto", "mean", "cls", "last"] = Field("auto", description="Token pooling.")
    layers: list[int] = Field(
        default_factory=list,
        description="Hidden layers that are read beside the final one, of a model without tuned "
        "weights; 0: before the first block, −2: before the last. [0, 3] of MiniLM ranks better "
        "by texts alone, with vectors three times as wide.",
    )
    max_tokens: int = Field(64, ge=4, description="Longer texts are truncated and counted.")
    batch_tokens: int | None = Field(
        None, ge=1, description="Tokens per encoding batch, after padding; None: what is fastest."
    )
    runtime: Literal["auto", "onnx", "torch"] = Field("auto", description="auto: ONNX if it loads.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="bf16: PyTorch in half the bits, several times as fast where the processor "
        "multiplies them (AMX, AVX512-BF16, a GPU) and slower elsewhere.",
    )
    cache: Path | None = Field(None, description="Folder for vectors; None: the user's cache.")
    whiten_dim: int = Field(200, ge=2, description="Dimensions kept by per-domain whitening.")

    @model_validator(mode="after")
    def _onnx_in_single_precision(self) -> LanguageConfig:
        if self.precision == "bf16" and self.runtime == "onnx":
            raise ValueError("runtime = 'onnx' has no precision = 'bf16'; leave runtime at 'auto'")
        return self

    @model_validator(mode="after")
    def _layers_of_the_model_as_it_is(self) -> LanguageConfig:
        if self.layers and (self.tuned or self.tuned_by_domain):
            raise ValueError("tuned weights give vectors of their own; leave layers or them out")
        return self

    @property
    def plain(self) -> LanguageConfig:
        """The same model without tuned weights, its final states alone."""
        return self.model_copy(update={"tuned": None, "tuned_by_domain": {}, "layers": []})

    def of_domain(self, name: str) -> LanguageConfig:
        """As one domain's texts are read: with weights of its own where it has such."""
        own = self.tuned_by_domain.get(name)
        return self if own is None else self.model_copy(update={"tuned": own})


FEATURE_MAPS = ("whiten", "coral", "procrustes", "sinkhorn")
"""Maps of item features that have a name."""

REPRESENTATION_LOSSES = ("mmd", "coral", "adversarial", "infonce")
"""Losses on learned representations that have a name."""


class AlignmentConfig(Section):
    """How the domains are brought together; see alignment.md for maps and losses of your own."""

    features: list[str] = Field(
        ["whiten"],
        description="Maps of text vectors, applied in turn: whiten, coral, procrustes, sinkhorn.",
    )
    basis: Literal["own", "shared"] = Field(
        "shared",
        description="Axes of whitened texts: own: each domain's principal axes, so equal texts of "
        "two domains look unlike; shared: the domains' common ones.",
    )
    anchor: str | None = Field(
        None, description="The domain that stands still; None: the one with the most texts."
    )
    shrinkage: float = Field(
        0.0, ge=0, le=1, description="whiten, coral: share of the mean variance in each direction."
    )
    epsilon: float = Field(
        0.01, gt=0, description="sinkhorn: regularisation, as a share of the mean squared distance."
    )
    points: int = Field(
        2000, ge=2, description="sinkhorn: most items of a domain that the plan is solved for."
    )
    pairs: Path | None = Field(
        None,
        description="Items that belong together; columns domain_a, item_a, domain_b, item_b. None: "
        "those whose texts are each other's nearest.",
    )
    pair_cosine: float = Field(
        0.4, ge=-1, le=1, description="Least cosine, after whitening, of a pair found by text."
    )
    representations: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="Losses on item vectors and their weights: mmd, coral, adversarial, infonce.",
    )
    user_representations: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="The same on people: the mean state after events of a domain.",
    )
    warmup: float = Field(
        0.2, ge=0, le=1, description="Share of training over which these weights rise from 0."
    )
    stop_gradient: bool = Field(
        True, description="These losses draw the other domains to the anchor, never the anchor."
    )
    temperature: float = Field(0.1, gt=0, description="infonce: of the cosines.")
    step_rows: int = Field(
        256, ge=2, description="Most pairs, and most rows of a domain, that a loss sees at a step."
    )

    @field_validator("features")
    @classmethod
    def _maps_are_known(cls, names: list[str]) -> list[str]:
        return [known_component(name, FEATURE_MAPS) for name in names]

    @field_validator("representations", "user_representations")
    @classmethod
    def _losses_are_known(cls, weights: dict[str, float]) -> dict[str, float]:
        return {known_component(n, REPRESENTATION_LOSSES): weight for n, weight in weights.items()}
