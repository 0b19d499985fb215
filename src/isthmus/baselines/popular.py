"""What everybody takes: popularity over all time, and popularity lately.

Scores are log(1 + count): the order is that of the counts, and the scale suits a blend. Items with
equal counts stay tied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from isthmus.data.dataset import Dataset, Events
from isthmus.scoring import Float, Requests, Scores, pick
from isthmus.training.checkpoint import State

DAY = 86_400.0
# An event this many half-lives old weighs less than single precision can add to a new one.
LIVES = 60.0


class Popular:
    """Number of training events of each item; who asks makes no difference."""

    name = "popular"

    def __init__(self, count: NDArray[np.int64], item_offsets: NDArray[np.int64]) -> None:
        """Args: count int64 [n_items] over all domains, in the flat numbering."""
        self._count, self._item_offsets = count, item_offsets

    @classmethod
    def fit(cls, dataset: Dataset, events: Events) -> Self:
        """Count `events`, what may be learned from."""
        flat = dataset.flat(events.domain, events.item)
        return cls(np.bincount(flat, minlength=dataset.n_items), dataset.item_offsets)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`."""
        count = self._count[self._item_offsets[domain] : self._item_offsets[domain + 1]]
        level = np.log1p(count).astype(np.float32)
        return Scores(pick(np.tile(level, (len(requests), 1)), items))

    def state(self) -> State:
        """Counts per item."""
        return State({"count": self._count, "item_offsets": self._item_offsets})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        return cls(
            state.arrays["count"].astype(np.int64), state.arrays["item_offsets"].astype(np.int64)
        )


class RecentPopularConfig(BaseModel):
    """How fast popularity fades."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    half_life_days: float = Field(7.0, gt=0, description="Days in which an event loses half.")
    half_life_share: float = Field(
        0.25, gt=0, description="The same where events have no time, as a share of the history."
    )


def _faded(events: Events, half_life: float) -> NDArray[np.float64]:
    """Weight of each event by how much of its user's history in its domain came later, [n]."""
    lane = events.user * (int(events.domain.max(initial=0)) + 1) + events.domain
    order = np.argsort(lane, kind="stable")
    _, first, length = np.unique(lane[order], return_index=True, return_counts=True)
    later = np.empty(len(events))
    later[order] = np.repeat(first + length, length) - 1 - np.arange(len(events))
    of_all = np.empty(len(events))
    of_all[order] = np.repeat(length, length)
    return np.asarray(np.exp2(-later / of_all / half_life))


def taken_lately(
    item: NDArray[np.int64], time: NDArray[np.float64], half_life_days: float
) -> NDArray[np.float64]:
    """How popular each event's item was in the days before it, as `RecentPopular` counts.

    Args:
        item: int64 [n] in the flat numbering.
        time: float64 [n] Unix seconds, NaN where unknown.
        half_life_days: in which an event loses half.

    Returns:
        float64 [n] faded counts, 0 for events without a time.
    """
    found = np.zeros(len(item))
    timed = np.flatnonzero(~np.isnan(time))
    day = np.floor(time[timed] / DAY)
    order = np.argsort(day, kind="stable")
    days, first = np.unique(day[order], return_index=True)
    count = np.zeros(int(item.max(initial=-1)) + 1)
    upto = np.full(len(count), -np.inf)
    # Without any event there is no day, but one piece.
    for today, rows in zip(days, np.split(timed[order], first[1:]), strict=False):
        taken = item[rows]
        # At the end of yesterday; an item's own days are all that is looked at.
        before = count[taken] * np.exp2((upto[taken] + 1 - today) / half_life_days)
        found[rows] = before
        count[taken], upto[taken] = before * np.exp2(-1 / half_life_days), today
        np.add.at(count, taken, 1.0)
    return found


@dataclass(frozen=True)
class Fading:
    """Counts at the end of the last day, to be counted on without the days before it.

    Attributes:
        counts: per domain, float64 [n_items], events with a time, faded.
        untimed: per domain, float64 [n_items], those without one.
        day: the last day with an event, in days since 1970; None: there is none.
        half_life_days: in which an event loses half.
    """

    counts: tuple[NDArray[np.float64], ...]
    untimed: tuple[NDArray[np.float64], ...]
    day: float | None
    half_life_days: float

    def counting(
        self, domain: NDArray[np.int64], item: NDArray[np.int64], time: NDArray[np.float64]
    ) -> Self:
        """With more events; one from before the last day counts as far as it has faded.

        Args:
            domain: int64 [n] indices.
            item: int64 [n] local indices; those beyond the catalogue make it longer.
            time: float64 [n] Unix seconds.
        """
        if not len(time):
            return self
        day = np.floor(time / DAY)
        last = float(max(day.max(), -np.inf if self.day is None else self.day))
        gone = 1.0 if self.day is None else np.exp2((self.day - last) / self.half_life_days)
        weight = np.exp2((day - last) / self.half_life_days)
        counts: list[NDArray[np.float64]] = []
        for d, before in enumerate(self.counts):
            mine = domain == d
            n = max(len(before), int(item[mine].max(initial=-1)) + 1)
            grown = np.pad(gone * before, (0, n - len(before)))
            np.add.at(grown, item[mine], weight[mine])
            counts.append(grown)
        return replace(self, counts=tuple(counts), day=last)

    def level(self, domain: int) -> Float:
        """As `RecentPopular` scores for somebody who asks after the last day, float32 [n_items]."""
        total = self.counts[domain].copy()
        total[: len(self.untimed[domain])] += self.untimed[domain]
        found: Float = np.log1p(total).astype(np.float32)
        return found


class RecentPopular:
    """Training events on the days before the question, fading by their age.

    Only days that were over when the question was asked count, so leave-one-out questions see no
    event of their own day or later. A question after the last training event, or without a time,
    sees popularity at the end of training. Events without a time fade by their relative place in
    their user's history in that domain, the same for every question, since users share no clock.
    """

    name = "recent-popular"

    def __init__(
        self,
        daily: sp.csr_array,
        days: NDArray[np.float64],
        untimed: NDArray[np.float64],
        item_offsets: NDArray[np.int64],
        config: RecentPopularConfig,
    ) -> None:
        """Args are what `state` saves.

        daily: float64 [n_days, n_items], events of each day and item in the flat numbering; a
            row for every day with an event, however long there was none between.
        days: float64 [n_days], of each row, in days since 1970, rising.
        untimed: float64 [n_items], faded events without a time.
        item_offsets: int64 [n_domains + 1].
        config: as fitted.
        """
        self.config = config
        self._daily, self._days, self._untimed = daily, days, untimed
        self._item_offsets = item_offsets
        self._of_domain = [daily[:, start:stop] for start, stop in pairwise(item_offsets)]

    @classmethod
    def fit(
        cls, dataset: Dataset, events: Events, config: RecentPopularConfig | None = None
    ) -> Self:
        """Count `events`, what may be learned from, by day."""
        config = config or RecentPopularConfig()
        flat = dataset.flat(events.domain, events.item)
        timed = ~np.isnan(events.time)
        days, row = np.unique(np.floor(events.time[timed] / DAY), return_inverse=True)
        shape = (len(days), dataset.n_items)
        daily = sp.coo_array((np.ones(len(row)), (row, flat[timed])), shape=shape).tocsr()
        untimed = np.zeros(dataset.n_items)
        np.add.at(untimed, flat[~timed], _faded(events, config.half_life_share)[~timed])
        return cls(daily, days, untimed, dataset.item_offsets, config)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; reads nothing of a request but its time."""
        daily = self._of_domain[domain]
        first, end = (self._days[0], self._days[-1] + 1) if len(self._days) else (0.0, 0.0)
        asked = np.nan_to_num(np.floor(requests.query_time / DAY), nan=end)
        moments, of_request = np.unique(np.clip(asked, first, end), return_inverse=True)
        lives = (moments[:, None] - 1 - self._days) / self.config.half_life_days
        weight = np.where((lives >= 0) & (lives < LIVES), np.exp2(-np.maximum(lives, 0)), 0.0)
        counts: NDArray[np.float64] = (sp.csr_array(weight) @ daily).toarray()
        counts += self._untimed[self._item_offsets[domain] : self._item_offsets[domain + 1]]
        level: Float = np.log1p(counts).astype(np.float32)
        return Scores(pick(level[of_request], items))

    def fading(self) -> Fading:
        """What somebody who asks after the last day sees, to be counted on."""
        last = float(self._days[-1]) if len(self._days) else None
        age = (last or 0.0) - self._days
        weight = np.exp2(-np.minimum(age / self.config.half_life_days, LIVES))
        bounds = list(pairwise(self._item_offsets))
        return Fading(
            tuple(np.asarray(weight @ daily, np.float64) for daily in self._of_domain),
            tuple(self._untimed[start:stop] for start, stop in bounds),
            last,
            self.config.half_life_days,
        )

    def state(self) -> State:
        """Events of each day as arrays of a CSR, and the configuration."""
        arrays = {
            "data": self._daily.data,
            "indices": self._daily.indices,
            "indptr": self._daily.indptr,
            "days": self._days,
            "untimed": self._untimed,
            "item_offsets": self._item_offsets,
        }
        return State(arrays, {"config": self.config.model_dump(mode="json")})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same scorer again."""
        arrays = state.arrays
        shape = (len(arrays["indptr"]) - 1, len(arrays["untimed"]))
        daily = sp.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        # Older folders have a row for every day from the first on.
        days = arrays["days"] if "days" in arrays else state.meta["first_day"] + np.arange(shape[0])
        return cls(
            daily,
            days.astype(np.float64),
            arrays["untimed"].astype(np.float64),
            arrays["item_offsets"].astype(np.int64),
            RecentPopularConfig.model_validate(state.meta["config"]),
        )
