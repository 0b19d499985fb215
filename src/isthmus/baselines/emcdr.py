"""EMCDR: a person's factors in one domain are mapped from their factors in the others.

Source: Man, Shen, Jin, Cheng, "Cross-Domain Recommendation: An Embedding and Mapping Approach",
IJCAI 2017. Each domain is factorised by itself (our ALS). A linear map, learnt from the people who
act in both, leads from the factors in all other domains side by side to those in the target.

The paper maps people new to the target and leaves all others as they are. Here both meet: what is
mapped counts as `prior` events of one's own, so somebody with one event is no sudden exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.baselines.als import ALS, ALSConfig, FactorConfig
from isthmus.baselines.history import everybody, known_events
from isthmus.baselines.needs import need_shared_people
from isthmus.data.dataset import Dataset, Events
from isthmus.scoring import Requests, Scores, pick
from isthmus.training.checkpoint import State

Double = NDArray[np.float64]
PENALTIES = 10.0 ** np.arange(-3, 4)
"""Ridge penalties that are tried, in multiples of the design's mean square."""


class EMCDRConfig(FactorConfig):
    """The factorisation of each domain, and what the mapped factors weigh."""

    prior: float = Field(
        1.0,
        ge=0,
        description="Own events that the mapped factors weigh as much as; 0: only people new to "
        "the target are mapped, as published.",
    )

    @property
    def als(self) -> ALSConfig:
        """Of each domain by itself."""
        return ALSConfig(**self.model_dump(exclude={"prior"}))


class EMCDR:
    """Scores are inner products of item factors and own and mapped factors of who asks.

    Somebody without a history that is known scores all items alike.
    """

    name = "emcdr"

    def __init__(
        self, als: ALS, maps: Double, item_offsets: NDArray[np.int64], config: EMCDRConfig
    ) -> None:
        """Args are what `state` saves.

        als: one factorisation for each domain.
        maps: float64 [n_domains, n_domains * (dim + 1), dim], to each domain from all domains side
            by side; zero for those that were not asked for, and from a domain to itself.
        item_offsets: int64 [n_domains + 1].
        config: as fitted.
        """
        self.config = config
        self._als, self._maps, self._item_offsets = als, maps, item_offsets

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        events: Events,
        config: EMCDRConfig | None = None,
        *,
        targets: Sequence[int] | None = None,
    ) -> Self:
        """Factorise `events`, what may be learned from, and fit the maps.

        Args:
            dataset: the snapshot.
            events: of all domains.
            config: see there.
            targets: domains to map to; None: all. Questions about others are answered by their own
                factorisation alone.

        Raises:
            ConfigError: a target shares nobody with the other domains.
        """
        config = config or EMCDRConfig()
        targets = range(len(dataset.domains)) if targets is None else targets
        for target in targets:
            need_shared_people(cls.name, dataset, events, target)
        als = ALS.fit(dataset, events, config.als)
        n_domains, width = len(dataset.domains), config.dim + 1
        maps = np.zeros((n_domains, n_domains * width, config.dim))
        fitted = cls(als, maps, dataset.item_offsets, config)
        people = everybody(events)
        counts = known_events(people, dataset.item_offsets)
        design = fitted._design(people, counts)
        for target in targets:
            elsewhere = np.repeat(np.arange(n_domains) != target, width)
            shared = (counts[:, target] > 0) & (counts.sum(1) > counts[:, target])
            known = als.people(people, target)[shared]
            maps[target][elsewhere] = _ridge(design[np.ix_(shared, elsewhere)], known)
        return fitted

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; items without a training event score 0."""
        counts = known_events(requests, self._item_offsets)
        mapped = self._design(requests, counts) @ self._maps[domain]
        own = counts[:, domain, None]
        share = np.where(own > 0, own / np.maximum(own + self.config.prior, 1), 0.0)
        if not self._maps[domain].any():
            share = np.ones_like(share)
        people = share * self._als.people(requests, domain) + (1 - share) * mapped
        total = people.astype(np.float32) @ self._als.items(domain).T
        return Scores(pick(total, items))

    def _design(self, requests: Requests, counts: NDArray[np.int64]) -> Double:
        """All domains side by side: whether there is a history, and the factors.

        float64 [batch, n_domains * (dim + 1)]; zero for a domain without a history.
        """
        blocks = []
        for domain in range(len(self._item_offsets) - 1):
            blocks.append((counts[:, domain] > 0).astype(np.float64)[:, None])
            blocks.append(self._als.people(requests, domain))
        return np.concatenate(blocks, axis=1)

    def state(self) -> State:
        """Item factors, maps and the configuration."""
        return State(
            {**self._als.state().arrays, "maps": self._maps},
            {"config": self.config.model_dump(mode="json")},
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        config = EMCDRConfig.model_validate(state.meta["config"])
        offsets = state.arrays["item_offsets"].astype(np.int64)
        als = ALS(state.arrays["factors"].astype(np.float32), offsets, config.als)
        return cls(als, state.arrays["maps"].astype(np.float64), offsets, config)


def _ridge(design: Double, wanted: Double) -> Double:
    """The linear map of least leave-one-out error over the penalties.

    Args:
        design: [n, k].
        wanted: [n, dim].

    Returns:
        [k, dim].
    """
    variance, axes = np.linalg.eigh(design.T @ design)
    variance = np.maximum(variance, 0.0)
    turned = design @ axes
    target = turned.T @ wanted
    best, chosen = np.inf, np.zeros_like(target)
    for penalty in PENALTIES * max(variance.mean(), np.finfo(np.float64).tiny):
        solved = target / (variance + penalty)[:, None]
        leverage = (turned**2 / (variance + penalty)).sum(1)
        left_out = (wanted - turned @ solved) / (1 - leverage)[:, None]
        error = float((left_out**2).sum())
        if error < best:
            best, chosen = error, solved
    return np.asarray(axes @ chosen)
