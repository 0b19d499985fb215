"""Histories cut into windows and packed end to end into training batches.

A window is a run of consecutive events of one user; its inputs are all events but the last, its
targets all but the first. Long histories are cut into several windows, so every event after a
user's first is a target exactly once per epoch. Windows of like length share a batch, so that what
little padding attention needs stays small; everything else runs on packed tokens.

Somebody new to a domain has a history without it. `NewcomerWindows` shows histories so, and what
came in the domain after each event elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Events


@dataclass(frozen=True)
class PackedBatch:
    """Windows end to end.

    Attributes:
        offsets: int64 [n_windows + 1]; window w has the tokens `offsets[w]:offsets[w + 1]`.
        inputs: int64 [tokens] positions in the events of what is read.
        targets: int64 [tokens] positions in the events of what comes next.
    """

    offsets: NDArray[np.int64]
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """All training windows of one CSR of events.

    Attributes:
        start: int64 [n_windows] first event of each window.
        length: int64 [n_windows] number of targets, at least 1.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def cut(cls, events: Events, max_length: int) -> Windows:
        """Cut every history into windows of at most `max_length` targets, full ones last."""
        return cls(*_cut(events.offsets[:-1], np.diff(events.offsets) - 1, max_length))

    @property
    def n_targets(self) -> int:
        """Targets of one epoch."""
        return int(self.length.sum())

    def batches(self, batch_events: int, rng: np.random.Generator) -> Iterator[PackedBatch]:
        """One epoch in random order: batches of about `batch_events` tokens of like windows."""
        for group in _groups(self.length, batch_events, rng):
            yield self.pack(group)

    def pack(self, windows: NDArray[np.int64]) -> PackedBatch:
        """The given windows as one batch."""
        offsets, inputs = _end_to_end(self.start[windows], self.length[windows])
        return PackedBatch(offsets, inputs, inputs + 1)


@dataclass(frozen=True)
class NewcomerWindows:
    """Histories without one domain, each event with what followed in that domain.

    Attributes:
        start: int64 [n_windows] first of each window's events, as a place in `read`.
        length: int64 [n_windows] number of events, at least 1.
        read: int64 [n] positions of the events elsewhere that something in the domain follows.
        own: int64 [m] positions of the events in the domain.
        follows: int64 [n] place in `own` of the first one after each of `read`.
        left: int64 [n] how many of the same person's there are from there on.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    read: NDArray[np.int64]
    own: NDArray[np.int64]
    follows: NDArray[np.int64]
    left: NDArray[np.int64]

    @classmethod
    def cut(cls, events: Events, domain: int, max_length: int) -> NewcomerWindows:
        """Cut the histories without `domain` into windows of at most `max_length` events."""
        inside = events.domain == domain
        own, read = np.flatnonzero(inside), np.flatnonzero(~inside)
        follows = np.searchsorted(own, read)
        left = np.searchsorted(own, events.offsets[events.user[read] + 1]) - follows
        some = left > 0
        read, follows, left = read[some], follows[some], left[some]
        count = np.bincount(events.user[read], minlength=events.n_users)
        start, length = _cut(np.cumsum(count) - count, count, max_length)
        return cls(start, length, read, own, follows, left)

    def batches(
        self, batch_events: int, rng: np.random.Generator, *, reach: int
    ) -> Iterator[PackedBatch]:
        """Every window once in random order, each event with one of the `reach` that follow it."""
        for group in _groups(self.length, batch_events, rng):
            offsets, place = _end_to_end(self.start[group], self.length[group])
            further = rng.integers(0, np.minimum(self.left[place], reach))
            yield PackedBatch(offsets, self.read[place], self.own[self.follows[place] + further])


Places = NDArray[np.int64]


def _cut(first: Places, length: Places, max_length: int) -> tuple[Places, Places]:
    """Runs [n] from `first` on, cut into pieces of at most `max_length`, full ones last."""
    counts = np.maximum(-(-length // max_length), 0)
    run = np.repeat(np.arange(len(length)), counts)
    ordinal = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    end = length[run] - (counts[run] - 1 - ordinal) * max_length
    begin = np.maximum(end - max_length, 0)
    return first[run] + begin, end - begin


def _groups(length: Places, batch_events: int, rng: np.random.Generator) -> Iterator[Places]:
    """Windows of like length together, about `batch_events` events a group, in random order."""
    noisy = length * rng.uniform(0.9, 1.1, len(length))
    order = np.argsort(noisy, kind="stable")
    first = np.cumsum(length[order]) - length[order]
    bounds = np.flatnonzero(np.diff(first // batch_events, prepend=-1, append=-2))
    groups = [order[a:b] for a, b in pairwise(bounds)]
    for group in rng.permutation(len(groups)):
        yield groups[group]


def _end_to_end(start: Places, length: Places) -> tuple[Places, Places]:
    """Offsets [n + 1] of runs laid end to end, and the places that they cover."""
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    return offsets, np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], length)
