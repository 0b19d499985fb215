"""CORAL: one domain recoloured with the covariance of another.

Source: Sun, Feng and Saenko, "Return of Frustratingly Easy Domain Adaptation", AAAI 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from isthmus.alignment.features import moments


@dataclass(frozen=True)
class Coral:
    """The affine map that gives one domain the mean and the covariance of another.

    Attributes:
        mean: float64 [d] of the domain that moves.
        matrix: float64 [d, d], symmetric square roots of both covariances, multiplied.
        centre: float64 [d] of the domain it moves to.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]
    centre: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        a: NDArray[np.float32],
        b: NDArray[np.float32],
        pairs: NDArray[np.int64] | None = None,
        *,
        shrinkage: float = 0.0,
        floor: float = 1e-6,
    ) -> Self:
        """Find the map from a [n, d] to b [m, d].

        Args:
            a: vectors of the domain that moves.
            b: vectors of the domain that stands still.
            pairs: unused; moments need none.
            shrinkage: share of the mean variance mixed into each direction of both, in [0, 1].
            floor: directions of `a` with less than this share of its largest variance are set to
                zero: nothing can be stretched out of rounding.
        """
        (mean, spread), (centre, wanted) = moments(a), moments(b)
        matrix = _power(spread, -0.5, shrinkage, floor) @ _power(wanted, 0.5, shrinkage, 0.0)
        return cls(mean, matrix, centre)

    def transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of the first domain [n, d] → float32 [n, d] among those of the second."""
        moved = (vectors - self.mean) @ self.matrix + self.centre
        return moved.astype(np.float32)


def _power(
    covariance: NDArray[np.float64], exponent: float, shrinkage: float, floor: float
) -> NDArray[np.float64]:
    """A symmetric power of a covariance, zero in directions that hold nothing."""
    variance, axes = np.linalg.eigh(covariance)
    alive = variance > floor * max(variance.max(initial=0.0), np.finfo(np.float64).tiny)
    spread = (1 - shrinkage) * variance + shrinkage * variance.mean()
    scale = np.where(alive, np.where(alive, spread, 1.0) ** exponent, 0.0)
    root: NDArray[np.float64] = (axes * scale) @ axes.T
    return root
