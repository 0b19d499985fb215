"""What came next in each history, domain by domain: examples of one item that follows others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Events


@dataclass(frozen=True)
class NextItems:
    """Histories within one domain each, end to end.

    Attributes:
        item: int64 [n] in flat numbering, by domain, person and time.
        domain: int64 [n] of each.
        person: int64 [n] user row of each.
        begin: int64 [n]; where the history that a place belongs to begins.
        chosen: bool [n_users, n_items]; what a person ever chose, in flat numbering.
    """

    item: NDArray[np.int64]
    domain: NDArray[np.int64]
    person: NDArray[np.int64]
    begin: NDArray[np.int64]
    chosen: sp.csr_array

    @property
    def answers(self) -> NDArray[np.int64]:
        """Places that something of the same history stands before, int64."""
        return np.flatnonzero(self.begin < np.arange(len(self.begin)))


def next_items(dataset: Dataset, events: Events, usable: NDArray[np.bool_]) -> NextItems:
    """Histories of the usable items, each domain apart.

    Args:
        dataset: gives the numbering.
        events: what may be learnt from.
        usable: bool [n_items] in flat numbering; all others are passed over.
    """
    flat = dataset.flat(events.domain, events.item)
    kept = np.flatnonzero(usable[flat])
    # Stable, so that every history keeps its order in time.
    kept = kept[np.lexsort((events.user[kept], events.domain[kept]))]
    person, domain = events.user[kept].astype(np.int64), events.domain[kept].astype(np.int64)
    fresh = np.ones(len(kept), bool)
    fresh[1:] = (person[1:] != person[:-1]) | (domain[1:] != domain[:-1])
    begin = np.maximum.accumulate(np.where(fresh, np.arange(len(kept)), 0))
    shape = (events.n_users, dataset.n_items)
    chosen = sp.csr_array((np.ones(len(kept), bool), (person, flat[kept])), shape=shape)
    return NextItems(flat[kept], domain, person, begin, chosen)
