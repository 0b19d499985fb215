"""How far two domains are from each other, in four ways that do not see the same thing.

MMD: Gretton et al., "A Kernel Two-Sample Test", JMLR 2012. Proxy-A-distance: Ben-David et al.,
"Analysis of Representations for Domain Adaptation", NeurIPS 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from isthmus.alignment.features import moments
from isthmus.alignment.losses import mmd
from isthmus.alignment.sampling import content_sample

POINTS = 1500
"""Most items of a domain that MMD and the proxy-A-distance are measured on."""


@dataclass(frozen=True)
class DomainDistance:
    """Distances of two sets of vectors; every one is smaller where they are closer.

    Attributes:
        mmd: squared maximum mean discrepancy, unbiased, so that about zero can fall below it.
        proxy_a: 2 (1 - 2 error) of a linear classifier that tells the domains apart on held-out
            items: 0 where it cannot, 2 where it always can.
        coral: Frobenius norm of the difference of covariances, as a share of the larger one's.
        pairs: mean squared distance of paired items, as a share of that of all items across the
            domains: 1 where pairs are no closer than any two. None without pairs.
        between: mean cosine of an item of one domain and one of the other.
        within: mean cosine of two different items of one domain, mean of both domains.
    """

    mmd: float
    proxy_a: float
    coral: float
    pairs: float | None
    between: float
    within: float

    @classmethod
    def measure(
        cls,
        a: NDArray[np.float32],
        b: NDArray[np.float32],
        pairs: NDArray[np.int64] | None = None,
        *,
        points: int = POINTS,
    ) -> DomainDistance:
        """Measure between a [n, d] and b [m, d].

        Args:
            a: vectors of one domain, items with content only.
            b: the same of the other.
            pairs: int64 [p, 2], rows that belong together.
            points: most rows of each that MMD and the classifier look at, a choice by content.
        """
        some, others = (x[content_sample(x, points)] for x in (a, b))
        return cls(
            mmd=float(mmd(torch.from_numpy(some).double(), torch.from_numpy(others).double())),
            proxy_a=proxy_a_distance(some, others),
            coral=_covariance_distance(a, b),
            pairs=_pair_distance(a, b, pairs) if pairs is not None and len(pairs) else None,
            between=float(_unit(a).mean(0) @ _unit(b).mean(0)),
            within=(_within(_unit(a)) + _within(_unit(b))) / 2,
        )


def proxy_a_distance(a: NDArray[np.float32], b: NDArray[np.float32], seed: int = 0) -> float:
    """2 (1 - 2 error) of a logistic regression on held-out rows, between 0 and 2.

    Both domains are cut to the size of the smaller one, half of each is learnt from, and the
    penalty is chosen on a part of that half.

    Args:
        a: vectors [n, d]; fewer than 8 rows give no answer (NaN).
        b: vectors [m, d].
        seed: of the cut, which goes by content.
    """
    n = min(len(a), len(b))
    if n < 8:
        return float("nan")
    one, other = (_shuffled(x[content_sample(x, n, seed)], seed) for x in (a, b))
    centre = np.concatenate([one, other]).mean(0)
    spread = float(np.concatenate([one, other]).std()) or 1.0
    one, other = (one - centre) / spread, (other - centre) / spread
    half, part = n // 2, n // 2 * 3 // 4
    errors = {
        penalty: _error(
            _logistic(one[:part], other[:part], penalty), one[part:half], other[part:half]
        )
        for penalty in (1e-3, 1e-2, 1e-1, 1.0)
    }
    # Of equals the strongest penalty.
    penalty = min(errors, key=lambda p: (errors[p], -p))
    error = _error(_logistic(one[:half], other[:half], penalty), one[half:], other[half:])
    return max(0.0, 2 * (1 - 2 * error))


def _shuffled(rows: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Rows in random order that depends on their content alone."""
    rng = np.random.default_rng(seed)
    key = rows.astype(np.float64) @ rng.normal(size=rows.shape[1])
    order = np.argsort(key, kind="stable")
    return rows[order[rng.permutation(len(order))]].astype(np.float64)


def _logistic(
    one: NDArray[np.float64], other: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """Weights [d + 1], the intercept last, of a ridge logistic regression; `other` is positive."""
    rows = np.concatenate([one, other])
    rows = np.column_stack([rows, np.ones(len(rows))])
    sign = np.repeat([-1.0, 1.0], [len(one), len(other)])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (rows @ weights)
        slope = -(sign * expit(-margin)) @ rows / len(rows)
        held = np.append(weights[:-1], 0.0)
        return -log_expit(margin).mean() + penalty / 2 * held @ held, slope + penalty * held

    found = minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B")
    weights: NDArray[np.float64] = found.x
    return weights


def _error(
    weights: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]
) -> float:
    wrong = (one @ weights[:-1] + weights[-1] > 0).mean()
    missed = (other @ weights[:-1] + weights[-1] <= 0).mean()
    return float(wrong + missed) / 2


def _covariance_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    (_, one), (_, other) = moments(a), moments(b)
    size = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    return float(np.linalg.norm(one - other)) / size if size else 0.0


def _pair_distance(
    a: NDArray[np.float32], b: NDArray[np.float32], pairs: NDArray[np.int64]
) -> float:
    (mean, one), (centre, other) = moments(a), moments(b)
    everything = np.trace(one) + np.trace(other) + ((mean - centre) ** 2).sum()
    apart = a[pairs[:, 0]].astype(np.float64) - b[pairs[:, 1]]
    return float((apart**2).sum(1).mean() / everything) if everything else 0.0


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def _within(unit: NDArray[np.float64]) -> float:
    """Mean cosine of two different rows."""
    n = len(unit)
    if n < 2:
        return float("nan")
    total = unit.sum(0)
    return float((total @ total - (unit**2).sum()) / (n * (n - 1)))
