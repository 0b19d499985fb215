"""What one system has over another, slice by slice, and where it does harm.

Both are read on the same questions and the same resamples of users. Per metric, the slices are one
family: their p-values carry Holm's correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from isthmus.evaluation.result import (
    RECORD_SCHEMA,
    Evaluation,
    as_records,
    check_same_questions,
)
from isthmus.evaluation.significance import contrast, holm, resampled_means

LEVEL = 0.05
"""Below it a difference is significant."""


def compare(
    a: Evaluation,
    b: Evaluation,
    *,
    system: str | None = None,
    against: str | None = None,
    sources: Sequence[str] = (),
    share: float = 1.0,
    seed: int | None = None,
    control: str = "none",
) -> pl.DataFrame:
    """Differences A − B, one row per slice and metric in `RECORD_SCHEMA`.

    `value` is the difference of the means with its interval, `relative` the uplift A / B − 1 with
    its own, `p` two-sided and `p_holm` corrected over the slices of one metric. Users are drawn as
    often as for A's own intervals, and no less often than it takes to find any slice significant.

    Args:
        a: the system in question, one seed or pooled.
        b: what it is held against.
        system: a name for A; None: the scorer's own.
        against: a name for B; None: the scorer's own.
        sources: domains that A learned from beside the target.
        share: part of the target's training events that both learned from.
        seed: training seed; None for pooled seeds.
        control: `none`, or what was shuffled on purpose.

    Raises:
        DataError: the two were not asked the same questions.
    """
    check_same_questions(a, b)
    columns = np.concatenate([a.columns(), b.columns()], axis=1)
    # With fewer, no p-value could be small enough for Holm's correction to leave it significant.
    least = math.ceil(2 * len(a.slices) / LEVEL)
    means, draws = resampled_means(
        columns, a.user, a.masks(), n_resamples=max(a.n_resamples, least), seed=a.seed
    )
    width = len(a.values)
    rows = []
    for m, metric in enumerate(a.values):
        pair = [m, width + m]
        found = [contrast(means[s, pair], draws[:, s, pair]) for s in range(len(a.slices))]
        adjusted = holm(np.array([result.p for result in found]))
        rows += [
            (name, metric, int(mask.sum()), *result, float(p_holm))
            for (name, mask), result, p_holm in zip(a.slices.items(), found, adjusted, strict=True)
        ]
    measured = ["slice", "metric", "n", "value", "ci_low", "ci_high"]
    measured += ["relative", "rel_low", "rel_high", "p", "p_holm"]
    return as_records(
        pl.DataFrame(rows, {c: RECORD_SCHEMA[c] for c in measured}, orient="row"),
        system=system or a.system,
        sources="+".join(sources),
        target=a.target,
        protocol=a.protocol,
        share=share,
        seed=seed,
        control=control,
        against=against or b.system,
    )


def harm(
    differences: pl.DataFrame, *, metric: str = "ndcg@10", level: float = LEVEL
) -> pl.DataFrame:
    """The rows of `compare` where A is significantly below B after Holm, worst first."""
    worse = (pl.col("value") < 0) & (pl.col("p_holm") < level) & (pl.col("metric") == metric)
    return differences.filter(worse).sort("value")
