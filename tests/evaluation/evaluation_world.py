"""A small random dataset and a scorer that reads its scores from a table, for tests nearby."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.scoring import Requests, Scores, pick


def small_dataset(
    seed: int = 0, *, n_users: int = 40, n_items: tuple[int, ...] = (30, 20), length: int = 12
) -> Dataset:
    """Users with 0 … 2 × length events over all domains; repeats and equal times occur."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 2 * length + 1, n_users)
    user = np.repeat(np.arange(n_users), counts)
    domain = rng.integers(0, len(n_items), len(user))
    item = (rng.random(len(user)) ** 2 * np.array(n_items)[domain]).astype(np.int32)
    time = rng.integers(0, 50, len(user)).astype(np.float64)
    by_time = np.lexsort((time, user))
    events = Events.from_columns(
        n_users, user, domain[by_time].astype(np.int16), item[by_time], time[by_time]
    )
    return Dataset(
        tuple(catalogue(f"domain{d}", n) for d, n in enumerate(n_items)),
        pl.Series("user_id", [f"user{u}" for u in range(n_users)]),
        events,
    )


def catalogue(name: str, n: int) -> Domain:
    """A domain of `n` items known by id only."""
    ids = [f"{name}-item{i}" for i in range(n)]
    none = pl.Series([None] * n, dtype=pl.String)
    return Domain(
        name, pl.DataFrame({"item_id": ids, "text": none, "title": none, "category": none})
    )


def renumbered(dataset: Dataset, seed: int) -> tuple[Dataset, list[NDArray[np.int64]]]:
    """The same data with items in another order, and each domain's new → old item index."""
    rng = np.random.default_rng(seed)
    new_to_old = [rng.permutation(d.n_items) for d in dataset.domains]
    events = dataset.events
    item = events.item.copy()
    for d, order in enumerate(new_to_old):
        old_to_new = np.argsort(order).astype(np.int32)
        here = events.domain == d
        item[here] = old_to_new[item[here]]
    domains = tuple(
        Domain(d.name, d.items[order.tolist()])
        for d, order in zip(dataset.domains, new_to_old, strict=True)
    )
    moved = Events.from_columns(dataset.n_users, events.user, events.domain, item, events.time)
    return Dataset(domains, dataset.user_ids, moved), new_to_old


class TableScorer:
    """Scores of each (user, item) from a table; a user who is not known has the table's mean."""

    def __init__(self, tables: list[NDArray[np.float32]], name: str = "table") -> None:
        self.tables, self.name = tables, name
        self.asked: list[Requests] = []
        self.items: list[NDArray[np.int64] | None] = []

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        self.asked.append(requests)
        self.items.append(items)
        table = self.tables[domain]
        known = table[requests.user]
        total = np.where(requests.user[:, None] >= 0, known, table.mean(axis=0))
        return Scores(pick(total.astype(np.float32), items))


def table_scorer(
    dataset: Dataset,
    seed: int = 0,
    *,
    levels: int | None = None,
    name: str = "table",
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda table: table,
) -> TableScorer:
    """A scorer with random scores, of only `levels` distinct values where that is given."""
    rng = np.random.default_rng(seed)
    shapes = [(dataset.n_users, d.n_items) for d in dataset.domains]
    if levels is None:
        tables = [rng.normal(size=s).astype(np.float32) for s in shapes]
    else:
        tables = [rng.integers(0, levels, s).astype(np.float32) for s in shapes]
    return TableScorer([change(t) for t in tables], name)
