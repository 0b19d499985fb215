"""The one typed container of what a run found out, `RunRecord`, and its parts.

Who runs an experiment fills it; `isthmus.experiment.records` writes and reads it; the report, the
model card and the terminal show it and know nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from isthmus.evaluation.result import RECORD_SCHEMA

_DEFAULTS: dict[str, Any] = {"sources": "", "share": 1.0, "control": "none", "slice": "all"}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(_Model):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Verdict(_Model):
    """The answer for one target, in one sentence; `relative` is the change of `metric`."""

    target: str
    sources: list[str]
    helps: Literal["yes", "no", "undecided"]
    sentence: str
    metric: str = "ndcg@10"
    relative: Estimate | None = None
    gate_weight: float | None = None


class System(_Model):
    """One competitor. `transferred` and `target-only` are the pair that the question is about;
    `gated` is what is served."""

    name: str
    role: Literal["gated", "transferred", "target-only", "baseline"] = "baseline"
    about: str = ""


class GateSlice(_Model):
    """What the gate decided for people who have done about as much.

    Attributes:
        people: who they are, in words.
        weight: share of the transferred model that they are served, 0 to 1.
        n: validation questions that they were judged by.
        asked_again: how many of them were asked with the person's target history hidden.
        measured: relative change of the metric among them; None where they are too few to be
            judged and share the decision for all.
        shrunk: the same drawn towards the change for all, as far as noise explains the difference:
            what the gate acts on; None likewise.
    """

    people: str
    weight: float = Field(ge=0, le=1)
    n: int
    asked_again: int = 0
    measured: Estimate | None = None
    shrunk: Estimate | None = None


class GateReport(_Model):
    """What the gate of one target decided on validation users, and what each blend is made of.

    Attributes:
        weight: share of the transferred model, 0 (shut) to 1 (open), the mean over validation
            questions.
        reason: why, as a sentence.
        transferred, target_only: weight of each part in the two blends.
        uplift: relative change on validation users that the gate saw.
        slices: the same for each group of people, where the gate was allowed to differ.
    """

    target: str
    weight: float = Field(ge=0, le=1)
    reason: str = ""
    transferred: dict[str, float] = Field(default_factory=dict)
    target_only: dict[str, float] = Field(default_factory=dict)
    uplift: Estimate | None = None
    slices: list[GateSlice] = Field(default_factory=list)

    @field_validator("slices", mode="before")
    @classmethod
    def _never_filled(cls, slices: object) -> object:
        """Runs recorded before groups were gated hold an empty table here."""
        return slices or []

    @property
    def refused(self) -> list[GateSlice]:
        """Groups that get nothing of the transferred model though others do."""
        shut = [part for part in self.slices if part.weight == 0]
        return shut if len(shut) < len(self.slices) else []


class Curve(_Model):
    """How one system learnt one domain; None in an epoch that was not measured."""

    system: str
    domain: str
    epochs: list[int]
    loss: list[float | None]
    validation: list[float | None] = Field(default_factory=list)
    metric: str = "ndcg@10"

    @model_validator(mode="after")
    def _equal_lengths(self) -> Self:
        if not len(self.epochs) == len(self.loss) == (len(self.validation) or len(self.epochs)):
            raise ValueError("epochs, loss and validation differ in length")
        return self


class CurvePoint(_Model):
    """What transfer does where a target keeps a share of its behaviour, or under a control.

    Attributes:
        target: the domain of the question.
        share: of its people or of its training events, in (0, 1].
        by: `users` or `time`, which share that is.
        control: `none`, or what was destroyed on purpose.
        events: training events that the target has.
        seeds: over which figures are pooled.
        alone: the headline metric of target-only.
        transferred: relative change of it with the transferred side.
        gated: the same after the gate.
        gate_weight: share of the transferred model that is served.
        lost: of a control, what it takes off `transferred`, in the same units; both are read from
            the same resamples of users.
        seconds: fitting and measuring, all seeds together.
        peak_rss_mb: most memory at a time.
    """

    target: str
    share: float = Field(gt=0, le=1)
    by: Literal["users", "time"] = "users"
    control: str = "none"
    events: int
    seeds: list[int]
    alone: float | None = None
    transferred: Estimate | None = None
    gated: Estimate | None = None
    gate_weight: float | None = None
    lost: Estimate | None = None
    seconds: float
    peak_rss_mb: float | None = None


class HistoryRow(_Model):
    """One thing an example user did."""

    domain: str
    title: str
    category: str | None = None


class Recommended(_Model):
    """One item offered to an example user; `chosen` marks what they really took next."""

    title: str
    category: str | None = None
    score: float
    parts: dict[str, float] = Field(default_factory=dict)
    why: str = ""
    chosen: bool = False


class ExampleUser(_Model):
    """A person whose history, oldest first, and recommendations can be read side by side."""

    user: str
    target: str
    for_whom: str = ""
    history: list[HistoryRow]
    recommendations: list[Recommended]


class ItemMap(_Model):
    """A sample of items of all domains on a plane, before and after alignment."""

    domain: list[str]
    title: list[str]
    before: list[tuple[float, float]]
    after: list[tuple[float, float]]
    distance_before: float | None = None
    distance_after: float | None = None

    @model_validator(mode="after")
    def _equal_lengths(self) -> Self:
        if len({len(self.domain), len(self.title), len(self.before), len(self.after)}) != 1:
            raise ValueError("domain, title, before and after differ in length")
        return self


class Distance(_Model):
    """How far two domains are from each other by one kind of vectors, see
    `isthmus.alignment.distance.DomainDistance`; None where there was too little to measure."""

    mmd: float | None = None
    proxy_a: float | None = None
    coral: float | None = None
    pairs: float | None = None
    between: float | None = None
    within: float | None = None


class DomainsApart(_Model):
    """Two domains where losses on representations were on: `stages` tells how far they are by their
    texts, and by the item vectors learnt, before and after. `pairs` of items belong together."""

    a: str
    b: str
    pairs: int
    stages: dict[str, Distance]


class DomainFacts(_Model):
    """One domain in the data section; shares are 0 to 1."""

    name: str
    users: int
    items: int
    events: int
    density: float | None = None
    first: str | None = None
    last: str | None = None
    text_coverage: float | None = None
    rating_scale: tuple[float, float] | None = None
    dropped: dict[str, int] = Field(default_factory=dict)


class PairFacts(_Model):
    """Two domains side by side; similarity is the cosine of their mean texts or the like."""

    a: str
    b: str
    shared_users: int
    text_similarity: float | None = None


class DataFacts(_Model):
    """What the models were given."""

    domains: list[DomainFacts]
    pairs: list[PairFacts] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class Stage(_Model):
    """One stretch of a run."""

    name: str
    seconds: float


class Cost(_Model):
    """What the run took."""

    stages: list[Stage] = Field(default_factory=list)
    seconds: float
    peak_rss_mb: float | None = None
    parameters: int | None = None
    device: str = "cpu"


class RunRecord(_Model):
    """Everything that a run found out.

    Attributes:
        split: which rule made the questions.
        protocol: the protocol of the headline figures, `full` or `sampled`.
        metric: the headline metric.
        metrics: all figures, in `RECORD_SCHEMA`; missing columns are filled, unknown ones refused.
        points: how the answer changes with the share of target data and under controls; empty
            where neither was asked for.
        distances: by pair of domains; empty where no loss on representations was on.
        config: the resolved configuration as plain values; None entries are left out.
        notes: limits of this run worth saying, one sentence each.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    name: str
    created: str
    split: str
    protocol: str = "full"
    metric: str = "ndcg@10"
    systems: list[System]
    verdicts: list[Verdict] = Field(default_factory=list)
    metrics: pl.DataFrame = Field(exclude=True)
    gates: list[GateReport] = Field(default_factory=list)
    curves: list[Curve] = Field(default_factory=list)
    points: list[CurvePoint] = Field(default_factory=list)
    examples: list[ExampleUser] = Field(default_factory=list)
    item_map: ItemMap | None = None
    distances: list[DomainsApart] = Field(default_factory=list)
    data: DataFacts | None = None
    cost: Cost
    versions: dict[str, str] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict, exclude=True)
    notes: list[str] = Field(default_factory=list)

    @field_validator("metrics", mode="before")
    @classmethod
    def _all_columns(cls, metrics: pl.DataFrame) -> pl.DataFrame:
        return metric_table(metrics)

    @field_validator("config", mode="before")
    @classmethod
    def _without_none(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = _plain(config)
        return plain

    @property
    def targets(self) -> list[str]:
        """Targets in the order of their first figure."""
        return self.metrics["target"].unique(maintain_order=True).to_list()

    @property
    def setting(self) -> str:
        """Split and protocol in words: "leave-one-out split, full ranking"."""
        shown = {"full": "full ranking", "sampled": "sampled candidates"}
        return f"{self.split} split, {shown.get(self.protocol, self.protocol)}"

    def system(self, role: str) -> str | None:
        """Name of the first system in a role, None where there is none."""
        return next((s.name for s in self.systems if s.role == role), None)

    def headline(self, share: float = 1.0) -> pl.DataFrame:
        """Figures of the headline protocol without controls, pooled over seeds; on all data, or
        with a share of the target's.

        Rows without a seed win over single seeds; otherwise values and bounds are averaged, which
        leaves the interval of users and does not narrow it by the number of seeds.
        """
        keys = ["system", "sources", "target", "slice", "metric", "against"]
        seedless = pl.col("seed").is_null()
        return (
            self.metrics.filter(
                pl.col("protocol") == self.protocol,
                pl.col("control") == "none",
                pl.col("share") == share,
            )
            .filter(seedless | ~seedless.any().over(keys))
            .group_by(keys, maintain_order=True)
            .agg(
                pl.col("value", "ci_low", "ci_high", "relative", "rel_low", "rel_high").mean(),
                pl.col("n", "p", "p_holm").max(),
            )
        )


def metric_table(rows: pl.DataFrame | Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of figures as a table in `RECORD_SCHEMA`; what is absent gets its default.

    Raises:
        ValueError: an unknown column, or a column that must be there is not.
    """
    if isinstance(rows, pl.DataFrame):
        table = rows
    else:
        table = pl.DataFrame(list(rows), infer_schema_length=None, strict=False)
    if unknown := set(table.columns) - set(RECORD_SCHEMA):
        raise ValueError(f"unknown metrics columns {sorted(unknown)}; known: {list(RECORD_SCHEMA)}")
    if absent := {"system", "target", "protocol", "metric", "value", "n"} - set(table.columns):
        raise ValueError(f"metrics lack the columns {sorted(absent)}")
    filled = table.with_columns(
        pl.lit(None).alias(name) for name in RECORD_SCHEMA if name not in table.columns
    )
    typed = filled.select(RECORD_SCHEMA.names()).cast(RECORD_SCHEMA).fill_nan(None)
    return typed.with_columns(pl.col(name).fill_null(value) for name, value in _DEFAULTS.items())


def _plain(value: Any) -> Any:
    """TOML can say neither None nor a path."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value if v is not None]
    return str(value) if isinstance(value, Path) else value
