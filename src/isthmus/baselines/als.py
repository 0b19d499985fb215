"""ALS: matrix factorisation for implicit feedback, solved exactly side by side.

Source: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.
Solved by conjugate gradients, as in Takács, Pilászy, Tikk, RecSys 2011. Only the item side is
kept: whoever asks is folded in from their history, so people new to the model are no special case.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from isthmus.baselines.history import flat_items, history_matrix
from isthmus.data.dataset import Dataset, Events
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State

Double = NDArray[np.float64]
ENTRIES_AT_ONCE = 1 << 20
# Each sweep goes on from the last one, so a few steps are as good as the exact solution.
STEPS = 4
# Residual that is left when exact, as a share of the right-hand side.
TOLERANCE = 1e-6


class FactorConfig(BaseModel):
    """Size and strength of a factorisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(128, ge=1, description="Factors of an item and of a person.")
    l2: float = Field(100.0, gt=0, description="Penalty on every factor.")
    alpha: float = Field(50.0, gt=0, description="Confidence in what was taken: 1 + alpha.")
    sweeps: int = Field(10, ge=1, description="Times that both sides are solved.")
    recency: float = Field(
        0.6, gt=0, le=1, description="Factor on alpha per event of age in a request."
    )
    seed: int = Field(0, description="Of the starting factors.")


class ALSConfig(FactorConfig):
    """The factorisation, and of what."""

    merged: bool = Field(False, description="One factorisation of all domains; off: one for each.")


class ALS:
    """Scores are inner products of item factors and the factors of who asks."""

    def __init__(self, factors: Float, item_offsets: NDArray[np.int64], config: ALSConfig) -> None:
        """Args: factors float32 [n_items, dim] over all domains, in the flat numbering."""
        self.name = "als-merged" if config.merged else "als"
        self.config = config
        self._factors, self._item_offsets = factors, item_offsets

    @classmethod
    def fit(cls, dataset: Dataset, events: Events, config: ALSConfig | None = None) -> Self:
        """Factorise `events`, what may be learned from."""
        config = config or ALSConfig()
        offsets = dataset.item_offsets
        bounds = [0, len(offsets) - 1] if config.merged else list(range(len(offsets)))
        start = starting_people(dataset, config.dim, config.seed)
        taken = taken_matrix(dataset, events) * config.alpha
        factors = [
            _factorise(taken[:, offsets[first] : offsets[end]], start, config)
            for first, end in pairwise(bounds)
        ]
        return cls(np.concatenate(factors).astype(np.float32), offsets, config)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; items without a training event score 0."""
        people = self.people(requests, domain).astype(np.float32)
        return Scores(pick(people @ self.items(domain).T, items))

    def items(self, domain: int) -> Float:
        """Factors of a domain's items, float32 [n_items, dim]."""
        return self._factors[self._item_offsets[domain] : self._item_offsets[domain + 1]]

    def people(self, requests: Requests, domain: int) -> Double:
        """Factors of who asks in the factorisation that holds `domain`, float64 [batch, dim].

        Zero for those with nothing in their history that it knows.
        """
        known = self._factors
        flat = flat_items(requests, self._item_offsets)
        if not self.config.merged:
            start, stop = self._item_offsets[domain], self._item_offsets[domain + 1]
            known = self.items(domain)
            flat = np.where((flat >= start) & (flat < stop), flat - start, -1)
        history = history_matrix(
            requests, flat, len(known), decay=self.config.recency, distinct=True
        )
        return solve_side(
            history.astype(np.float64) * self.config.alpha,
            known.astype(np.float64),
            np.zeros((len(requests), self.config.dim)),
            self.config.l2,
        )

    def state(self) -> State:
        """Item factors and the configuration."""
        return State(
            {"factors": self._factors, "item_offsets": self._item_offsets},
            {"config": self.config.model_dump(mode="json")},
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        return cls(
            state.arrays["factors"].astype(np.float32),
            state.arrays["item_offsets"].astype(np.int64),
            ALSConfig.model_validate(state.meta["config"]),
        )


def taken_matrix(dataset: Dataset, events: Events) -> sp.csr_array:
    """Who took what: ones, float64 [n_users, n_items] over all domains in flat numbering."""
    columns = dataset.flat(events.domain, events.item)
    shape = (dataset.n_users, dataset.n_items)
    taken = sp.coo_array((np.ones(len(events)), (events.user, columns)), shape=shape).tocsr()
    taken.data[:] = 1.0
    return taken


def starting_people(dataset: Dataset, dim: int, seed: int) -> Double:
    """Small random factors of the people, float64 [n_users, dim].

    Drawn in the order of raw ids, so that they depend on no row number. Items need none: they are
    solved first.
    """
    start: Double = np.random.default_rng(seed).normal(0.0, 0.1, (dataset.n_users, dim))
    place = np.empty(dataset.n_users, np.int64)
    place[dataset.user_ids.arg_sort().to_numpy()] = np.arange(dataset.n_users)
    return np.asarray(start[place])


def _factorise(taken: sp.csr_array, users: Double, config: FactorConfig) -> Double:
    """Item factors [n_items, dim] for confidences above 1, `taken` [n_users, n_items].

    `users` [n_users, dim] are the factors to start from.
    """
    items = np.zeros((taken.shape[1], config.dim))
    by_item = taken.T.tocsr()
    for _ in range(config.sweeps):
        items = solve_side(by_item, users, items, config.l2, steps=STEPS)
        users = solve_side(taken, items, users, config.l2, steps=STEPS)
    return solve_side(by_item, users, items, config.l2)


def solve_side(
    extra: sp.csr_array,
    fixed: Double,
    start: Double,
    l2: float,
    *,
    steps: int | None = None,
    base: Double | None = None,
) -> Double:
    """Minimise over one side with the other fixed, by conjugate gradients in all rows at once.

    Row r solves (Fᵀ B F + Fᵀ C_r F + l2 I) x = Fᵀ (C_r + B) p_r with F = `fixed`, B the diagonal of
    `base`, C_r that of row r of `extra`, and p_r one where that row has an entry.

    Args:
        extra: confidence above `base`, [n, m]; no duplicate entries.
        fixed: factors of the other side, [m, dim].
        start: where to begin, [n, dim]; a near start saves steps.
        l2: penalty.
        steps: how many to take; None: until solved.
        base: confidence in what was not taken, [m]; None: 1.

    Returns:
        float64 [n, dim]; zero in rows without an entry.
    """
    base = np.ones(len(fixed)) if base is None else base
    gram = (fixed * base[:, None]).T @ fixed + l2 * np.eye(fixed.shape[1])
    steps = steps or 2 * fixed.shape[1]
    blocks = np.searchsorted(extra.indptr, np.arange(0, extra.nnz, ENTRIES_AT_ONCE), "right") - 1
    bounds = np.unique([0, *blocks, extra.shape[0]])
    solved: Double = np.where((np.diff(extra.indptr) > 0)[:, None], start, 0.0)
    for first, end in pairwise(bounds):
        rows = slice(first, end)
        solved[rows] = _conjugate_gradients(extra[rows], fixed, base, gram, solved[rows], steps)
    return solved


def _conjugate_gradients(
    extra: sp.csr_array, fixed: Double, base: Double, gram: Double, x: Double, steps: int
) -> Double:
    """`solve_side` for a block of rows; holds dim numbers for each of its entries."""
    row = np.repeat(np.arange(extra.shape[0]), np.diff(extra.indptr))
    entries = fixed[extra.indices]

    def weighted(values: Double) -> Double:
        summed: Double = sp.csr_array((values, extra.indices, extra.indptr), extra.shape) @ fixed
        return summed

    def apply(x: Double) -> Double:
        product: Double = x @ gram + weighted(extra.data * np.einsum("ij,ij->i", entries, x[row]))
        return product

    target = weighted(extra.data + base[extra.indices])
    enough = TOLERANCE**2 * (target**2).sum(1)
    residual = target - apply(x)
    direction, size = residual, (residual**2).sum(1)
    for _ in range(steps):
        going = size > enough
        if not going.any():
            break
        applied = apply(direction)
        curvature = (direction * applied).sum(1)
        step = np.divide(size, curvature, out=np.zeros_like(size), where=going)[:, None]
        x = x + step * direction
        residual = residual - step * applied
        smaller = (residual**2).sum(1)
        turn = np.divide(smaller, size, out=np.zeros_like(size), where=going)[:, None]
        direction, size = residual + turn * direction, smaller
    return x
