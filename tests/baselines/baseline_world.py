"""Small datasets for the tests of the baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.features import ItemFeatures
from isthmus.scoring import Request, Requests

Row = tuple[int, int]


def catalogue(name: str, ids: Sequence[int]) -> Domain:
    """A domain whose items carry the given numbers as raw ids."""
    return Domain(
        name,
        pl.DataFrame(
            {"item_id": [f"{name}{i:04d}" for i in ids]},
        ).with_columns(
            text=pl.lit(None, pl.String),
            title=pl.lit(None, pl.String),
            category=pl.lit(None, pl.String),
        ),
    )


def dataset_of(
    histories: Sequence[Sequence[Row]],
    sizes: Sequence[int],
    times: Sequence[Sequence[float]] | None = None,
) -> Dataset:
    """Users with (domain, item) histories, oldest first; times default to none."""
    lengths = [len(h) for h in histories]
    pairs = np.array([p for h in histories for p in h], np.int64).reshape(-1, 2)
    time = (
        np.full(len(pairs), np.nan)
        if times is None
        else np.array([t for row in times for t in row], np.float64)
    )
    return Dataset(
        tuple(catalogue(f"d{d}-", range(n)) for d, n in enumerate(sizes)),
        pl.Series("user_id", [f"u{u:04d}" for u in range(len(histories))]),
        Events.from_columns(
            len(histories),
            np.repeat(np.arange(len(histories)), lengths),
            pairs[:, 0].astype(np.int16),
            pairs[:, 1].astype(np.int32),
            time,
        ),
    )


def asking(*histories: Sequence[Row], query_time: float | None = None) -> Requests:
    """New people with these histories."""
    return Requests.of([Request(history=h, query_time=query_time) for h in histories])


def random_world(seed: int) -> Dataset:
    """Thirty people over two catalogues of 12 and 9 items, with times; some items unused."""
    rng = np.random.default_rng(seed)
    histories, times = [], []
    for _ in range(30):
        n = int(rng.integers(0, 9))
        domain = rng.integers(0, 2, n)
        item = np.where(domain == 0, rng.integers(0, 10, n), rng.integers(0, 8, n))
        histories.append(list(zip(domain.tolist(), item.tolist(), strict=True)))
        times.append(np.sort(rng.integers(0, 40, n) * 43_200.0).tolist())
    return dataset_of(histories, (12, 9), times)


def random_features(dataset: Dataset, seed: int, dim: int = 6) -> list[ItemFeatures]:
    """Text vectors with doubles and gaps."""
    rng = np.random.default_rng(seed)
    features = []
    for domain in dataset.domains:
        vectors = rng.normal(size=(domain.n_items, dim)).astype(np.float32)
        vectors[1] = vectors[0]
        present = rng.random(domain.n_items) < 0.8
        present[:3] = True
        vectors[~present] = 0.0
        features.append(ItemFeatures(vectors, present))
    return features


def renumbered(
    dataset: Dataset, places: Sequence[NDArray[np.int64]]
) -> tuple[Dataset, list[NDArray[np.int64]]]:
    """The same data with item i of domain d at `places[d][i]`; and the inverse of each."""
    orders = [np.argsort(place) for place in places]
    domains = tuple(
        Domain(domain.name, domain.items[order.tolist()])
        for domain, order in zip(dataset.domains, orders, strict=True)
    )
    events = dataset.events
    item = np.array(
        [places[d][i] for d, i in zip(events.domain, events.item, strict=True)], np.int32
    )
    moved = Events.from_columns(dataset.n_users, events.user, events.domain, item, events.time)
    return Dataset(domains, dataset.user_ids, moved), orders


def moved_requests(requests: Requests, places: Sequence[NDArray[np.int64]]) -> Requests:
    """The same questions in the new numbers."""
    item = [places[d][i] for d, i in zip(requests.domain, requests.item, strict=True)]
    return Requests(
        requests.offsets,
        requests.domain,
        np.array(item, np.int32),
        requests.time,
        requests.query_time,
        requests.user,
    )


def planted_world(seed: int = 0) -> tuple[Dataset, Requests, NDArray[np.int64]]:
    """Two tastes: each person takes even items of both domains, or odd ones.

    Returns:
        The data, new people with two items of the other domain's and the target's kind, and the
        parity of each.
    """
    rng = np.random.default_rng(seed)
    histories = []
    for person in range(80):
        domain = rng.integers(0, 2, 8)
        item = 2 * rng.integers(0, 10, 8) + person % 2
        histories.append(list(zip(domain.tolist(), item.tolist(), strict=True)))
    parity = np.arange(10) % 2
    asked = [[(0, 2 * int(rng.integers(0, 10)) + int(p)) for _ in range(2)] for p in parity]
    return dataset_of(histories, (20, 20)), asking(*asked), parity
