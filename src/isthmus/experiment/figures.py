"""Evaluations of several seeds → rows of a record: each seed, pooled, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from isthmus.data.dataset import Dataset
from isthmus.evaluation.compare import compare as differences
from isthmus.evaluation.result import Evaluation, check_same_questions, pool
from isthmus.evaluation.significance import percentiles, resampled_means
from isthmus.evaluation.slices import ALL
from isthmus.experiment.baselines import chosen
from isthmus.experiment.schema import Estimate
from isthmus.experiment.seed_run import (
    GATED,
    NEURAL,
    NEURAL_ALONE,
    TARGET_ONLY,
    TRANSFERRED,
    Measured,
)

ABOUT = {
    GATED: ("gated", "Both sides mixed by the gate: what is served."),
    TRANSFERRED: ("transferred", "Learnt from all domains, blended."),
    TARGET_ONLY: ("target-only", "The same architecture, blend and budget, target alone."),
    NEURAL: ("baseline", "The transferred side's neural part by itself."),
    NEURAL_ALONE: ("baseline", "The target-only side's neural part by itself."),
}

Pooled = dict[str, dict[str, Evaluation]]
"""Evaluations by system, then target, each the mean over seeds."""


def figures(
    dataset: Dataset,
    targets: Sequence[str],
    seeds: Sequence[int],
    measured: Sequence[Measured],
    *,
    share: float = 1.0,
    control: str = "none",
) -> tuple[pl.DataFrame, Pooled]:
    """Rows of each seed, pooled over seeds and paired; and the pooled evaluations.

    Args:
        dataset: names the domains.
        targets: which were asked about.
        seeds: of `measured`, in its order.
        measured: one for each seed.
        share: part of the target's behaviour that was there.
        control: what was destroyed on purpose.
    """
    frames: list[pl.DataFrame] = []
    pooled: Pooled = {}
    for target in targets:
        sources = [name for name in dataset.names if name != target]
        for system in measured[0].evaluations:
            each = [
                (seed, found.evaluations[system][target])
                for seed, found in zip(seeds, measured, strict=True)
                if target in found.evaluations.get(system, {})
            ]
            if not each:
                continue
            used = sources if _reads_sources(system) else []
            pooled.setdefault(system, {})[target] = pool([evaluation for _, evaluation in each])
            rows = [(None, pooled[system][target]), *(each if len(seeds) > 1 else [])]
            frames += [
                evaluation.records(
                    system=system, sources=used, share=share, seed=seed, control=control
                )
                for seed, evaluation in rows
            ]
        frames += [
            differences(
                pooled[ours][target],
                theirs[target],
                system=ours,
                against=name,
                sources=sources,
                share=share,
                control=control,
            )
            for ours in ((GATED, TRANSFERRED) if sources else (TARGET_ONLY,))
            for name, theirs in pooled.items()
            if target in theirs and name not in (ours, GATED, TRANSFERRED, NEURAL, NEURAL_ALONE)
        ]
    return pl.concat(frames), pooled


def change(rows: pl.DataFrame, target: str, system: str, metric: str) -> Estimate | None:
    """Relative change of a system against target-only on everybody, None where there is none."""
    found = rows.filter(
        pl.col("target") == target,
        pl.col("system") == system,
        pl.col("against") == TARGET_ONLY,
        pl.col("slice") == ALL,
        pl.col("metric") == metric,
    ).drop_nulls(["relative", "rel_low", "rel_high"])
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    return Estimate(value=row["relative"], low=row["rel_low"], high=row["rel_high"])


def lost(true: Pooled, altered: Pooled, target: str, metric: str) -> Estimate | None:
    """What a control takes off the relative change of the transferred side, with its interval.

    All four means are read from the same resamples of users, so what they share cancels.
    """
    four = [
        pooled[system].get(target)
        for pooled in (true, altered)
        for system in (TRANSFERRED, TARGET_ONLY)
        if system in pooled
    ]
    some = [evaluation for evaluation in four if evaluation is not None]
    if len(some) < 4:
        return None
    first = some[0]
    for other in some[1:]:
        check_same_questions(first, other)
    asked = first.slices[ALL]
    means, draws = resampled_means(
        np.column_stack([evaluation.values[metric][asked] for evaluation in some]),
        first.user[asked],
        n_resamples=first.n_resamples,
        seed=first.seed,
    )
    if not (means[0, 1] and means[0, 3]):
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        of_draws = draws[:, 0, 0] / draws[:, 0, 1] - draws[:, 0, 2] / draws[:, 0, 3]
    of_draws[~np.isfinite(of_draws)] = np.nan
    low, high = percentiles(of_draws)
    return Estimate(
        value=float(means[0, 0] / means[0, 1] - means[0, 2] / means[0, 3]), low=low, high=high
    )


def _reads_sources(system: str) -> bool:
    if system in ABOUT:
        return system in (GATED, TRANSFERRED, NEURAL)
    return chosen([system])[system].merged
