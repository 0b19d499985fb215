"""What had been counted at moments of the past, so that a question is answered as of its time.

Life goes on after training, and updates count on. A question from back then must see what could
have been counted by then: all training events, and of the later ones those of days that were over.
Days are put together where there are too many: each moment takes a row of counts per item.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isthmus.baselines.popular import DAY
from isthmus.baselines.similarities import spread
from isthmus.scoring import Float
from isthmus.training.checkpoint import State

MOST = 256
"""Moments; half a year of days has one each."""

CELLS = 1 << 24
"""Counts of all items at all moments, 64 MB while questions of the past are answered."""

ENTRIES_AT_ONCE = 1 << 22
_PREFIX = "past_"


def moments_of(time: NDArray[np.float64], n_items: int) -> NDArray[np.float64]:
    """Starts of days, with about as many events between each and the next.

    Args:
        time: float64 [n] Unix seconds, none of them NaN.
        n_items: how many are counted.

    Returns:
        float64 [k] Unix seconds, rising; the last is the start of the day after the last event.
        There are at most `MOST`, and at most `CELLS` counts of all items at all of them.
    """
    over, n = np.unique(np.floor(time / DAY) + 1, return_counts=True)
    most = min(MOST, max(CELLS // max(n_items, 1), 1))
    share = np.ceil(n.cumsum() / max(len(time), 1) * most)
    # Of days that share a moment the last one gives it, when all of them are over.
    last = np.append(np.diff(share) > 0, True)[: len(share)]
    return np.asarray(over[last] * DAY)


def day_over(time: NDArray[np.float64]) -> float:
    """Start of the day after the last of some events, in Unix seconds; NaN among them are none."""
    return float((np.floor(np.nanmax(time, initial=0.0) / DAY) + 1) * DAY)


def remains(age: NDArray[np.float64], half_life_days: float) -> NDArray[np.float64]:
    """What is left of what fades, [n] by its age in seconds; nothing where that is unknown.

    What lies ahead, as an event with a mistyped date may, is as new as can be.
    """
    half_lives = np.maximum(age, 0) / (half_life_days * DAY)
    return np.asarray(np.nan_to_num(np.exp2(-half_lives), nan=0.0))


@dataclass(frozen=True)
class Past:
    """Pair counts as they stood at each of some moments.

    A count of `since` 0 is of training and there for every question, one of s for those asked at
    moment s or after it. One that fades is told as it stood at that moment.

    Attributes:
        moments: float64 [k] Unix seconds, rising; the first is when training was over.
        pairs: float32 [n_items, n_items] in the flat numbering; a place may have several entries,
            one of each `since` and `fades`.
        since: int16 [number of entries].
        fades: bool [number of entries].
        taken: float64 [k, n_items], events of each item by `since`.
        item_offsets: int64 [n_domains + 1].
    """

    moments: NDArray[np.float64]
    pairs: sp.csr_array
    since: NDArray[np.int16]
    fades: NDArray[np.bool_]
    taken: sp.csr_array
    item_offsets: NDArray[np.int64]

    def passed(self, query_time: NDArray[np.float64]) -> NDArray[np.int64]:
        """The last moment before each question, int64 [batch]; without a time, of all."""
        return np.searchsorted(self.moments[1:], query_time, side="right")

    def similarities(
        self,
        history: sp.csr_array,
        passed: NDArray[np.int64],
        domain: int,
        *,
        shrinkage: float,
        powers: tuple[float, float],
        half_life_days: float,
    ) -> Float:
        """Weighted sums of the similarities that history items had to those of a domain.

        Args:
            history: float32 [batch, n_items], the weights in the order in which they add up.
            passed: int64 [batch], see there.
            domain: whose items are scored.
            shrinkage: added to the events of each item.
            powers: of the events of history item and candidate, see `CoOccurrenceConfig`.
            half_life_days: of the entries that fade.

        Returns:
            float32 [batch, n_items of the domain].
        """
        pairs, since, fades = self._towards[domain]
        row = np.arange(len(passed)).repeat(np.diff(history.indptr))
        # What nobody had taken is in no pair, and may have any evidence but none.
        taken = np.maximum(self._taken[passed[row], history.indices], 1)
        evidence = taken.astype(np.float64) + shrinkage
        weight = history.data * evidence ** -powers[0]
        start, stop = pairs.indptr[history.indices], pairs.indptr[history.indices + 1]
        found = np.zeros((len(passed), pairs.shape[1]), np.float32)
        for piece in _pieces(stop - start):
            length = (stop - start)[piece]
            event = np.arange(piece.start, piece.stop).repeat(length)
            entry = np.arange(len(event)) + (stop[piece] - length.cumsum()).repeat(length)
            known = since[entry] <= passed[row[event]]
            event, entry = event[known], entry[known]
            cell = row[event] * found.shape[1] + pairs.indices[entry]
            counts = weight[event] * pairs.data[entry]
            old = np.flatnonzero(fades[entry])
            age = self.moments[passed[row[event[old]]]] - self.moments[since[entry[old]]]
            counts[old] *= remains(age, half_life_days)
            added = counts.astype(np.float32)
            np.add.at(found.reshape(-1), cell, added)
        begin, end = self.item_offsets[domain : domain + 2]
        for moment in np.unique(passed):
            taken = np.maximum(self._taken[moment, begin:end], 1).astype(np.float64)
            found[passed == moment] *= ((taken + shrinkage) ** -powers[1]).astype(np.float32)
        return found

    @cached_property
    def _taken(self) -> Float:
        """Events of each item that had been counted at each moment, float32 [k, n_items]."""
        found = self.taken.astype(np.float32).toarray()
        return np.cumsum(found, axis=0, out=found)

    @cached_property
    def _towards(self) -> list[tuple[sp.csr_array, NDArray[np.int16], NDArray[np.bool_]]]:
        """Of each domain the columns of `pairs`, with `since` and `fades` of their entries."""
        n_items, column = len(self.pairs.indptr) - 1, self.pairs.indices
        row = np.arange(n_items).repeat(np.diff(self.pairs.indptr))
        found = []
        for begin, end in pairwise(self.item_offsets.tolist()):
            here = (column >= begin) & (column < end)
            entries = row[here], column[here] - begin, self.pairs.data[here]
            pairs = rows_of(*entries, (n_items, end - begin))
            found.append((pairs, self.since[here], self.fades[here]))
        return found

    def renumbered(self, place: NDArray[np.int64], item_offsets: NDArray[np.int64]) -> Self:
        """The same counts where old item i stands at `place[i]` of a larger numbering."""
        size = int(item_offsets[-1])
        pairs, taken = spread(self.pairs, place, size), self.taken
        parts = (taken.data, place[taken.indices], taken.indptr)
        moved = sp.csr_array(parts, shape=(taken.shape[0], size))
        return type(self)(self.moments, pairs, self.since, self.fades, moved, item_offsets)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything but the item offsets, by names of its own."""
        found = {
            "moments": self.moments,
            "since": self.since,
            "fades": self.fades,
            "pairs": self.pairs.data,
            "pairs_indices": self.pairs.indices,
            "pairs_indptr": self.pairs.indptr,
            "taken": self.taken.data,
            "taken_indices": self.taken.indices,
            "taken_indptr": self.taken.indptr,
        }
        return {_PREFIX + name: array for name, array in found.items()}

    @classmethod
    def of(cls, state: State, item_offsets: NDArray[np.int64]) -> Self | None:
        """What `arrays` gave, among those of a state; None where there is no past."""
        if _PREFIX + "moments" not in state.arrays:
            return None
        size = int(item_offsets[-1])

        def array(name: str) -> NDArray[np.generic]:
            return state.arrays[_PREFIX + name]

        def matrix(name: str, n_rows: int) -> sp.csr_array:
            parts = (array(name), array(f"{name}_indices"), array(f"{name}_indptr"))
            return sp.csr_array(parts, shape=(n_rows, size))

        moments, pairs = array("moments").astype(np.float64), matrix("pairs", size)
        if _PREFIX + "fades" in state.arrays:
            fades = array("fades").astype(bool)
        else:  # in older folders nothing fades, and the end of training is not told
            moments, fades = np.append(-np.inf, moments), np.zeros(len(pairs.data), bool)
        taken, since = matrix("taken", len(moments)), array("since").astype(np.int16)
        return cls(moments, pairs, since, fades, taken, item_offsets)


def rows_of(
    row: NDArray[np.integer],
    column: NDArray[np.integer],
    data: NDArray[np.float32],
    shape: tuple[int, int],
) -> sp.csr_array:
    """Entries sorted by row as a CSR, in the order they have and with repeats."""
    indptr = np.concatenate([[0], np.bincount(row, minlength=shape[0]).cumsum()])
    indptr = indptr.astype(column.dtype)
    return sp.csr_array((data, column, indptr), shape=shape)


def _pieces(length: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of events with at most `ENTRIES_AT_ONCE` entries together, or one event."""
    start, total = 0, np.concatenate([[0], length.cumsum()])
    while start < len(length):
        stop = int(np.searchsorted(total, total[start] + ENTRIES_AT_ONCE, side="right")) - 1
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start = stop
