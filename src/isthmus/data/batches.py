"""Histories cut into windows and packed end to end into training batches.

A window is a run of consecutive events of one user; its inputs are all events but the last, its
targets all but the first. Long histories are cut into several windows, so every event after a
user's first is a target exactly once per epoch. Windows of like length share a batch, so that what
little padding attention needs stays small; everything else runs on packed tokens.
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
        targets = np.diff(events.offsets) - 1
        counts = np.maximum(-(-targets // max_length), 0)
        user = np.repeat(np.arange(events.n_users), counts)
        ordinal = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        end = targets[user] - (counts[user] - 1 - ordinal) * max_length
        begin = np.maximum(end - max_length, 0)
        return cls(events.offsets[user] + begin, end - begin)

    @property
    def n_targets(self) -> int:
        """Targets of one epoch."""
        return int(self.length.sum())

    def batches(self, batch_events: int, rng: np.random.Generator) -> Iterator[PackedBatch]:
        """One epoch in random order: batches of about `batch_events` tokens of like windows."""
        noisy = self.length * rng.uniform(0.9, 1.1, len(self.length))
        order = np.argsort(noisy, kind="stable")
        first = np.cumsum(self.length[order]) - self.length[order]
        bounds = np.flatnonzero(np.diff(first // batch_events, prepend=-1, append=-2))
        groups = [order[a:b] for a, b in pairwise(bounds)]
        for group in rng.permutation(len(groups)):
            yield self.pack(groups[group])

    def pack(self, windows: NDArray[np.int64]) -> PackedBatch:
        """The given windows as one batch."""
        length = self.length[windows]
        offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        inputs = np.arange(offsets[-1]) + np.repeat(self.start[windows] - offsets[:-1], length)
        return PackedBatch(offsets, inputs, inputs + 1)
