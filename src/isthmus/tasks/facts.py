"""What is known of ratings before each question: of the person, of the item, of both domains.

A rating is explained first by who gives it and what it is given to. These facts are sums of
deviations and how many they rest on, taken strictly before the question, so that what a head learns
from them in training holds for questions later on:

* in a domain all of whose ratings have a time, whatever was rated at an earlier moment, by anybody;
* in any other, in training the ratings by other people than the question's own fifth of them, and
  all of the training for held-back questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Events
from isthmus.data.splits import Split, user_hash
from isthmus.tasks.examples import Examples

Float = NDArray[np.float32]

N_FACTS = 6
"""Item's sum and count; the person's; the person's in the item's domain."""

PRIOR = 3.0
"""Ratings at the mean that an item is given before its own, where a person's deviation from it is
taken. On Ciao validation anything from 2 to 10 is within .001 RMSE."""

FOLDS = 5


@dataclass(frozen=True)
class RatingFacts:
    """Ratings of a snapshot as deviations, ready to be looked up at any moment.

    Attributes:
        mean: float64 [n_domains] mean training rating; that of all where a domain has none.
        deviation: float64 [n_events] rating minus the domain's mean and the item's shrunk
            deviation as it was known then; 0 where there is no rating.
        by_item: sums of `rating − mean` per item.
    """

    dataset: Dataset
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    by_item: _Timeline

    @classmethod
    def of(cls, dataset: Dataset, split: Split) -> RatingFacts:
        """Look through a snapshot; what may be known when follows the split."""
        events = dataset.events
        rated = ~np.isnan(events.rating)
        learnt = rated & split.in_train
        domain = events.domain.astype(np.int64)
        count = np.bincount(domain[learnt], minlength=len(dataset.domains))
        total = np.bincount(domain[learnt], events.rating[learnt], len(dataset.domains))
        overall = total.sum() / max(count.sum(), 1)
        mean = np.where(count > 0, total / np.maximum(count, 1), overall)
        centred = np.where(rated, events.rating - mean[domain], 0.0)
        untimed = np.bincount(domain[rated & np.isnan(events.time)], minlength=len(count))
        clocks = untimed == 0
        # Without a clock nothing tells a question's own answer from what was known before it.
        known = learnt | (rated & clocks[domain]) if split.name == "global" else learnt
        timeline = _Timeline.of(dataset, centred, known, clocks)
        sums, counts = timeline.before(
            dataset.flat(events.domain, events.item), events.user, events.time, split.in_train
        )
        deviation = np.where(rated, centred - sums / (counts + PRIOR), 0.0)
        return cls(dataset, mean, deviation, timeline)

    def at(self, examples: Examples, *, in_training: bool) -> Float:
        """Facts before each example, float32 [n, N_FACTS].

        Args:
            examples: people, moments and items.
            in_training: whether these were learnt from, which matters where there are no clocks.
        """
        flat = self.dataset.item_offsets[examples.domain] + examples.item
        mask = np.full(len(examples), in_training)
        item = self.by_item.before(flat, examples.user, examples.time, mask)
        # Somebody new has no ratings: nothing stands between 0 and 0.
        start = np.where(examples.user < 0, 0, self.dataset.events.offsets[examples.user])
        return np.column_stack(
            [*item, *self._own(start, examples.end), *self._own(start, examples.end, examples)]
        ).astype(np.float32)

    def _own(
        self,
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        examples: Examples | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sum and count of people's own deviations in `start:end`; with examples, by domain."""
        events = self.dataset.events
        rated = ~np.isnan(events.rating)
        if examples is None:
            return _between(self.deviation, start, end), _between(rated, start, end)
        sums, counts = np.zeros(len(start)), np.zeros(len(start))
        for d in np.unique(examples.domain).tolist():
            here, mask = events.domain == d, examples.domain == d
            sums[mask] = _between(self.deviation * here, start[mask], end[mask])
            counts[mask] = _between(rated & here, start[mask], end[mask])
        return sums, counts


@dataclass(frozen=True)
class _Timeline:
    """Ratings per item in order of time, with running sums.

    Attributes:
        key: int64 [n] flat item of each known rating, rising.
        time: float64 [n] rising within an item.
        fold: int64 [n] which share of people it is by.
        value: float64 [n] what is summed.
        folds: int64 [n_users].
        clocks: bool [n_items] by flat item; whether every rating of its domain has a time.
    """

    key: NDArray[np.int64]
    time: NDArray[np.float64]
    fold: NDArray[np.int64]
    value: NDArray[np.float64]
    folds: NDArray[np.int64]
    clocks: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        value: NDArray[np.float64],
        known: NDArray[np.bool_],
        clocks: NDArray[np.bool_],
    ) -> _Timeline:
        """The ratings of a snapshot.

        Args:
            dataset: the snapshot.
            value: float64 [n_events] what is summed.
            known: bool [n_events] which events have a rating that may be read.
            clocks: bool [n_domains] where every rating has a time.
        """
        events: Events = dataset.events
        rows = np.flatnonzero(known)
        flat = dataset.flat(events.domain[rows], events.item[rows])
        rows = rows[np.lexsort((events.time[rows], flat))]
        folds = user_hash(dataset.user_ids.to_list(), "rating-folds") * FOLDS
        return cls(
            key=dataset.flat(events.domain[rows], events.item[rows]),
            time=events.time[rows],
            fold=folds.astype(np.int64)[events.user[rows]],
            value=value[rows],
            folds=folds.astype(np.int64),
            clocks=clocks.repeat(np.diff(dataset.item_offsets)),
        )

    def before(
        self,
        flat: NDArray[np.int64],
        user: NDArray[np.int64],
        time: NDArray[np.float64],
        in_training: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sum and count of each item's ratings before each question."""
        first, last = (np.searchsorted(self.key, flat, side) for side in ("left", "right"))
        clock = self.clocks[flat]
        # A question without a time comes after everything.
        timed = clock & ~np.isnan(time)
        last = np.where(timed, first + self._earlier(flat, time, first), last)
        sums, counts = _between(self.value, first, last), (last - first).astype(np.float64)
        for fold in range(FOLDS):
            own = in_training & ~clock & (self.folds[user] == fold)
            mask = self.fold == fold
            sums[own] -= _between(self.value * mask, first[own], last[own])
            counts[own] -= _between(mask, first[own], last[own])
        return sums, counts

    def _earlier(
        self, flat: NDArray[np.int64], time: NDArray[np.float64], first: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """How many ratings of each item stand at an earlier moment."""
        moments = np.unique(self.time)
        width = len(moments) + 1
        placed = self.key * width + np.searchsorted(moments, self.time)
        asked = flat * width + np.searchsorted(moments, time)
        return np.asarray(np.searchsorted(placed, asked, "left") - first, np.int64)


def _between(
    values: NDArray[np.float64] | NDArray[np.bool_],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Sums of `values[start:end]`, [n]."""
    running = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return np.asarray(running[end] - running[start])
