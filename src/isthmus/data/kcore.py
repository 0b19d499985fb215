"""The k-core of behaviour: everybody and everything left has enough events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def k_core(
    user: NDArray[np.int64], item: NDArray[np.int64], min_user: int, min_item: int
) -> NDArray[np.bool_]:
    """Which events stay when people and items with too few are dropped until none is left.

    Args:
        user: person of each event, [n].
        item: item of each event, [n].
        min_user: least events of a person.
        min_item: least events of an item.
    """
    keep = np.ones(len(user), bool)
    while True:
        per_user, per_item = np.bincount(user[keep]), np.bincount(item[keep])
        enough = (per_user[user[keep]] >= min_user) & (per_item[item[keep]] >= min_item)
        if enough.all():
            return keep
        keep[keep] = enough
