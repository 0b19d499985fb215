"""What the log has taken since a model was made, for counting on what is popular.

Popularity fades within days, so a version that serves for weeks must not answer with that of the
day it was made: on Food–Kitchen replayed by time, counting on was worth more than anything that an
update taught (docs/learning-online.md). Events count as in `isthmus.online.replay`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.online.events import Event
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


def tally(log: EventLog, live: Live, hidden: Collection[str]) -> Tally | None:
    """The next events that a `Live` has not counted; None: there are no more records.

    Args:
        log: that the model follows.
        live: whose numbering counts.
        hidden: people who want nothing of theirs used.

    Raises:
        LogUnavailable: the log cannot be read just now.
    """
    records = log.read(live.counted, AT_ONCE)
    if not records:
        return None
    model = live.recommender
    number = {name: d for d, name in enumerate(live.names)}
    places, rows = live.places, []
    for logged in records:
        event = logged.record
        if not isinstance(event, Event) or event.user_id in hidden:
            continue
        place = places.get(event.domain, {}).get(event.item_id)
        if place is None or left_out(event, model.dataset, model.config):
            continue
        rows.append((number[event.domain], place, event.time))
    domain, item, time = np.array(rows, np.float64).reshape(-1, 3).T
    return Tally(records[-1].offset, domain.astype(np.int64), item.astype(np.int64), time)


def counted(log: EventLog, live: Live, hidden: Collection[str]) -> Live:
    """A `Live` that has counted everything up to the end of the log."""
    while more := tally(log, live, hidden):
        live = live.counting(more.domain, more.item, more.time, upto=more.upto)
    return live
