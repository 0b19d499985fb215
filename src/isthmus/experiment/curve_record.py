"""Measured points → rows of the record, one `CurvePoint` each, and what is worth saying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.data.thinning import thin
from isthmus.evaluation.slices import ALL
from isthmus.experiment.curve import NONE, CurvePlan, Point
from isthmus.experiment.figures import Pooled, change, figures, lost
from isthmus.experiment.schema import CurvePoint
from isthmus.experiment.seed_run import GATED, TARGET_ONLY, TRANSFERRED, Measured

METRIC = "ndcg@10"


@dataclass
class Drawn:
    """A curve as a record keeps it.

    Attributes:
        frames: rows of all points but the ordinary comparison's.
        points: of the comparison as well, by target, then share, then control.
        notes: limits worth saying, one sentence each.
    """

    frames: list[pl.DataFrame] = field(default_factory=list)
    points: list[CurvePoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def curve_record(
    plan: CurvePlan | None,
    dataset: Dataset,
    split: Split,
    seeds: Sequence[int],
    measured: Mapping[Point, Sequence[Measured]],
    ordinary: Sequence[Measured],
    whole: tuple[pl.DataFrame, Pooled],
) -> Drawn:
    """Figures of every point; without a plan there are none.

    Args:
        plan: what was asked for.
        dataset: the whole.
        split: of it.
        seeds: training seeds.
        measured: by point, one entry per seed.
        ordinary: the comparison on all data, one entry per seed.
        whole: its rows and pooled evaluations.
    """
    drawn = Drawn()
    if plan is None:
        return drawn
    targets = list(dict.fromkeys(point.target for point in measured))
    found: dict[Point, Sequence[Measured]] = {Point(t, 1.0): ordinary for t in targets}
    known: dict[Point, tuple[pl.DataFrame, Pooled]] = {Point(t, 1.0): whole for t in targets}
    for point, each in measured.items():
        name, found[point] = dataset.names[point.target], each
        known[point] = figures(
            dataset, [name], seeds, each, share=point.share, control=point.control
        )
        drawn.frames.append(known[point][0])
    controls = (NONE, *plan.controls)

    def place(point: Point) -> tuple[int, float, int]:
        return targets.index(point.target), point.share, controls.index(point.control)

    for point in sorted(known, key=place):
        left = thin(dataset, split, point.target, point.share, plan.by)
        if left.note is not None and left.note not in drawn.notes:
            drawn.notes.append(left.note)
        name = dataset.names[point.target]
        rows, pooled = known[point]
        true = known[replace(point, control=NONE)][1]
        drawn.points.append(
            CurvePoint(
                target=name,
                share=point.share,
                by=plan.by,
                control=point.control,
                events=left.n_events,
                seeds=list(seeds),
                transferred=change(rows, name, TRANSFERRED, METRIC),
                gated=change(rows, name, GATED, METRIC),
                lost=None if point.control == NONE else lost(true, pooled, name, METRIC),
                alone=_alone(pooled, name),
                **_cost(found[point], name),
            )
        )
    return drawn


def _alone(pooled: Pooled, target: str) -> float | None:
    evaluation = pooled.get(TARGET_ONLY, {}).get(target)
    return None if evaluation is None else evaluation.mean(METRIC, ALL)


def _cost(measured: Sequence[Measured], target: str) -> dict[str, Any]:
    """Gate weight, seconds and memory of a point, over its seeds."""
    weights = [found.gates[target]["weight"] for found in measured]
    peak = max(found.peak_rss_mb for found in measured)
    return {
        "gate_weight": sum(weights) / len(weights),
        "seconds": sum(sum(found.seconds.values()) for found in measured),
        "peak_rss_mb": peak or None,
    }
