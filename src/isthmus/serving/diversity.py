"""A list of good items that are not all alike.

Maximal marginal relevance: each place goes to the item that is best after what is near to the
items above it has been marked down. Source: Carbonell and Goldstein, "The Use of MMR,
Diversity-Based Reranking for Reordering Documents and Producing Summaries", SIGIR 1998.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POOL, LARGEST_POOL = 5, 500
"""Best items that are chosen from: so many times the length of the list, and at most."""


def spread_out(
    score: NDArray[np.float32], vectors: NDArray[np.float32], k: int, diversity: float
) -> NDArray[np.int64]:
    """Which `k` of the best items to show, in order.

    Args:
        score: [n] falling.
        vectors: [n, dim] by which items are compared; a zero vector is like nothing.
        k: how many.
        diversity: 0: the best; 1: the best, then whatever is least like those above.

    Returns:
        int64 [at most k] places in `score`.
    """
    n = len(score)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1.0)
    span = float(score[0] - score[-1]) if n else 0.0
    worth = (score - score[-1]) / span if span > 0 else np.zeros(n, np.float32)
    nearest = np.full(n, -1.0, np.float32)
    left = np.ones(n, bool)
    chosen: list[int] = []
    while len(chosen) < min(k, n):
        marked_down = worth if not chosen else (1 - diversity) * worth - diversity * nearest
        best = int(np.where(left, marked_down, -np.inf).argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, unit @ unit[best])
    return np.array(chosen, np.int64)
