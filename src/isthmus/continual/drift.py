"""Has the world changed? Two streams are watched, each by an adaptive window.

The serving metric: NDCG@100 of the live version on questions about what happened next. The items:
how well known what people choose was to the live version, as its rank among the items by events
learnt. Both fall when behaviour moves away from what was learnt; that they rise after an update is
no cause for alarm, so only a fall is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

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
        self, gains: Gains, dataset: Dataset, fresh: NDArray[np.int64], known: NDArray[np.float32]
    ) -> tuple[str, ...]:
        """Take what is new, and say which streams have fallen.

        Args:
            gains: of the live version.
            dataset: the snapshot.
            fresh: int64 [n] positions of new events that were not looked at before.
            known: float32 [n_items] events that the live version has learnt of each item.
        """
        quality = gains.value[np.argsort(gains.time, kind="stable")]
        events = dataset.events
        order = fresh[np.argsort(events.time[fresh], kind="stable")]
        flat = dataset.flat(events.domain[order], events.item[order])
        fame = np.zeros(len(known))
        for start, stop in zip(dataset.item_offsets, dataset.item_offsets[1:], strict=False):
            fame[start:stop] = rankdata(known[start:stop]) / max(stop - start, 1)
        streams = dict(zip(STREAMS, (quality, fame[flat]), strict=True))
        fallen = []
        for name, values in streams.items():
            if any(change < 0 for change in self.windows[name].extend(values)):
                fallen.append(name)
        return tuple(fallen)

    def state(self) -> dict[str, Any]:
        """Plain values to save."""
        return {name: window.state() for name, window in self.windows.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The same windows again."""
        return cls({name: Adwin.from_state(saved) for name, saved in state.items()})
