"""Feature alignment in closed form: whitening, fitted per domain.

Raw text vectors of a catalogue sit in a narrow cone, with mean cosine above .8. Centring them and
giving every direction the same variance makes their cosine mean something, and takes each domain
to the same first and second moments.

Source: Zhang et al., "Are ID Embeddings Necessary? Whitening Pre-trained Text Embeddings for
Effective Sequential Recommendation" (WhitenRec), ICDE 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from isthmus.training.checkpoint import State

CHUNK = 1 << 15


@dataclass(frozen=True)
class Whitening:
    """A linear map fitted on the vectors that are present.

    Attributes:
        mean: float32 [dim], taken off first.
        matrix: float32 [dim, out]; then multiplied with.
        unit: whether vectors leave with length 1.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]
    unit: bool = True

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.float32],
        present: NDArray[np.bool_] | None = None,
        *,
        dim: int = 200,
        kind: Literal["pca", "zca"] = "pca",
        shrinkage: float = 0.0,
        floor: float = 1e-5,
        unit: bool = True,
        axes: NDArray[np.float32] | None = None,
    ) -> Self:
        """Find the map from the covariance of `vectors` [n, d].

        Args:
            vectors: one row per item.
            present: bool [n], the rows with content; None: all.
            dim: directions kept, those of most variance.
            kind: `pca` gives [n, min(dim, d)], axes by variance; `zca` turns back to the original
                axes and gives [n, d], so that domains whitened apart keep one basis. Cosines
                within a domain are the same.
            shrinkage: share of the mean variance mixed into each direction, in [0, 1].
            floor: directions with less than this share of the largest variance are set to zero:
                they are rounding, or a catalogue smaller than `dim`.
            unit: scale every vector to length 1.
            axes: [d, k] orthonormal columns to whiten within, such as `shared_axes`; `zca` then
                gives [n, k] in these axes. None: the language model's own d axes.
        """
        rows = vectors if present is None else vectors[present]
        mean, covariance = moments(rows)
        basis = np.eye(len(covariance)) if axes is None else axes.astype(np.float64)
        covariance = basis.T @ covariance @ basis
        variance, found = _principal(covariance, dim)
        alive = variance > floor * max(variance.max(initial=0.0), np.finfo(np.float64).tiny)
        spread = (1 - shrinkage) * variance + shrinkage * np.trace(covariance) / len(covariance)
        matrix = found * np.where(alive, 1.0 / np.sqrt(np.where(alive, spread, 1.0)), 0.0)
        if kind == "zca":
            matrix = matrix @ found.T
        return cls(mean.astype(np.float32), (basis @ matrix).astype(np.float32), unit)

    def transform(
        self, vectors: NDArray[np.float32], present: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Map vectors [n, dim] to float32 [n, out]; rows that are not present stay zero."""
        mapped = (vectors - self.mean) @ self.matrix
        if self.unit:
            length = np.linalg.norm(mapped, axis=1, keepdims=True)
            mapped /= np.where(length > 0, length, 1.0)
        if present is not None:
            mapped[~present] = 0.0
        return mapped.astype(np.float32, copy=False)

    def state(self) -> State:
        """Arrays to save."""
        return State({"mean": self.mean, "matrix": self.matrix}, {"unit": self.unit})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same map again."""
        mean, matrix = (state.arrays[name].astype(np.float32) for name in ("mean", "matrix"))
        return cls(mean, matrix, bool(state.meta["unit"]))


@dataclass(frozen=True)
class DomainWhitening:
    """Whitening as a step of an alignment: each domain on its own, the anchor too.

    Attributes:
        whitening: of the domain it was fitted for.
    """

    moves_anchor: ClassVar[bool] = True

    whitening: Whitening

    @classmethod
    def fit(
        cls,
        a: NDArray[np.float32],
        b: NDArray[np.float32],
        pairs: NDArray[np.int64] | None = None,
        *,
        dim: int = 200,
        basis: Literal["own", "shared"] = "shared",
        shrinkage: float = 0.0,
        axes: NDArray[np.float32] | None = None,
    ) -> Self:
        """Find the map of a [n, d]; to bring b [m, d] along, fit it the other way round as well.

        Args:
            a: vectors of the domain.
            b: vectors of the other one, which have a say in shared axes.
            pairs: unused; moments need none.
            dim: directions kept.
            basis: `own`: principal axes of `a`; `shared`: axes common to both.
            shrinkage: share of the mean variance mixed into each direction.
            axes: the shared axes, where more than these two domains have a say.
        """
        if basis == "own":
            return cls(Whitening.fit(a, dim=dim, shrinkage=shrinkage))
        axes = shared_axes([a, b], dim) if axes is None else axes
        return cls(Whitening.fit(a, dim=dim, kind="zca", shrinkage=shrinkage, axes=axes))

    def transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors [n, d] → float32 [n, min(dim, d)] of length 1."""
        return self.whitening.transform(vectors)


def shared_axes(sets: Sequence[NDArray[np.float32]], dim: int) -> NDArray[np.float32]:
    """Directions in which several domains vary most, [d, min(dim, d)] orthonormal columns.

    Principal axes of the mean of the domains' covariances: a large catalogue counts no more than a
    small one, and what merely tells their centres apart is no direction of its own.

    Args:
        sets: vectors [n, d] of each domain, only rows with content; an empty one is passed over.
        dim: how many directions.
    """
    covariances = [moments(rows)[1] for rows in sets if len(rows)]
    mean = np.mean(covariances, axis=0) if covariances else np.eye(sets[0].shape[1])
    return _principal(mean, dim)[1].astype(np.float32)


def _principal(
    covariance: NDArray[np.float64], dim: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The `dim` largest variances, falling, and their axes as columns."""
    variance, axes = np.linalg.eigh(covariance)
    kept = np.argsort(-variance, kind="stable")[:dim]
    variance, axes = np.maximum(variance[kept], 0.0), axes[:, kept]
    # An axis and its opposite whiten alike; fix the sign so that row order cannot choose it.
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(len(kept))])
    return variance, axes


def moments(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [d] and covariance [d, d] of rows [n, d] in double precision, chunk by chunk."""
    n, dim = rows.shape
    mean = rows.sum(0, dtype=np.float64) / max(n, 1)
    covariance = np.zeros((dim, dim))
    for start in range(0, n, CHUNK):
        centred = rows[start : start + CHUNK].astype(np.float64) - mean
        covariance += centred.T @ centred
    return mean, covariance / max(n, 1)
