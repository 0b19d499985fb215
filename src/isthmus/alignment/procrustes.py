"""Orthogonal Procrustes: the rotation, reflection and shift that best lay pairs on each other.

Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika
1966; as a map between embedding spaces, Smith et al., ICLR 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from isthmus.alignment.pairs import matched_texts
from isthmus.errors import DataError

PRIORS = (1e-9, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Tried by cross-validation; the first only decides what the pairs leave open."""
FOLDS = 5


@dataclass(frozen=True)
class Procrustes:
    """A rigid map: distances and angles within the domain that moves stay as they are.

    Attributes:
        mean: float64 [d] mean of the paired vectors of the domain that moves.
        rotation: float64 [d, d] orthogonal.
        centre: float64 [d] mean of their counterparts.
    """

    needs_pairs: ClassVar[bool] = True

    mean: NDArray[np.float64]
    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        a: NDArray[np.float32],
        b: NDArray[np.float32],
        pairs: NDArray[np.int64] | None = None,
        *,
        prior: float | None = None,
    ) -> Self:
        """Find the map from a [n, d] to b [m, d].

        Args:
            a: vectors of the domain that moves.
            b: vectors of the domain that stands still.
            pairs: int64 [p, 2], rows of `a` and of `b` that should meet; None: each other's
                nearest, see `matched_texts`.
            prior: how much not turning at all counts beside the pairs, in units of their mean
                pull on a direction. A few hundred noisy pairs do not tell a rotation of hundreds
                of directions, and where both domains share their axes, leaving them alone is a
                good guess. None: what brings pairs that were left out closest, of `PRIORS`.

        Raises:
            DataError: there is no pair.
        """
        pairs = matched_texts(a, b) if pairs is None else pairs
        if not len(pairs):
            raise DataError("no pair joins the two domains", hint="Give pairs, or another map")
        one, other = (x[pairs[:, i]].astype(np.float64) for i, x in enumerate((a, b)))
        return cls(*_rigid(one, other, _chosen_prior(one, other) if prior is None else prior))

    def transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of the first domain [n, d] → float32 [n, d] among those of the second."""
        moved = (vectors - self.mean) @ self.rotation + self.centre
        return moved.astype(np.float32)


def _rigid(
    one: NDArray[np.float64], other: NDArray[np.float64], prior: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, rotation and centre that lay the rows of one on those of the other."""
    mean, centre = one.mean(0), other.mean(0)
    product = (one - mean).T @ (other - centre)
    pull = max(float(np.linalg.norm(product)), np.finfo(np.float64).tiny) / len(product) ** 0.5
    left, _, right = np.linalg.svd(product + prior * pull * np.eye(len(product)))
    return mean, left @ right, centre


def _chosen_prior(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The prior under which left-out pairs come closest; the strongest where there is one pair."""
    if len(one) < 2:
        return PRIORS[-1]
    key = np.concatenate([one, other], 1)
    key = key @ np.random.default_rng(0).normal(size=key.shape[1])
    fold = np.empty(len(one), np.int64)
    # By content, so that the order of pairs does not choose.
    fold[np.argsort(key, kind="stable")] = np.arange(len(one)) % FOLDS
    errors = dict.fromkeys(PRIORS, 0.0)
    for k in range(min(FOLDS, len(one))):
        kept, left_out = fold != k, fold == k
        for prior in PRIORS:
            mean, rotation, centre = _rigid(one[kept], other[kept], prior)
            moved = (one[left_out] - mean) @ rotation + centre
            errors[prior] += float(((moved - other[left_out]) ** 2).sum())
    return min(PRIORS, key=lambda prior: errors[prior])
