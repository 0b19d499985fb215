"""Has the world changed? Two streams are watched, each by an adaptive window.

The serving metric: NDCG@100 of the live version on questions about what happened next. The items:
how well known what people choose is at that moment, as its rank among the items by how often they
were chosen before. Both fall when behaviour moves away from what was known; that they rise after
an update is no cause for alarm, so only a fall is one. Where thousands of events come at a time,
chance explains hardly anything, seasons and promotions included, so a fall must be deep as well.

Items are counted up to the moment, not up to what the live version has learnt: where catalogues
grow, choices are ever less known to a version between one update and the next, and that is no
drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from isthmus.continual.adwin import Adwin
from isthmus.continual.judge import Gains
from isthmus.data.dataset import Dataset

STREAMS = ("served quality", "chosen items")


@dataclass
class Watch:
    """Windows over both streams, by name."""

    windows: dict[str, Adwin] = field(default_factory=dict)

    @classmethod
    def new(cls, delta: float) -> Self:
        """Nothing seen so far."""
        return cls({name: Adwin(delta) for name in STREAMS})

    def look(
        self, gains: Gains, dataset: Dataset, fresh: NDArray[np.int64], *, least: float = 0.0
    ) -> tuple[str, ...]:
        """Take what is new, and say which streams have fallen.

        Args:
            gains: of the live version.
            dataset: the snapshot.
            fresh: int64 [n] positions of new events that were not looked at before.
            least: relative fall of a window's mean that counts.
        """
        quality = gains.value[np.argsort(gains.time, kind="stable")]
        streams = dict(zip(STREAMS, (quality, _fame(dataset, fresh)), strict=True))
        fallen = []
        for name, values in streams.items():
            window = self.windows[name]
            before = window.mean
            unlikely = any(change < 0 for change in window.extend(values))
            if unlikely and window.mean < (1 - least) * before:
                fallen.append(name)
        return tuple(fallen)

    def state(self) -> dict[str, Any]:
        """Plain values to save."""
        return {name: window.state() for name, window in self.windows.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The same windows again."""
        return cls({name: Adwin.from_state(saved) for name, saved in state.items()})


def _fame(dataset: Dataset, fresh: NDArray[np.int64]) -> NDArray[np.float64]:
    """How well known the items of some events were just before, float64 [n], in order of time.

    Each in [0, 1]: 0 where it had never been chosen, else the rank of how often it had by then,
    among the items of its domain that had been chosen before the first of these events.
    """
    events = dataset.events
    order = fresh[np.argsort(events.time[fresh], kind="stable")]
    earlier = np.ones(len(events), bool)
    earlier[fresh] = False
    chosen = np.bincount(
        dataset.flat(events.domain[earlier], events.item[earlier]), minlength=dataset.n_items
    )
    flat = dataset.flat(events.domain[order], events.item[order])
    by_then = chosen[flat] + _times_before(flat)
    fame = np.zeros(len(order))
    for start, stop in zip(dataset.item_offsets, dataset.item_offsets[1:], strict=False):
        here = (flat >= start) & (flat < stop)
        known = np.sort(chosen[start:stop])
        known = known[known.searchsorted(0, "right") :]
        fewer = known.searchsorted(by_then[here], "left")
        no_more = known.searchsorted(by_then[here], "right")
        fame[here] = (fewer + no_more) / max(2 * len(known), 1)
    return fame


def _times_before(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each value stands before its own place, int64 [n]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    found = np.empty(len(values), np.int64)
    found[order] = np.arange(len(values)) - np.repeat(
        starts, np.diff(np.append(starts, len(values)))
    )
    return found
