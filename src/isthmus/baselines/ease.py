"""EASE: the best linear map from a history to itself that may not use an item to predict it.

Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.

Closed form on the items that occur in training: one Gram matrix of n × n single-precision numbers
is inverted in place, 4 n² bytes (1.6 GB at 20,000 items) and about n³ multiplications.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import lapack

from isthmus.baselines.history import flat_items, history_matrix
from isthmus.data.dataset import Dataset, Events
from isthmus.errors import TrainingError
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State

COLUMNS = 1024


class EASEConfig(BaseModel):
    """How much the map is held back, and what it reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    merged: bool = Field(
        False, description="One map over all domains; off: one for each, on its own history."
    )
    l2: float = Field(200.0, gt=0, description="Added to the diagonal of the Gram matrix.")
    recency: float = Field(0.8, gt=0, le=1, description="Factor per event of age in a request.")
    max_items: int = Field(20_000, ge=1, description="Most items of one map.")


class EASE:
    """History times weights, one dense block of weights for each map."""

    def __init__(
        self,
        weights: list[Float],
        items: list[NDArray[np.int64]],
        item_offsets: NDArray[np.int64],
        config: EASEConfig,
    ) -> None:
        """Args are what `state` saves.

        weights: float32 [n, n] of each map, from history item to candidate.
        items: int64 [n] of each map, its items in the flat numbering, ascending.
        item_offsets: int64 [n_domains + 1].
        config: as fitted.
        """
        self.name = "ease-merged" if config.merged else "ease"
        self.config = config
        self._weights, self._items, self._item_offsets = weights, items, item_offsets

    @classmethod
    def fit(cls, dataset: Dataset, events: Events, config: EASEConfig | None = None) -> Self:
        """Solve for `events`, what may be learned from.

        Raises:
            TrainingError: a map would have more than `max_items` items.
        """
        config = config or EASEConfig()
        names = list(dataset.names)
        parts = [events] if config.merged else [events.only(d) for d in range(len(names))]
        weights, items = [], []
        for number, part in enumerate(parts):
            taken, column = np.unique(dataset.flat(part.domain, part.item), return_inverse=True)
            if len(taken) > config.max_items:
                raise TrainingError(
                    f"EASE inverts a dense matrix and has {len(taken):,} items to put in it, "
                    f"more than max_items = {config.max_items:,}",
                    where=", ".join(names) if config.merged else names[number],
                    hint=f"Raise max_items if {4e-9 * len(taken) ** 2:.1f} GB and the time are "
                    "there, drop rare items (cleaning.min_item_events), or leave EASE out",
                )
            shape = (part.n_users, len(taken))
            seen = sp.coo_array((np.ones(len(part), np.float32), (part.user, column)), shape=shape)
            weights.append(_solve(seen.tocsr(), config.l2))
            items.append(taken)
        return cls(weights, items, dataset.item_offsets, config)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; items without a training event score 0."""
        number = 0 if self.config.merged else domain
        taken, weights = self._items[number], self._weights[number]
        flat = flat_items(requests, self._item_offsets)
        column = np.searchsorted(taken, flat)
        found = taken[np.minimum(column, len(taken) - 1)] == flat if len(taken) else flat < -1
        history = history_matrix(
            requests,
            np.where(found, column, -1),
            len(taken),
            decay=self.config.recency,
            distinct=True,
        )
        start, stop = self._item_offsets[domain], self._item_offsets[domain + 1]
        first, end = np.searchsorted(taken, [start, stop])
        total = np.zeros((len(requests), stop - start), np.float32)
        total[:, taken[first:end] - start] = history @ weights[:, first:end]
        return Scores(pick(total, items))

    def state(self) -> State:
        """The weights and items of each map, and the configuration."""
        arrays: dict[str, NDArray[np.generic]] = {"item_offsets": self._item_offsets}
        for number, (weights, items) in enumerate(zip(self._weights, self._items, strict=True)):
            arrays |= {f"weights.{number}": weights, f"items.{number}": items}
        return State(arrays, {"config": self.config.model_dump(mode="json")})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        arrays = state.arrays
        maps = range(sum(name.startswith("weights.") for name in arrays))
        return cls(
            [arrays[f"weights.{number}"].astype(np.float32, copy=False) for number in maps],
            [arrays[f"items.{number}"].astype(np.int64) for number in maps],
            arrays["item_offsets"].astype(np.int64),
            EASEConfig.model_validate(state.meta["config"]),
        )


def _solve(seen: sp.csr_array, l2: float) -> Float:
    """B = I − P / diag(P) by column with P = (XᵀX + l2 I)⁻¹, for `seen` X [n_users, n].

    Returns:
        float32 [n, n]; zero on the diagonal.
    """
    seen.data[:] = 1.0
    n = seen.shape[1]
    if not n:
        return np.zeros((0, 0), np.float32)
    gram = (seen.T @ seen).toarray(order="F")
    gram[np.arange(n), np.arange(n)] += np.float32(l2)
    factor, _ = lapack.spotrf(gram, lower=1, overwrite_a=1, clean=0)
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    for start in range(0, n, COLUMNS):
        stop = min(start + COLUMNS, n)
        block = np.tril(inverse[start:stop, start:stop])
        inverse[start:stop, start:stop] = block + np.tril(block, -1).T
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
    weights: Float = inverse.T
    diagonal = weights.diagonal().copy()
    for start in range(0, n, COLUMNS):
        weights[start : start + COLUMNS] /= -diagonal
    weights[np.arange(n), np.arange(n)] = 0.0
    return weights
