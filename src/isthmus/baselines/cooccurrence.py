"""What came after what: item–item counts within the users' histories.

Under full ranking this is the baseline to fear. A pair counts in the direction of time, from the
earlier item to the later one: items enter a catalogue and leave it, so counting both ways
recommends what has gone. The score of an item is the sum of its similarities to the history, the
latest events weighing most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from isthmus.baselines.history import flat_items, history_weights
from isthmus.baselines.moments import Past, day_over, moments_of, remains, rows_of
from isthmus.baselines.popular import taken_lately
from isthmus.baselines.similarities import spread, table_of, table_state
from isthmus.data.dataset import Dataset, Events
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State

# Pair weights are whole multiples of this, so that sums are exact in any order of the items.
GRAIN = 2.0**-32
PAIRS_AT_ONCE = 1 << 24


class CoOccurrenceConfig(BaseModel):
    """What counts as together, and how counts become similarities.

    similarity(i → j) = count(i → j) / ((n_i + k) ** from_power * (n_j + k) ** to_power), with n
    the events of an item and k the shrinkage. Powers (.5, .5) are the cosine, (1, 0) the
    conditional probability. A pair counts by (1 + r) ** -trend_power, with r the events of j in the
    days before the pair's, faded; without times r is 0. When a question comes, it has faded, too,
    from 1 towards what `fades_to` says of j's domain, if anything; one without a time has wholly.
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
    fades_to: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (), description="What an old pair counts beside a new one, by domain; beyond the last, 1."
    )
    half_life_days: float = Field(20.0, gt=0, description="Days in which half of the rest is gone.")

    @property
    def kinds(self) -> int:
        """How pairs are counted: as they are, and if some fade, those of that kind apart."""
        return 2 if any(kept < 1 for kept in self.fades_to) else 1


class CoOccurrence:
    """Similarity by co-occurrence in time order.

    Where more is known than was learnt from, a question is answered as of its time: with what was
    learnt, and what else had happened on the days that were over when it was asked.
    """

    def __init__(
        self,
        similarity: sp.csr_array,
        item_offsets: NDArray[np.int64],
        config: CoOccurrenceConfig,
        past: Past | None = None,
    ) -> None:
        """Arguments are what `state` saves.

        Args:
            similarity: float32 [n_items, n_items] over all domains, in flat numbering, of
                everything that is known.
            item_offsets: int64 [n_domains + 1].
            config: as fitted.
            past: what had been counted before; None: the same for questions of any time.
        """
        self.name = "co-occurrence" if config.merged else "co-occurrence-target"
        self.config = config
        self._similarity = similarity
        self._item_offsets = item_offsets
        self._past = past
        self._towards = [similarity[:, start:stop] for start, stop in pairwise(item_offsets)]

    @property
    def counts_on(self) -> bool:
        """Whether more was known than learnt, so that answers depend on a question's day."""
        return self._past is not None

    def in_the_past(self, query_time: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which questions, bool [batch], come before all that is counted; one without a time no."""
        if self._past is None:
            return np.zeros(len(query_time), bool)
        return self._past.passed(query_time) < len(self._past.moments) - 1

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        events: Events,
        config: CoOccurrenceConfig | None = None,
        *,
        learnt: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Count pairs in `events`.

        Args:
            dataset: the snapshot.
            events: what is known.
            config: None: defaults.
            learnt: bool [n_events], those that count for a question of any time; the others,
                which have a time, do for questions of later days. None: all.
        """
        config = config or CoOccurrenceConfig()
        if learnt is None:
            learnt = np.ones(len(events), bool)
        counts = _Counts.of(dataset, events, learnt, config)
        past = None if learnt.all() else counts.past(dataset.item_offsets)
        return cls(counts.similarity(), dataset.item_offsets, config, past)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; items that never followed the history all score 0."""
        offsets, flat, weight = self._history(requests, domain)
        shape = (len(requests), int(self._item_offsets[-1]))
        history = sp.csr_array((weight, flat, offsets), shape=shape)
        past = self._past
        passed = None if past is None else past.passed(requests.query_time)
        if past is None or passed is None or (passed == len(past.moments) - 1).all():
            return Scores(pick((history @ self._towards[domain]).toarray(), items))
        now = passed == len(past.moments) - 1
        total = np.empty((len(requests), self._towards[domain].shape[1]), np.float32)
        total[now] = (history[now] @ self._towards[domain]).toarray()
        total[~now] = past.similarities(
            history[~now],
            passed[~now],
            domain,
            shrinkage=self.config.shrinkage,
            powers=(self.config.from_power, self.config.to_power),
            half_life_days=self.config.half_life_days,
        )
        return Scores(pick(total, items))

    def add_followers(self, requests: Requests, domain: int, scores: Float) -> None:
        """Add what is scored now to `scores`, float32 [batch, n_items or more]; quick for a few.

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
        """The similarities as arrays of a CSR, what had been counted before, the configuration."""
        state = table_state(self._similarity, self._item_offsets, self.config)
        past = {} if self._past is None else self._past.arrays()
        return State({**state.arrays, **past}, state.meta)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        similarity, item_offsets = table_of(state)
        config = CoOccurrenceConfig.model_validate(state.meta["config"])
        return cls(similarity, item_offsets, config, Past.of(state, item_offsets))

    def renumbered(self, place: NDArray[np.int64], item_offsets: NDArray[np.int64]) -> Self:
        """The same where old item i stands at `place[i]` of a larger numbering."""
        table = spread(self._similarity, place, int(item_offsets[-1]))
        past = None if self._past is None else self._past.renumbered(place, item_offsets)
        return type(self)(table, item_offsets, self.config, past)


@dataclass(frozen=True)
class _Counts:
    """Pairs that were counted, apart by the moment from which they are known and by kind.

    Attributes:
        row: int [n_pairs] item that comes first, in flat numbering.
        column: int [n_pairs] item that follows.
        units: int64 [n_pairs] how much, in `GRAIN`.
        since: int64 [n_pairs] place in `moments` of the first that knows of it.
        fades: bool [n_pairs] whether it counts for less as time goes by.
        moments: float64 [n_moments] days that are over, Unix seconds, rising; the end of what was
            learnt is the first.
        taken: float64 [n_moments, n_items] events that became known of each item.
        config: how they were counted.
    """

    row: NDArray[np.integer]
    column: NDArray[np.integer]
    units: NDArray[np.int64]
    since: NDArray[np.int64]
    fades: NDArray[np.bool_]
    moments: NDArray[np.float64]
    taken: sp.coo_array
    config: CoOccurrenceConfig

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        events: Events,
        learnt: NDArray[np.bool_],
        config: CoOccurrenceConfig,
    ) -> Self:
        """Count; arguments are those of `CoOccurrence.fit`."""
        size, flat = dataset.n_items, dataset.flat(events.domain, events.item)
        since, later = np.zeros(len(events), np.int64), np.empty(0)
        if not learnt.all():
            later = moments_of(events.time[~learnt], size)
            since[~learnt] = np.searchsorted(later, events.time[~learnt], side="right") + 1
        moments = np.append(day_over(events.time[learnt]), later)
        n_times = len(moments)
        counts = sum(
            (
                _pairs(events.keep(lane), flat[lane], since[lane], moments, size, config)
                for lane in _lanes(events, len(dataset.domains), config)
            ),
            start=sp.csr_array((config.kinds * n_times * size, size), dtype=np.int64),
        ).tocoo()
        # In 32 bits where they do, which halves what a version takes on disk.
        narrow = np.int32 if size < 2**31 else np.int64
        kind, block = np.divmod(counts.row // size, n_times)
        return cls(
            row=(counts.row % size).astype(narrow),
            column=counts.col.astype(narrow),
            units=counts.data,
            since=block,
            fades=kind == 1,
            moments=moments,
            taken=sp.coo_array((np.ones(len(flat)), (since, flat)), shape=(n_times, size)),
            config=config,
        )

    def similarity(self) -> sp.csr_array:
        """Of all that is known, as of the last moment; float32 [n_items, n_items]."""
        size, config = self.taken.shape[1], self.config
        left = remains(self.moments[-1] - self.moments, config.half_life_days)
        share = np.where(self.fades, left[self.since], 1.0)
        units = _whole(self.units.astype(np.float64) * share)
        found = sp.coo_array((units, (self.row, self.column)), shape=(size, size)).tocsr() * GRAIN
        found.eliminate_zeros()
        evidence = self.taken.sum(axis=0) + config.shrinkage
        from_item = np.repeat(np.arange(size), np.diff(found.indptr))
        found.data /= evidence[from_item] ** config.from_power
        found.data /= evidence[found.indices] ** config.to_power
        return found.astype(np.float32)

    def past(self, item_offsets: NDArray[np.int64]) -> Past:
        """What was known when, to answer as of a question's time."""
        size = self.taken.shape[1]
        by_row = np.argsort(self.row, kind="stable")
        amount = (self.units[by_row] * GRAIN).astype(np.float32)
        pairs = rows_of(self.row[by_row], self.column[by_row], amount, (size, size))
        since, fades = self.since[by_row].astype(np.int16), self.fades[by_row]
        return Past(self.moments, pairs, since, fades, self.taken.tocsr(), item_offsets)


def _lanes(
    events: Events, n_domains: int, config: CoOccurrenceConfig
) -> Iterator[NDArray[np.bool_]]:
    """Events that can be together, bool [n_events]: all, or those of each domain."""
    if config.merged:
        yield np.ones(len(events), bool)
    else:
        for domain in range(n_domains):
            yield events.domain == domain


def _pairs(
    events: Events,
    flat: NDArray[np.int64],
    since: NDArray[np.int64],
    moments: NDArray[np.float64],
    size: int,
    config: CoOccurrenceConfig,
) -> sp.csr_array:
    """Weighted pairs (earlier, later) of different items of one user, in units of `GRAIN`.

    Args:
        events: in time order within each user.
        flat: int64 [n_events], their items.
        since: int64 [n_events], when each becomes known; a pair with the later.
        moments: float64 [n_times] Unix seconds by `since`; what fades has done so until then.
        size: how many items there are over all domains.
        config: how pairs weigh.

    Returns:
        int64 [n_times * n_items, n_items]; the counts of one time after those of the one before.
        Where pairs fade there are as many rows again, of what will be gone.
    """
    user, n_times = events.user, len(moments)
    told = np.ones(len(flat))
    if config.trend_power:
        lately = taken_lately(flat, events.time, config.trend_days)
        learnt = since == 0
        if not learnt.all():
            # What counts for questions of any time rests on nothing else.
            lately[learnt] = taken_lately(flat[learnt], events.time[learnt], config.trend_days)
        told = (1 + lately) ** -config.trend_power
    kept = np.ones(max(len(config.fades_to), int(events.domain.max(initial=0)) + 1))
    kept[: len(config.fades_to)] = config.fades_to
    kept = kept[events.domain]
    total = sp.csr_array((config.kinds * n_times * size, size), dtype=np.int64)
    waiting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []

    def fold() -> sp.csr_array:
        row, column, weight = (np.concatenate(part) for part in zip(*waiting, strict=True))
        waiting.clear()
        return total + sp.coo_array((weight, (row, column)), shape=total.shape).tocsr()

    for gap in range(1, config.window + 1):
        first = np.flatnonzero(user[:-gap] == user[gap:])
        if not len(first):
            break
        first = first[flat[first] != flat[first + gap]]
        block = np.maximum(since[first], since[first + gap])
        weight = config.order_decay ** (gap - 1)
        for start, stop, share in ((0, gap, 1.0), (gap, 0, config.backward)):
            if weight * share:
                full = told[first + stop] * (weight * share / GRAIN)
                row, column = block * size + flat[first + start], flat[first + stop]
                stays = kept[first + stop]
                waiting.append((row, column, _whole(full * stays)))
                if (fades := stays < 1).any():
                    age = moments[block] - events.time[first + gap]
                    goes = full * (1 - stays) * remains(age, config.half_life_days)
                    apart = row[fades] + n_times * size
                    waiting.append((apart, column[fades], _whole(goes[fades])))
        if sum(len(column) for *_, column in waiting) > PAIRS_AT_ONCE:
            total = fold()
    return fold() if waiting else total


def _whole(units: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(units).astype(np.int64)
