"""A fixed sample of vectors that depends on what they hold, not on where they stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_KEYS = 4


def content_sample(vectors: NDArray[np.float32], most: int, seed: int = 0) -> NDArray[np.int64]:
    """Rows of at most `most` vectors of [n, d], the same ones whatever the order of the rows."""
    if len(vectors) <= most:
        return np.arange(len(vectors))
    rng = np.random.default_rng(seed)
    # Places on a few random directions: equal only where the vectors are.
    keys = vectors.astype(np.float64) @ rng.normal(size=(vectors.shape[1], _KEYS))
    order = np.lexsort(keys.T)
    return np.sort(order[rng.choice(len(order), most, replace=False)])
