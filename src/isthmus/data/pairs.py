"""Items that the same people chose: pairs, and how surprising each is.

Most pairs of neighbours in a history are two popular items and say nothing of either. A pair is
weighed by how often it occurs times how much more often than chance: count × max(0, PMI), with
chance taken within the pair's two domains, since catalogues are of different sizes and meet at
different rates. Source of the positive part: Church and Hanks, "Word Association Norms, Mutual
Information, and Lexicography", Computational Linguistics 1990.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Events


@dataclass(frozen=True)
class ItemPairs:
    """Pairs in both directions, in flat numbering.

    Attributes:
        first, second: int64 [n]; each pair stands there twice, once in each direction.
        weight: float64 [n], above 0.
        kind: int64 [n]; domain of the first × number of domains + domain of the second.
        n_domains: of the dataset.
        together: bool [n_items, n_items]; every two items that occur together at all, surprising
            or not. None of these is a negative of the other.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: NDArray[np.float64]
    kind: NDArray[np.int64]
    n_domains: int
    together: sp.csr_array

    def __len__(self) -> int:
        return len(self.first)

    def where(self, mask: NDArray[np.bool_]) -> ItemPairs:
        """The pairs where `mask` [n] is true; what occurs together stays."""
        return ItemPairs(
            self.first[mask],
            self.second[mask],
            self.weight[mask],
            self.kind[mask],
            self.n_domains,
            self.together,
        )


def surprising_pairs(
    dataset: Dataset, events: Events, *, window: int = 10, decay: float = 0.9
) -> ItemPairs:
    """Pairs of different items within one user's history that occur more often than chance.

    Args:
        dataset: gives domains and numbering.
        events: what may be learnt from, all domains merged by time.
        window: most events apart.
        decay: factor on the count, per event apart.
    """
    user, flat = events.user, dataset.flat(events.domain, events.item)
    shape = (dataset.n_items, dataset.n_items)
    counts = sp.csr_array(shape)
    for gap in range(1, window + 1):
        rows = np.flatnonzero(user[:-gap] == user[gap:])
        rows = rows[flat[rows] != flat[rows + gap]]
        weight = np.full(len(rows), decay ** (gap - 1))
        counts = counts + sp.coo_array((weight, (flat[rows], flat[rows + gap])), shape).tocsr()
    both = sp.csr_array(counts + counts.T)
    found = both.tocoo()
    first, second = (axis.astype(np.int64) for axis in found.coords)
    n_domains = len(dataset.domains)
    home = np.searchsorted(dataset.item_offsets, np.arange(dataset.n_items), side="right") - 1
    kind = home[first] * n_domains + home[second]
    weight = found.data * np.maximum(0.0, _pmi(found.data, first, second, kind, home, n_domains))
    both.data = np.ones(len(both.data), bool)
    kept = weight > 0
    return ItemPairs(first[kept], second[kept], weight[kept], kind[kept], n_domains, both)


def _pmi(
    count: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    kind: NDArray[np.int64],
    home: NDArray[np.int64],
    n_domains: int,
) -> NDArray[np.float64]:
    """Pointwise mutual information of each pair, nats, with chance within its two domains."""
    # How often each item occurs together with anything of each domain.
    towards = np.bincount(
        first * n_domains + home[second], count, minlength=len(home) * n_domains
    ).reshape(len(home), n_domains)
    total = np.bincount(kind, count, minlength=n_domains**2)
    chance = towards[first, home[second]] * towards[second, home[first]]
    return np.asarray(np.log(count * total[kind] / chance))
