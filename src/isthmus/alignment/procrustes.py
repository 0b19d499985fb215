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
    ) -> Self:
        """Find the map from a [n, d] to b [m, d].

        Args:
            a: vectors of the domain that moves.
            b: vectors of the domain that stands still.
            pairs: int64 [p, 2], rows of `a` and of `b` that should meet; None: each other's
                nearest, see `matched_texts`. With fewer pairs than directions, those that no pair
                speaks of are turned as little as possible.

        Raises:
            DataError: there is no pair.
        """
        pairs = matched_texts(a, b) if pairs is None else pairs
        if not len(pairs):
            raise DataError("no pair joins the two domains", hint="Give pairs, or another map")
        one, other = (x[pairs[:, i]].astype(np.float64) for i, x in enumerate((a, b)))
        mean, centre = one.mean(0), other.mean(0)
        product = (one - mean).T @ (other - centre)
        # What the pairs leave open is decided by the identity.
        size = max(float(np.linalg.norm(product)), np.finfo(np.float64).tiny)
        left, _, right = np.linalg.svd(product + 1e-9 * size * np.eye(len(product)))
        return cls(mean, left @ right, centre)

    def transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of the first domain [n, d] → float32 [n, d] among those of the second."""
        moved = (vectors - self.mean) @ self.rotation + self.centre
        return moved.astype(np.float32)
