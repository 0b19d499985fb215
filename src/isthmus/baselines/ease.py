"""EASE: the best linear map from a history to itself that may not use an item to predict it.

Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.

Closed form. The Gram matrix of the items, or of the people where they are fewer, is inverted in
place: 4 n² bytes (1.6 GB at 20,000) and about n³ multiplications for a smaller side of n. Weights
next to zero are dropped, a hundredth remain; on Amazon Food–Kitchen that costs no accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import lapack

from isthmus.baselines.history import flat_items, history_matrix
from isthmus.baselines.similarities import table_of, table_state
from isthmus.data.dataset import Dataset, Events
from isthmus.errors import TrainingError
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State

ROWS = 512


class EASEConfig(BaseModel):
    """How much the map is held back, and what it reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    merged: bool = Field(
        False, description="One map over all domains; off: one for each, on its own history."
    )
    l2: float = Field(100.0, gt=0, description="Added to the diagonal of the Gram matrix.")
    recency: float = Field(0.7, gt=0, le=1, description="Factor per event of age in a request.")
    prune: float = Field(3e-3, ge=0, description="Weights smaller than this are dropped.")
    max_side: int = Field(
        20_000, ge=1, description="Most items or people of one map, whichever are fewer."
    )


class EASE:
    """History times weights; the latest events weigh most."""

    def __init__(
        self, weights: sp.csr_array, item_offsets: NDArray[np.int64], config: EASEConfig
    ) -> None:
        """Args: weights float32 [n_items, n_items], history to candidate, in flat numbering."""
        self.name = "ease-merged" if config.merged else "ease"
        self.config = config
        self._weights, self._item_offsets = weights, item_offsets
        self._towards = [weights[:, start:stop] for start, stop in pairwise(item_offsets)]

    @classmethod
    def fit(cls, dataset: Dataset, events: Events, config: EASEConfig | None = None) -> Self:
        """Solve for `events`, what may be learned from.

        Raises:
            TrainingError: a map would have more than `max_side` items and as many people.
        """
        config = config or EASEConfig()
        size = dataset.n_items
        weights = sp.csr_array((size, size), dtype=np.float32)
        for names, domains in _maps(dataset, merged=config.merged):
            part = events.only(*domains)
            people, row = np.unique(part.user, return_inverse=True)
            flat, column = np.unique(dataset.flat(part.domain, part.item), return_inverse=True)
            shape = (len(people), len(flat))
            if min(shape) > config.max_side:
                raise TrainingError(
                    f"EASE inverts a dense matrix, and {shape[0]:,} people and {shape[1]:,} items "
                    f"are both more than max_side = {config.max_side:,}",
                    where=names,
                    hint=f"Raise max_side if {4e-9 * min(shape) ** 2:.1f} GB of memory are there, "
                    "drop rare items (cleaning.min_item_events), or leave EASE out",
                )
            seen = sp.coo_array((np.ones(len(part), np.float32), (row, column)), shape).tocsr()
            seen.data[:] = 1.0
            block = _solve(seen, config.l2, config.prune).tocoo()
            places = (flat[block.row], flat[block.col])
            weights += sp.coo_array((block.data, places), (size, size)).tocsr()
        return cls(weights, dataset.item_offsets, config)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; items without a training event score 0."""
        asked = requests if self.config.merged else requests.only(domain)
        flat = flat_items(asked, self._item_offsets)
        size, recency = int(self._item_offsets[-1]), self.config.recency
        history = history_matrix(asked, flat, size, decay=recency, distinct=True)
        return Scores(pick((history @ self._towards[domain]).toarray(), items))

    def state(self) -> State:
        """The weights as arrays of a CSR, and the configuration."""
        return table_state(self._weights, self._item_offsets, self.config)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        return cls(*table_of(state), EASEConfig.model_validate(state.meta["config"]))


def _maps(dataset: Dataset, *, merged: bool) -> list[tuple[str, list[int]]]:
    """Names and domains of each map to solve."""
    if merged:
        return [(", ".join(dataset.names), list(range(len(dataset.domains))))]
    return [(name, [domain]) for domain, name in enumerate(dataset.names)]


def _solve(seen: sp.csr_array, l2: float, prune: float) -> sp.csr_array:
    """B = I − P / diag(P) by column with P = (XᵀX + l2 I)⁻¹, for `seen` X [n_people, n].

    With fewer people than items, P = (I − Xᵀ (XXᵀ + l2 I)⁻¹ X) / l2 is the same and cheaper.

    Returns:
        float32 [n, n]; zero on the diagonal and below `prune`.
    """
    n_people, n = seen.shape
    if not n:
        return sp.csr_array((n, n), dtype=np.float32)
    rows: Callable[[int, int], Float]
    if n <= n_people:
        inverse = _inverse((seen.T @ seen).toarray(order="F"), l2)

        def rows(start: int, stop: int) -> Float:
            return inverse[start:stop].copy()
    else:
        inverse, by_item = _inverse((seen @ seen.T).toarray(order="F"), l2), seen.T.tocsr()

        def rows(start: int, stop: int) -> Float:
            block: Float = (by_item[start:stop] @ inverse) @ seen
            block /= -l2
            block[np.arange(stop - start), np.arange(start, stop)] += np.float32(1 / l2)
            return block

    blocks = []
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        # P is symmetric, so its rows are the columns that make the columns of B.
        block, own = rows(start, stop), (np.arange(stop - start), np.arange(start, stop))
        block /= -block[own][:, None]
        block[own] = 0.0
        block[np.abs(block) < prune] = 0.0
        blocks.append(sp.csr_array(block))
    return sp.vstack(blocks).T.tocsr()


def _inverse(gram: Float, l2: float) -> Float:
    """(gram + l2 I)⁻¹ in place of a symmetric matrix in column order, float32 [n, n]."""
    n = len(gram)
    gram[np.arange(n), np.arange(n)] += np.float32(l2)
    factor, _ = lapack.spotrf(gram, lower=1, overwrite_a=1, clean=0)
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        block = np.tril(inverse[start:stop, start:stop])
        inverse[start:stop, start:stop] = block + np.tril(block, -1).T
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
    symmetric: Float = inverse.T
    return symmetric
