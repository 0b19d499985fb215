"""What somebody has done: what the model's snapshot holds of them, then what the log has since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.online.events import Choice
from isthmus.recommender.asking import Asked, Origin
from isthmus.scoring import Requests

Place = tuple[int, int]
"""(domain index, local item index)."""


@dataclass(frozen=True)
class Past:
    """One person's history, oldest first.

    Attributes:
        domain: int16 [n].
        item: int32 [n] local item indices.
        time: float64 [n] Unix seconds, NaN where unknown.
        user: row in the model's snapshot, -1 for somebody whom it does not know.
        origin: where the history comes from.
    """

    domain: NDArray[np.int16]
    item: NDArray[np.int32]
    time: NDArray[np.float64]
    user: int
    origin: Origin

    def __len__(self) -> int:
        return len(self.item)


def past_of(
    dataset: Dataset,
    places: Mapping[str, Mapping[str, int]],
    *,
    user_id: str | None = None,
    logged: Sequence[Choice] = (),
    given: Sequence[Place] = (),
    forgotten: bool = False,
) -> Past:
    """Put a history together.

    Args:
        dataset: the model's snapshot.
        places: domain name → raw item id → local index, new items included.
        user_id: who asks; None: nobody who is known by an id.
        logged: what the log holds of them; events that the snapshot holds as well count once.
        given: a session told with the question, after everything else.
        forgotten: whether the snapshot's events of them must not be used.
    """
    row = -1 if user_id is None or forgotten else dataset.user_index.get(user_id, -1)
    start, stop = (int(b) for b in dataset.events.offsets[row : row + 2]) if row >= 0 else (0, 0)
    events = dataset.events
    domain, item = events.domain[start:stop], events.item[start:stop]
    time = events.time[start:stop]
    fresh = _fresh(
        dataset.names,
        places,
        logged,
        zip(domain.tolist(), item.tolist(), time.tolist(), strict=True),
    )
    pairs = [(d, i) for d, i, _ in fresh] + list(given)
    if pairs:
        more = np.array(pairs, np.int64)
        moments = [t for *_, t in fresh] + [np.nan] * len(given)
        domain = np.concatenate([domain, more[:, 0]]).astype(np.int16)
        item = np.concatenate([item, more[:, 1]]).astype(np.int32)
        time = np.concatenate([time, moments])
        own = time[: len(time) - len(given)]
        if (own[1:] < own[:-1]).any() and not np.isnan(own).any():
            # Events may arrive late.
            order = np.concatenate([np.argsort(own, kind="stable"), np.arange(len(own), len(time))])
            domain, item, time = domain[order], item[order], time[order]
    if row >= 0 or fresh:
        origin = Origin.KNOWN
    else:
        origin = Origin.STRANGER if user_id is not None and not given else Origin.GIVEN
    return Past(domain, item, time, row, origin)


def _fresh(
    names: Sequence[str],
    places: Mapping[str, Mapping[str, int]],
    logged: Sequence[Choice],
    held: Iterable[tuple[int, int, float]],
) -> list[tuple[int, int, float]]:
    """Logged events on known items that the snapshot does not hold, in their order."""
    if not logged:
        return []
    before = Counter(held)
    number = {name: d for d, name in enumerate(names)}
    fresh = []
    for domain, item_id, time in logged:
        item = places.get(domain, {}).get(item_id)
        if item is None:
            continue
        found = (number[domain], item, time)
        if before[found] > 0:
            before[found] -= 1
        else:
            fresh.append(found)
    return fresh


def asked_by(pasts: Sequence[Past], max_history: int) -> Asked:
    """A batch of people; scorers read the latest `max_history` events of each."""
    lengths = [len(past) for past in pasts]
    n = len(pasts)
    whole = Requests(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        domain=np.concatenate([p.domain for p in pasts]).astype(np.int16),
        item=np.concatenate([p.item for p in pasts]).astype(np.int32),
        time=np.concatenate([p.time for p in pasts]).astype(np.float64),
        query_time=np.full(n, np.nan),
        user=np.array([p.user for p in pasts], np.int64),
    )
    short = max(lengths, default=0) <= max_history
    visible = whole if short else whole.keep(whole.age < max_history)
    return Asked([""] * n, np.array([p.origin for p in pasts], np.int8), whole, visible)
