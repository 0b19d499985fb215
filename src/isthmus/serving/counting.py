"""What the log has taken since a model was made, for counting on what is popular.

Popularity fades within days, so a version that serves for weeks must not answer with that of the
day it was made: on Food–Kitchen replayed by time, counting on was worth more than anything that an
update taught (docs/learning-online.md). Events count as in `isthmus.online.replay`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from isthmus.online.log import EventLog
from isthmus.online.replay import left_out
from isthmus.serving.live import Live

AT_ONCE = 500
"""Records read in one go, so that answers need not wait long for the interpreter."""


@dataclass(frozen=True)
class Tally:
    """Events on known items.

    Attributes:
        upto: offset of the last record that was looked at.
        domain: int64 [n] indices.
        item: int64 [n] local indices.
        time: float64 [n] Unix seconds.
    """

    upto: int
    domain: NDArray[np.int64]
    item: NDArray[np.int64]
    time: NDArray[np.float64]

    @classmethod
    def of(cls, stretches: Sequence[Self]) -> Self:
        """One of several that follow each other."""
        columns = ((s.domain, s.item, s.time) for s in stretches)
        domain, item, time = map(np.concatenate, zip(*columns, strict=True))
        return cls(stretches[-1].upto, domain, item, time)

    def counted_by(self, live: Live) -> Live:
        """The `Live` with these events among what is popular."""
        return live.counting(self.domain, self.item, self.time, upto=self.upto)


def tallies(log: EventLog, live: Live, hidden: Collection[str]) -> Iterator[Tally]:
    """The events that a `Live` has not counted, up to the end of the log, in stretches.

    Args:
        log: that the model follows.
        live: whose numbering counts.
        hidden: people who want nothing of theirs used.

    Raises:
        LogUnavailable: the log cannot be read just now.
    """
    model, places, upto = live.recommender, live.places, live.counted
    number = {name: d for d, name in enumerate(live.names)}
    while records := log.glance(upto, AT_ONCE):
        rows = []
        for event in records:
            if event.shown or event.user_id in hidden:
                continue
            place = places.get(event.domain, {}).get(event.item_id)
            if place is None or left_out(event, model.dataset, model.config):
                continue
            rows.append((number[event.domain], place, event.time))
        domain, item, time = np.array(rows, np.float64).reshape(-1, 3).T
        upto = records[-1].offset
        yield Tally(upto, domain.astype(np.int64), item.astype(np.int64), time)
        if len(records) < AT_ONCE:
            return


def counted(log: EventLog, live: Live, hidden: Collection[str]) -> Live:
    """A `Live` that has counted everything up to the end of the log."""
    found = list(tallies(log, live, hidden))
    return Tally.of(found).counted_by(live) if found else live
