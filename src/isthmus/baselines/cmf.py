"""CMF: one factor vector per person for all domains, learnt from all of them at once.

Source: Singh and Gordon, "Relational Learning via Collective Matrix Factorization", KDD 2008, with
the implicit feedback of Hu, Koren and Volinsky 2008: a weighted sum of every domain's loss, in
which the people's factors are the same. Whoever asks is folded in from the whole history, so people
new to the model are no special case.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from isthmus.baselines.als import (
    STEPS,
    FactorConfig,
    solve_side,
    starting_people,
    taken_matrix,
)
from isthmus.baselines.history import flat_items, history_matrix
from isthmus.baselines.needs import need_shared_people
from isthmus.data.dataset import Dataset, Events
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State

Double = NDArray[np.float64]


class CMFConfig(FactorConfig):
    """The factorisation, and what the domains weigh."""

    elsewhere: float = Field(
        0.3, gt=0, description="Weight of each other domain's loss; that of the target's is 1."
    )


class CMF:
    """Scores are inner products of item factors and the factors of who asks."""

    name = "cmf"

    def __init__(
        self, factors: Float, weight: Double, item_offsets: NDArray[np.int64], config: CMFConfig
    ) -> None:
        """Args are what `state` saves.

        factors: float32 [n_items, dim] over all domains, in the flat numbering.
        weight: float64 [n_domains] of each domain's loss.
        item_offsets: int64 [n_domains + 1].
        config: as fitted.
        """
        self.config = config
        self._factors, self._weight, self._item_offsets = factors, weight, item_offsets

    @classmethod
    def fit(
        cls, dataset: Dataset, events: Events, target: int, config: CMFConfig | None = None
    ) -> Self:
        """Factorise `events`, what may be learned from.

        Args:
            dataset: the snapshot.
            events: of all domains.
            target: index of the domain whose loss weighs most; any may be asked about.
            config: see there.

        Raises:
            ConfigError: the target shares nobody with the other domains.
        """
        config = config or CMFConfig()
        need_shared_people(cls.name, dataset, events, target)
        weight = np.full(len(dataset.domains), config.elsewhere)
        weight[target] = 1.0
        taken = taken_matrix(dataset, events)
        start = starting_people(dataset, config.dim, config.seed)
        factors = _factorise(taken, start, dataset.item_offsets, weight, config)
        return cls(factors.astype(np.float32), weight, dataset.item_offsets, config)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; items without a training event score 0."""
        flat = flat_items(requests, self._item_offsets)
        recency, n_items = self.config.recency, len(self._factors)
        history = history_matrix(requests, flat, n_items, decay=recency, distinct=True)
        base = np.repeat(self._weight, np.diff(self._item_offsets))
        people = solve_side(
            _weighted(history.astype(np.float64), base * self.config.alpha),
            self._factors.astype(np.float64),
            np.zeros((len(requests), self.config.dim)),
            self.config.l2,
            base=base,
        )
        own = self._factors[self._item_offsets[domain] : self._item_offsets[domain + 1]]
        return Scores(pick(people.astype(np.float32) @ own.T, items))

    def state(self) -> State:
        """Item factors, weights of the domains and the configuration."""
        return State(
            {
                "factors": self._factors,
                "weight": self._weight,
                "item_offsets": self._item_offsets,
            },
            {"config": self.config.model_dump(mode="json")},
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        return cls(
            state.arrays["factors"].astype(np.float32),
            state.arrays["weight"].astype(np.float64),
            state.arrays["item_offsets"].astype(np.int64),
            CMFConfig.model_validate(state.meta["config"]),
        )


def _factorise(
    taken: sp.csr_array,
    users: Double,
    item_offsets: NDArray[np.int64],
    weight: Double,
    config: CMFConfig,
) -> Double:
    """Item factors [n_items, dim] of all domains.

    Args:
        taken: ones, [n_users, n_items].
        users: factors to start from, [n_users, dim].
        item_offsets: where each domain starts.
        weight: of each domain's loss, [n_domains].
        config: sizes and strength.
    """
    base = np.repeat(weight, np.diff(item_offsets))
    by_user = _weighted(taken, base * config.alpha)
    by_item = (taken * config.alpha).T.tocsr()
    items = np.zeros((taken.shape[1], config.dim))

    def solve_items(steps: int | None) -> None:
        # A domain's weight on its whole loss is the inverse weight on its items' penalty.
        for (start, stop), share in zip(pairwise(item_offsets), weight, strict=True):
            items[start:stop] = solve_side(
                by_item[start:stop], users, items[start:stop], config.l2 / share, steps=steps
            )

    for _ in range(config.sweeps):
        solve_items(STEPS)
        users = solve_side(by_user, items, users, config.l2, steps=STEPS, base=base)
    solve_items(None)
    return items


def _weighted(matrix: sp.csr_array, weight: Double) -> sp.csr_array:
    """Columns of `matrix` [n, m] times `weight` [m], entries in the order in which they stand."""
    values = matrix.data * weight[matrix.indices]
    return sp.csr_array((values, matrix.indices, matrix.indptr), matrix.shape)
