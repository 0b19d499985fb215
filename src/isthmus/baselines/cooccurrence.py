"""What came after what: item–item counts within the users' training histories.

Under full ranking this is the baseline to fear. A pair counts in the direction of time, from the
earlier item to the later one: items enter a catalogue and leave it, so counting both ways
recommends what has gone. The score of an item is the sum of its similarities to the history, the
latest events weighing most.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from isthmus.baselines.history import flat_items, history_weights
from isthmus.baselines.popular import taken_lately
from isthmus.baselines.similarities import table_of, table_state
from isthmus.data.dataset import Dataset, Events
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State

# Pair weights are whole multiples of this, so that sums are exact in any order of the items.
GRAIN = 2.0**-20
PAIRS_AT_ONCE = 1 << 24


class CoOccurrenceConfig(BaseModel):
    """What counts as together, and how counts become similarities.

    similarity(i → j) = count(i → j) / ((n_i + k) ** from_power * (n_j + k) ** to_power), with n
    the events of an item and k the shrinkage. Powers (.5, .5) are the cosine, (1, 0) the
    conditional probability. A pair counts by (1 + r) ** -trend_power, with r the events of j in the
    days before the pair's, faded; without times r is 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    merged: bool = Field(
        True, description="History of all domains; off: the target's own history alone."
    )
    window: int = Field(50, ge=1, description="Most events apart that a pair counts.")
    order_decay: float = Field(0.98, gt=0, le=1, description="Factor per event apart.")
    backward: float = Field(0.0, ge=0, le=1, description="Weight of a pair against time.")
    from_power: float = Field(0.5, ge=0, description="Discount of a popular history item.")
    to_power: float = Field(0.5, ge=0, description="Discount of a popular candidate.")
    shrinkage: float = Field(30.0, ge=0, description="Events added to each item's count.")
    recency: float = Field(0.75, gt=0, le=1, description="Factor per event of age in a request.")
    trend_power: float = Field(
        0.0, ge=0, description="Discount of a pair whose candidate sold anyway in those days."
    )
    trend_days: float = Field(30.0, gt=0, description="Days in which a sale loses half of that.")


class CoOccurrence:
    """Similarity by co-occurrence in time order."""

    def __init__(
        self,
        similarity: sp.csr_array,
        item_offsets: NDArray[np.int64],
        config: CoOccurrenceConfig,
    ) -> None:
        """Args: similarity float32 [n_items, n_items] over all domains, in flat numbering."""
        self.name = "co-occurrence" if config.merged else "co-occurrence-target"
        self.config = config
        self._similarity = similarity
        self._item_offsets = item_offsets
        self._towards = [similarity[:, start:stop] for start, stop in pairwise(item_offsets)]

    @classmethod
    def fit(
        cls, dataset: Dataset, events: Events, config: CoOccurrenceConfig | None = None
    ) -> Self:
        """Count pairs in `events`, what may be learned from."""
        config = config or CoOccurrenceConfig()
        histories = (
            [events] if config.merged else [events.only(d) for d in range(len(dataset.domains))]
        )
        counts = sum(
            (_pairs(dataset, history, config) for history in histories),
            start=sp.csr_array((dataset.n_items, dataset.n_items), dtype=np.int64),
        )
        taken = np.bincount(dataset.flat(events.domain, events.item), minlength=dataset.n_items)
        evidence = taken + config.shrinkage
        similarity = counts.astype(np.float64) * GRAIN
        row = np.repeat(np.arange(dataset.n_items), np.diff(similarity.indptr))
        similarity.data /= evidence[row] ** config.from_power
        similarity.data /= evidence[similarity.indices] ** config.to_power
        return cls(similarity.astype(np.float32), dataset.item_offsets, config)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; items that never followed the history all score 0."""
        offsets, flat, weight = self._history(requests, domain)
        shape = (len(requests), int(self._item_offsets[-1]))
        history = sp.csr_array((weight, flat, offsets), shape=shape)
        return Scores(pick((history @ self._towards[domain]).toarray(), items))

    def add_followers(self, requests: Requests, domain: int, scores: Float) -> None:
        """Add the same scores to `scores`, float32 [batch, n_items or more]; quick for a few.

        Terms and order are those of the sparse product, so the sums are the same to the last digit.
        """
        offsets, flat, weight = self._history(requests, domain)
        towards = self._towards[domain]
        start, length = towards.indptr[flat], towards.indptr[flat + 1] - towards.indptr[flat]
        event = np.arange(len(flat)).repeat(length)
        entry = np.arange(len(event)) + (start - length.cumsum() + length)[event]
        row = np.arange(len(requests)).repeat(np.diff(offsets))[event]
        cell = row * scores.shape[1] + towards.indices[entry]
        np.add.at(scores.reshape(-1), cell, weight[event] * towards.data[entry])

    def _history(
        self, requests: Requests, domain: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Float]:
        """What of each history counts, in flat numbering; see `history_weights`."""
        asked = requests if self.config.merged else requests.only(domain)
        flat = flat_items(asked, self._item_offsets)
        return history_weights(asked, flat, int(self._item_offsets[-1]), decay=self.config.recency)

    def state(self) -> State:
        """The similarities as arrays of a CSR, and the configuration."""
        return table_state(self._similarity, self._item_offsets, self.config)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        return cls(*table_of(state), CoOccurrenceConfig.model_validate(state.meta["config"]))


def _pairs(dataset: Dataset, events: Events, config: CoOccurrenceConfig) -> sp.csr_array:
    """Weighted pairs (earlier, later) of different items of one user, in units of `GRAIN`.

    Returns:
        int64 [n_items, n_items] over all domains.
    """
    user, flat = events.user, dataset.flat(events.domain, events.item)
    shape = (dataset.n_items, dataset.n_items)
    told = np.ones(len(flat))
    if config.trend_power:
        told = (1 + taken_lately(flat, events.time, config.trend_days)) ** -config.trend_power
    total = sp.csr_array(shape, dtype=np.int64)
    waiting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []

    def fold() -> sp.csr_array:
        earlier, later, weight = (np.concatenate(column) for column in zip(*waiting, strict=True))
        waiting.clear()
        return total + sp.coo_array((weight, (earlier, later)), shape=shape).tocsr()

    for gap in range(1, config.window + 1):
        first = np.flatnonzero(user[:-gap] == user[gap:])
        if not len(first):
            break
        first = first[flat[first] != flat[first + gap]]
        weight = config.order_decay ** (gap - 1)
        for start, stop, share in ((0, gap, 1.0), (gap, 0, config.backward)):
            if weight * share:
                units = np.rint(told[first + stop] * (weight * share / GRAIN)).astype(np.int64)
                waiting.append((flat[first + start], flat[first + stop], units))
        if sum(len(column) for *_, column in waiting) > PAIRS_AT_ONCE:
            total = fold()
    return fold() if waiting else total
