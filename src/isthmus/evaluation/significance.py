"""How sure a figure is: paired bootstrap over users, and Holm's correction.

A person's questions hang together, so whole users are drawn, with replacement, and all their
questions come along (cluster bootstrap: Field and Welsh, JRSS B 2007). Values are summed per user
first; a resample is then one row of a matrix of counts, and all metrics and slices share it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_BLOCK = 4_000_000


class Interval(NamedTuple):
    """A mean and its percentile interval."""

    value: float
    low: float
    high: float


class Paired(NamedTuple):
    """What A has over B on the same questions.

    Attributes:
        difference: mean of A minus mean of B.
        ci_low: lower end of the percentile interval of the difference.
        ci_high: upper end of it.
        relative: mean of A over mean of B, minus 1; NaN where B is 0.
        rel_low: lower end of the percentile interval of the relative uplift.
        rel_high: upper end of it.
        p: two-sided; not below 2 / (resamples + 1).
    """

    difference: float
    ci_low: float
    ci_high: float
    relative: float
    rel_low: float
    rel_high: float
    p: float


def resampled_means(
    values: Values,
    users: NDArray[np.int64],
    masks: NDArray[np.bool_] | None = None,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[Values, Values]:
    """Means of several columns within several slices, as measured and in each resample of users.

    Args:
        values: float64 [n, m], one column per metric or system.
        users: int64 [n], whose question each row is.
        masks: bool [n, s], the slices; None: one slice of everything.
        n_resamples: how often the users are drawn.
        seed: of the draws.

    Returns:
        Means [s, m], and means in each resample [n_resamples, s, m]; NaN for an empty slice.
    """
    if masks is None:
        masks = np.ones((len(values), 1), bool)
    order = np.argsort(users, kind="stable")
    starts = np.flatnonzero(np.diff(users[order], prepend=-2))
    by_slice = (
        np.column_stack([values, np.ones(len(values))])[order] * masks[order, s, None]
        for s in range(masks.shape[1])
    )
    totals = np.stack([np.add.reduceat(rows, starts, axis=0) for rows in by_slice], axis=1)
    n_users, n_slices, width = totals.shape
    flat = totals.reshape(n_users, -1)

    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // n_users)
    sums = []
    for first in range(0, n_resamples, step):
        rows = min(step, n_resamples - first)
        drawn = rng.integers(n_users, size=(rows, n_users)) + np.arange(rows)[:, None] * n_users
        times = np.bincount(drawn.ravel(), minlength=rows * n_users).reshape(rows, n_users)
        sums.append(times.astype(np.float64) @ flat)
    draws = np.concatenate(sums).reshape(n_resamples, n_slices, width)
    whole = flat.sum(axis=0).reshape(n_slices, width)
    with np.errstate(invalid="ignore"):
        return whole[:, :-1] / whole[:, -1:], draws[..., :-1] / draws[..., -1:]


def mean_ci(
    values: Values,
    users: NDArray[np.int64],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Mean of `values` ([n], or [seeds, n] averaged over seeds first) with its interval."""
    means, draws = resampled_means(
        _per_question(values)[:, None], users, n_resamples=n_resamples, seed=seed
    )
    low, high = percentiles(draws[:, 0, 0], level)
    return Interval(float(means[0, 0]), float(low), float(high))


def paired(
    values_a: Values,
    values_b: Values,
    users: NDArray[np.int64],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Paired:
    """What A has over B on the same questions; each [n], or [seeds, n] averaged over seeds first.

    Both are read from the same resamples, so what they share cancels.
    """
    columns = np.column_stack([_per_question(values_a), _per_question(values_b)])
    means, draws = resampled_means(columns, users, n_resamples=n_resamples, seed=seed)
    return contrast(means[0], draws[:, 0], level=level)


def contrast(means: Values, draws: Values, *, level: float = 0.95) -> Paired:
    """Compare A and B from their means [2] and their means in each resample [resamples, 2]."""
    difference = draws[:, 0] - draws[:, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        uplift = np.where(draws[:, 1] != 0, draws[:, 0] / draws[:, 1] - 1, np.nan)
        relative = means[0] / means[1] - 1 if means[1] != 0 else np.nan
    return Paired(
        float(means[0] - means[1]),
        *percentiles(difference, level),
        float(relative),
        *percentiles(uplift, level),
        _two_sided(difference),
    )


def holm(ps: Values) -> Values:
    """Holm's step-down adjustment of a family of p-values [n] (Scand. J. Statistics, 1979)."""
    ps = np.asarray(ps, np.float64)
    order = np.argsort(ps, kind="stable")
    stepped = np.maximum.accumulate(ps[order] * np.arange(len(ps), 0, -1))
    adjusted = np.empty_like(ps)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def percentiles(draws: Values, level: float = 0.95) -> tuple[float, float]:
    """Both ends of the central `level` of draws [n]; resamples without a value do not count."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _two_sided(difference: Values) -> float:
    """Twice the smaller share of resamples on either side of zero, one added to each count."""
    known = difference[~np.isnan(difference)]
    fewer = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    return min(1.0, 2 * (fewer + 1) / (len(known) + 1))


def _per_question(values: Values) -> Values:
    return values if values.ndim == 1 else np.asarray(values.mean(axis=0))
