"""Folders that are written whole or not at all, and checked when read.

A checkpoint is a folder of safetensors, JSON and Parquet with a manifest of checksums. It is
written aside, flushed to disk and renamed, so that a reader sees the old one or the new one, never
half of either. Nothing is ever pickled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class State:
    """What a fitted object needs to come back: arrays by name, and plain JSON values.

    Every scorer gives one from `state()` and comes back from the class method `from_state(state)`.
    """

    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
