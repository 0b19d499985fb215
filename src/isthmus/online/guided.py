"""Which events of a snapshot answered a recommendation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.online.events import Event


def guided_positions(
    dataset: Dataset, position: NDArray[np.int64], events: Iterable[Event]
) -> NDArray[np.int64]:
    """Those of some positions whose events have a `recommendation_id`.

    Args:
        dataset: the snapshot.
        position: int64 [n] of events in the snapshot.
        events: from the log.
    """
    guided = {
        (event.user_id, event.domain, event.item_id, event.time)
        for event in events
        if event.recommendation_id is not None
    }
    if not guided:
        return np.empty(0, np.int64)
    found = dataset.events
    users = dataset.user_ids.gather(found.user[position]).to_list()
    ids = [domain.items["item_id"] for domain in dataset.domains]
    keys = zip(
        users,
        (dataset.names[d] for d in found.domain[position]),
        (ids[d][int(i)] for d, i in zip(found.domain[position], found.item[position], strict=True)),
        found.time[position].tolist(),
        strict=True,
    )
    return np.asarray(position[np.fromiter((key in guided for key in keys), bool, len(position))])
