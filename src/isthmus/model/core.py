"""The core model: item tower and user tower together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.config import ModelConfig
from isthmus.data.features import ItemFeatures
from isthmus.model.item_tower import ItemTower
from isthmus.model.user_tower import UserTower, gap_buckets


class CoreModel(nn.Module):
    """Histories of any mix of domains in, queries for the items of one domain out.

    A score is the inner product of a query and an item vector.

    Args:
        features: whitened text vectors per domain.
        evidence: float32 [n_items] training events per item, flat.
        config: sizes and switches.
        seed: of the initial weights.
    """

    def __init__(
        self,
        features: Sequence[ItemFeatures],
        evidence: NDArray[np.float32],
        config: ModelConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            self.items = ItemTower(features, evidence, config, generator)
            self.users = UserTower(len(features), config)
        bounds = np.concatenate([[0], np.cumsum([len(f) for f in features])])
        self.bounds = [int(b) for b in bounds]

    def catalogue(self, domain: int) -> Tensor:
        """Vectors of all items of a domain, [n_items of the domain, dim]."""
        return self.items.all(self.bounds[domain], self.bounds[domain + 1])

    def item_vectors(self, rows: Tensor, ids: Tensor | None = None) -> Tensor:
        """Flat item rows [n], optionally with their ID embeddings [n, dim] → vectors [n, dim]."""
        vectors: Tensor = self.items(rows, ids)
        return vectors

    def states(self, items: Tensor, domain: Tensor, time: Tensor, offsets: Tensor) -> Tensor:
        """Packed histories (vectors [tokens, dim], domains, Unix seconds) → [tokens, dim]."""
        states: Tensor = self.users(items, domain, _gaps(time, offsets), offsets)
        return states

    def last_states(self, items: Tensor, domain: Tensor, time: Tensor, offsets: Tensor) -> Tensor:
        """The same, but only the state after each history's last event, [n_histories, dim]."""
        return self.users.last(items, domain, _gaps(time, offsets), offsets)

    def ask(self, states: Tensor, domain: int) -> Tensor:
        """States [n, dim] → queries for the items of `domain` [n, dim]."""
        return self.users.ask(states, domain)

    def borrow_reading(self, domain: int, sources: Sequence[int]) -> None:
        """Let the events of a domain that no training has read be read like the sources' mean."""
        if sources:
            self.items.borrow(domain, sources)
            self.users.borrow_reading(domain, sources)

    def borrow_asking(self, domain: int, sources: Sequence[int]) -> None:
        """Let questions about a domain that no training has asked be like the sources' mean."""
        if sources:
            self.users.borrow_asking(domain, sources)

    def id_table(self) -> Tensor:
        """The table of ID embeddings, [n_items, dim]."""
        return self.items.table


def _gaps(time: Tensor, offsets: Tensor) -> Tensor:
    first = torch.zeros(len(time), dtype=torch.bool, device=time.device)
    first[offsets[:-1]] = True
    return gap_buckets(time, first)
