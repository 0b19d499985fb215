"""Histories as sparse rows: what every baseline multiplies with what it has learned.

Entries keep the order of the history, so a product adds up in that order and never in the order of
item numbers.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isthmus.data.dataset import Events
from isthmus.scoring import Float, Requests


def everybody(events: Events) -> Requests:
    """One request for each person, after all that they did in `events`."""
    return Requests(
        offsets=events.offsets,
        domain=events.domain,
        item=events.item,
        time=events.time,
        query_time=np.full(events.n_users, np.nan),
        user=np.arange(events.n_users),
    )


def flat_items(requests: Requests, item_offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each history event in the flat numbering of a fitted snapshot, int64 [total].

    Items and domains that the snapshot does not hold, because they were added later, give -1.
    `item_offsets` int64 [n_domains + 1] says where each domain starts.
    """
    known = requests.domain < len(item_offsets) - 1
    domain = np.where(known, requests.domain, 0).astype(np.int64)
    flat = item_offsets[domain] + requests.item
    return np.where(known & (flat < item_offsets[domain + 1]), flat, -1)


def known_events(requests: Requests, item_offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Events of each history that a fitted snapshot knows, int64 [batch, n_domains]."""
    n_domains = len(item_offsets) - 1
    known = flat_items(requests, item_offsets) >= 0
    cell = requests.rows[known] * n_domains + requests.domain[known]
    counts = np.bincount(cell, minlength=len(requests) * n_domains)
    return counts.reshape(len(requests), n_domains)


def history_weights(
    requests: Requests,
    column: NDArray[np.int64],
    width: int,
    *,
    decay: float = 1.0,
    last: int | None = None,
    distinct: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int64], Float]:
    """Weights of the history events that count, end to end.

    Args:
        requests: the packed batch.
        column: int64 [total], where each event belongs; -1 leaves it out.
        width: number of columns.
        decay: the event `age` places before the latest one that is not left out weighs
            `decay ** age`.
        last: how many of the latest events count; None: all.
        distinct: a column counts once for each request, at its latest event.

    Returns:
        int64 [batch + 1], where the events of each request start; then of each event its column
        and its weight, int64 and float32 [counted].
    """
    kept = column >= 0
    requests, column = requests.keep(kept), column[kept]
    age = requests.age
    counted = np.ones(len(age), bool) if last is None else age < last
    if distinct:
        cell = requests.rows * width + column
        _, from_the_end = np.unique(cell[::-1], return_index=True)
        latest = np.zeros(len(age), bool)
        latest[len(age) - 1 - from_the_end] = True
        counted &= latest
    offsets = np.concatenate([[0], counted.cumsum()])[requests.offsets]
    weight = np.power(decay, age[counted]).astype(np.float32)
    return offsets, column[counted], weight


def history_matrix(
    requests: Requests,
    column: NDArray[np.int64],
    width: int,
    *,
    decay: float = 1.0,
    last: int | None = None,
    distinct: bool = False,
) -> sp.csr_array:
    """`history_weights` as sparse rows, float32 [batch, width]."""
    offsets, column, weight = history_weights(
        requests, column, width, decay=decay, last=last, distinct=distinct
    )
    return sp.csr_array((weight, column, offsets), shape=(len(requests), width))
