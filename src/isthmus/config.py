"""The one configuration file, `isthmus.toml`, as typed models; every field is explained here.

`Config.load("isthmus.toml", overrides=["training.epochs=5"])` reads, overrides and checks it.
Paths in the file are relative to the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from isthmus.errors import ConfigError, did_you_mean
from isthmus.settings import apply_override, explained, known_component, with_absolute_paths


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EventColumns(_Section):
    """Which columns of the interactions file hold what."""

    user: str = Field("user_id", description="Who acted.")
    item: str = Field("item_id", description="On what.")
    time: str | None = Field(None, description="When: Unix seconds, milliseconds or ISO dates.")
    order: str | None = Field(None, description="Place in the user's history, where no clock is.")
    rating: str | None = Field(None, description="How much they liked it.")
    kind: str | None = Field(None, description="Type of event: view, click, buy.")
    weight: str | None = Field(None, description="Weight of the event in training.")


class ItemColumns(_Section):
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


class DomainConfig(_Section):
    """One catalogue and what people did in it."""

    interactions: Path | None = Field(None, description="CSV (.gz, .zst), Parquet or JSONL.")
    items: Path | None = Field(None, description="Catalogue; None: items known by id only.")
    events: EventColumns = EventColumns()
    catalogue: ItemColumns = ItemColumns()
    corpus: list[Path] = Field(default_factory=list, description="Free text files, one a line.")
    keep_kinds: list[str] | None = Field(None, description="Event types to keep; None: all.")
    only: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Column = values: rows to take, where one file holds several domains.",
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


class PeopleConfig(_Section):
    """Optional tables about people and knowledge, shared by all domains."""

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
        description="What was shown; columns user_id, domain, item_id, time, propensity, clicked.",
    )


class CleaningConfig(_Section):
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


class SplitConfig(_Section):
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


class LanguageConfig(_Section):
    """The model that reads the items' texts."""

    model: str = Field("embedded", description="'embedded' (MiniLM), a hub name, or a folder.")
    pooling: Literal["auto", "mean", "cls", "last"] = Field("auto", description="Token pooling.")
    max_tokens: int = Field(64, ge=4, description="Longer texts are truncated and counted.")
    batch_tokens: int | None = Field(
        None, ge=1, description="Tokens per encoding batch, after padding; None: what is fastest."
    )
    runtime: Literal["auto", "onnx", "torch"] = Field("auto", description="auto: ONNX if it loads.")
    cache: Path | None = Field(None, description="Folder for vectors; None: the user's cache.")
    whiten_dim: int = Field(200, ge=2, description="Dimensions kept by per-domain whitening.")


FEATURE_MAPS = ("whiten", "coral", "procrustes", "sinkhorn")
"""Maps of item features that have a name."""

REPRESENTATION_LOSSES = ("mmd", "coral", "adversarial", "infonce")
"""Losses on learned representations that have a name."""


class AlignmentConfig(_Section):
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


HEADS = ("low-rank",)
"""What turns a state into a question about one domain, by name."""


class ModelConfig(_Section):
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


class TrainingConfig(_Section):
    """How the core model learns."""

    epochs: int = Field(30, ge=1, description="Most passes over the training events.")
    patience: int = Field(2, ge=1, description="Evaluations without gain before stopping.")
    evaluate_every: int = Field(3, ge=1, description="Epochs between looks at validation.")
    stopping_questions: int = Field(
        4000, ge=1, description="Most validation questions per domain asked while training."
    )
    batch_events: int = Field(1024, ge=16, description="History events per packed batch.")
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
    threads: PositiveInt | None = Field(None, description="CPU threads; None: PyTorch's choice.")


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


class PretrainConfig(_Section):
    """Of `pretrain-finetune`: texts first, then IDs."""

    domains: Literal["all", "sources"] = Field(
        "all", description="What is pretrained on; sources: all but the one target."
    )
    share: float = Field(0.5, gt=0, lt=1, description="Of the epochs, before IDs join.")
    rate: float = Field(
        0.1, gt=0, description="Learning rate of pretrained weights once IDs join, as a multiple."
    )


class DistilConfig(_Section):
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


class MetaConfig(_Section):
    """Of `meta`: Reptile over domains and groups of people, then adaptation to the target."""

    share: float = Field(0.7, gt=0, lt=1, description="Of the epochs, before adaptation.")
    groups: int = Field(4, ge=1, description="Groups of like taste that people are divided into.")
    inner_steps: int = Field(5, ge=1, description="Steps on one domain and group in turn.")
    outer_rate: float = Field(
        0.5, gt=0, le=1, description="How far the weights follow these steps; 1: all the way."
    )
    rate: float = Field(1.0, gt=0, description="Learning rate in adaptation, as a multiple.")


class PseudoLabelConfig(_Section):
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


class TransferConfig(_Section):
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


PARTS = ("neural", "co-occurrence", "text", "recent-popular")
"""What a blend can be made of."""


class BlendConfig(_Section):
    """How parts are weighed and when transfer is let in."""

    parts: list[str] = Field(list(PARTS), min_length=1, description="What is blended.")
    folds: int = Field(2, ge=2, description="Cross-fitting folds over validation users.")
    gate: bool = Field(True, description="Off: the transferred model is used as it is.")
    gate_from: float = Field(0.8, ge=0.5, lt=1, description="Confidence at which it opens.")
    gate_level: float = Field(0.95, gt=0.5, lt=1, description="Confidence at which it is open.")
    slice_users: int = Field(
        50, ge=10, description="Least validation users of a group that is gated on its own."
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


class EvaluationConfig(_Section):
    """What is measured."""

    cutoffs: list[PositiveInt] = Field([5, 10, 20, 100], description="k of @k.")
    exclude_seen: bool = Field(True, description="Items in the history are not candidates.")
    candidates: PositiveInt | None = Field(
        None, description="Sampled protocol: negatives; None: full."
    )
    batch: int = Field(256, ge=1, description="Requests scored at once.")
    max_history: int = Field(200, ge=1, description="History events a request carries.")
    bootstrap: int = Field(1000, ge=100, description="Resamples of users for intervals.")
    cold_share: float = Field(0.2, ge=0, le=1, description="Users whose target history is hidden.")
    min_slice: int = Field(500, ge=1, description="Smaller slices are merged with a neighbour.")

    @field_validator("cutoffs")
    @classmethod
    def _headline_is_measured(cls, cutoffs: list[int]) -> list[int]:
        if 10 not in cutoffs:
            raise ValueError("10 must be among the cutoffs: verdicts rest on it")
        return cutoffs


class Config(_Section):
    """A whole run."""

    name: str = Field(
        "isthmus",
        pattern=r"^[^/\\.][^/\\]*$",
        description="Names the run's folder; no slashes, no dot in front.",
    )
    seed: int = Field(0, ge=0, description="One seed for everything but ties.")
    target: str | None = Field(None, description="Domain of the question; None: every domain.")
    domains: dict[str, DomainConfig] = Field(
        default_factory=dict, description="The catalogues, by name."
    )
    people: PeopleConfig = PeopleConfig()
    cleaning: CleaningConfig = CleaningConfig()
    split: SplitConfig = SplitConfig()
    language: LanguageConfig = LanguageConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    transfer: TransferConfig = TransferConfig()
    blend: BlendConfig = BlendConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

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
                of the wrong kind.
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
        return cls.parse(raw, overrides=overrides, base=path.parent, where=str(path))

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
        for override in overrides:
            apply_override(raw, override)
        try:
            config = cls.model_validate(raw)
        except ValidationError as error:
            raise explained(error, where, cls) from None
        return with_absolute_paths(config, base.resolve())

    def override(self, *overrides: str) -> Config:
        """A copy with `a.b=c` overrides applied."""
        return Config.parse(self.model_dump(mode="json"), overrides=overrides)
