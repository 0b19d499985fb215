"""What a `RunRecord` says, in the shape in which page, card, picture and terminal show it.

Nothing is measured here: figures are looked up, divided and ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from isthmus.experiment.schema import Estimate, GateSlice, RunRecord, System
from isthmus.experiment.verdict import percent, slice_in_words

COLUMNS = ("ndcg@10", "hit_rate@10", "hit_rate@100", "mrr", "coverage@10")
MAX_COLUMNS = 5
_HITS = ("hit_rate", "recall")
_ACCURACY = ("ndcg", "hit_rate", "mrr", "recall")


@dataclass(frozen=True)
class Cell:
    """One figure of one system; `heat` is 0 for the worst of the column and 1 for the best."""

    value: float
    low: float | None
    high: float | None
    best: bool
    heat: float


@dataclass(frozen=True)
class Row:
    """One system: its figures in column order, and the lead of what is served over it."""

    system: System
    cells: list[Cell | None]
    lead: Estimate | None


@dataclass(frozen=True)
class Standing:
    """All systems on one target, best first."""

    target: str
    columns: list[str]
    rows: list[Row]
    n: int


@dataclass(frozen=True)
class Uplift:
    """Relative gain of one system over another on one slice; `verdict` is -1, 0 or 1."""

    slice: str
    label: str
    n: int
    relative: Estimate
    verdict: int


def standing(record: RunRecord, target: str, columns: Sequence[str] | None = None) -> Standing:
    """The systems × metrics table of one target, systems sorted by the headline metric.

    Args:
        record: the run.
        target: name of the domain.
        columns: metrics to show; None: those that matter most, without those that cannot differ.
    """
    figures = record.headline().filter(
        pl.col("target") == target, pl.col("slice") == "all", pl.col("against").is_null()
    )
    present = figures["metric"].unique(maintain_order=True).to_list()
    if columns is None:
        wanted = dict.fromkeys((record.metric, *COLUMNS))
        told = [m for m in present if not _always_hit(record, m)]
        columns = [m for m in wanted if m in told][:MAX_COLUMNS] or present[:MAX_COLUMNS]
    cells = {metric: _column(figures, metric) for metric in columns}
    leads = {u.slice: u.relative for u in _leads(record, target)}
    roles = {system.name: system for system in record.systems}
    names = figures["system"].unique(maintain_order=True).to_list()
    rows = [
        Row(
            roles.get(name, System(name=name)),
            [cells[m].get(name) for m in columns],
            leads.get(name),
        )
        for name in names
    ]
    first = cells.get(record.metric) or (cells[columns[0]] if columns else {})
    rows.sort(
        key=lambda row: first[row.system.name].value if row.system.name in first else -1,
        reverse=True,
    )
    n = figures["n"].max()
    return Standing(target, list(columns), rows, n if isinstance(n, int) else 0)


def _always_hit(record: RunRecord, metric: str) -> bool:
    """Whether a metric counts hits in a list as long as the sampled candidates with the answer."""
    candidates = record.config.get("evaluation", {}).get("candidates")
    name, _, cutoff = metric.partition("@")
    return candidates is not None and name in _HITS and int(cutoff) > candidates


def all_metrics(record: RunRecord, target: str) -> list[str]:
    """Every metric measured on a target, in the order of the record."""
    figures = record.headline().filter(
        pl.col("target") == target, pl.col("slice") == "all", pl.col("against").is_null()
    )
    return figures["metric"].unique(maintain_order=True).to_list()


@dataclass(frozen=True)
class Harm:
    """Where transfer does harm, and what the gate makes of it.

    Attributes:
        target: the domain.
        share: of its data.
        ungated, gated: change over target-only on everybody.
        kept: `gated` as a share of `ungated`; None where there is no sure gain to keep.
        harmed: slices significantly below zero after Holm's correction, without the gate.
        still: the same after it.
    """

    target: str
    share: float
    ungated: Estimate
    gated: Estimate
    kept: float | None
    harmed: list[Uplift]
    still: list[Uplift]


def uplift(
    record: RunRecord, target: str, role: str = "transferred", share: float = 1.0
) -> list[Uplift]:
    """Relative gain over target-only by slice, everybody first; empty where nothing was paired.

    Where the record has no relative figure, the difference and its interval are divided by what
    target-only reaches on the slice.
    """
    system, alone = record.system(role), record.system("target-only")
    if system is None or alone is None:
        return []
    pairs = _paired(record, target, share).filter(
        pl.col("system") == system, pl.col("against") == alone
    )
    rows = [
        _uplift(row, row["slice"], slice_in_words(row["slice"], target))
        for row in pairs.iter_rows(named=True)
    ]
    return sorted(rows, key=lambda row: row.slice != "all")


def harmed(
    record: RunRecord, target: str, role: str = "transferred", share: float = 1.0
) -> list[Uplift]:
    """Slices significantly below zero, after Holm correction where the record has it."""
    return [row for row in uplift(record, target, role, share) if row.verdict < 0]


def harm_table(record: RunRecord) -> list[Harm]:
    """Harm and what the gate kept of the gain, by target, then share of its data."""
    shares = sorted(record.metrics["share"].unique().to_list())
    rows = []
    for target in record.targets:
        for share in shares:
            both = [uplift(record, target, role, share) for role in ("transferred", "gated")]
            of_all = [next((row for row in some if row.slice == "all"), None) for some in both]
            ungated, gated = of_all
            if ungated is None or gated is None:
                continue
            sure = ungated.relative.low > 0
            rows.append(
                Harm(
                    target,
                    share,
                    ungated.relative,
                    gated.relative,
                    gated.relative.value / ungated.relative.value if sure else None,
                    *([row for row in some if row.verdict < 0] for some in both),
                )
            )
    return rows


def _leads(record: RunRecord, target: str) -> list[Uplift]:
    """What is served against every other system, on everybody; the slice field names the other."""
    served = record.system("gated") or record.system("transferred")
    if served is None:
        return []
    pairs = _paired(record, target).filter(pl.col("system") == served, pl.col("slice") == "all")
    return [_uplift(row, row["against"], row["against"]) for row in pairs.iter_rows(named=True)]


def _paired(record: RunRecord, target: str, share: float = 1.0) -> pl.DataFrame:
    """Paired rows of the headline metric that have a figure to be relative to."""
    figures = record.headline(share).filter(
        pl.col("target") == target, pl.col("metric") == record.metric
    )
    base = figures.filter(pl.col("against").is_null()).select(
        pl.col("system").alias("against"), "slice", pl.col("value").alias("base")
    )
    return (
        figures.filter(pl.col("against").is_not_null())
        .join(base, on=["against", "slice"], how="inner", maintain_order="left")
        .filter(pl.col("base") > 0)
        .with_columns(
            pl.col("relative").fill_null(pl.col("value") / pl.col("base")),
            pl.col("rel_low").fill_null(pl.col("ci_low") / pl.col("base")),
            pl.col("rel_high").fill_null(pl.col("ci_high") / pl.col("base")),
        )
        .drop_nulls(["relative", "rel_low", "rel_high"])
    )


def _uplift(row: dict[str, Any], name: str, label: str) -> Uplift:
    relative = Estimate(value=row["relative"], low=row["rel_low"], high=row["rel_high"])
    sure = row["p_holm"] is None or row["p_holm"] < 0.05
    side = 1 if relative.low > 0 else -1 if relative.high < 0 else 0
    return Uplift(
        slice=name,
        label=label,
        n=row["n"],
        relative=relative,
        verdict=side if sure else 0,
    )


def _column(figures: pl.DataFrame, metric: str) -> dict[str, Cell]:
    """System → cell. Only metrics of accuracy have a best."""
    rows = figures.filter(pl.col("metric") == metric).drop_nulls("value")
    values = rows["value"].to_list()
    lowest, highest = min(values, default=0.0), max(values, default=0.0)
    ranked = metric.partition("@")[0] in _ACCURACY and highest > lowest
    return {
        row["system"]: Cell(
            value=row["value"],
            low=row["ci_low"],
            high=row["ci_high"],
            best=ranked and row["value"] == highest,
            heat=(row["value"] - lowest) / (highest - lowest) if ranked else 0.0,
        )
        for row in rows.iter_rows(named=True)
    }


def evidence(part: GateSlice) -> str:
    """Why the gate decided as it did for a group of people: figures and number of questions."""
    questions = f"{part.n:,} question" + ("s" if part.n != 1 else "")
    if part.shrunk is None or part.measured is None:
        return f"{questions} are too few to judge them by, so they share the decision for all"
    drawn = part.shrunk
    return (
        f"{percent(drawn.value)} ({percent(drawn.low)} to {percent(drawn.high)}) on {questions}, "
        f"measured {percent(part.measured.value)} before it was drawn towards the change for all"
    )


def figure(value: float) -> str:
    """A metric's value: four decimals below one, three figures above."""
    return (
        f"{value:.4f}"
        if abs(value) < 1
        else f"{value:,.1f}"
        if abs(value) < 1e4
        else f"{value:,.0f}"
    )


def duration(seconds: float) -> str:
    """A span of time as people say it: "4.2 s", "2 min 41 s", "1 h 12 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shortened(title: str, width: int) -> str:
    """A title of at most `width` characters."""
    return title if len(title) <= width else title[: width - 1].rstrip() + "…"
