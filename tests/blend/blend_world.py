"""Scorers that read a table, for tests of what is made of scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.scoring import Request, Requests, Scores, pick

Table = NDArray[np.float32]


class TableScorer:
    """Scores read from a table [n_users, n_items], whatever the domain."""

    def __init__(self, table: Table, name: str = "table") -> None:
        self.table, self.name = table, name
        self.asked: list[Requests] = []

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        self.asked.append(requests)
        return Scores(pick(self.table[requests.user], items))


def tables(n_users: int, n_items: int, n: int, seed: int = 0) -> list[Table]:
    """Independent standard normal scores."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n_users, n_items)).astype(np.float32) for _ in range(n)]


def requests_of(n: int) -> Requests:
    """One request of each user, without a history."""
    return Requests.of([Request(user=u) for u in range(n)])
