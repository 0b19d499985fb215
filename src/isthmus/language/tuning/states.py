"""The states of all layers of a catalogue's texts: encoded once, then read from the disk.

They are several times as large as the vectors, so they stay in the cache's memory-mapped files and
only the rows that a step asks for are read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.language.encoder import TextEncoder

_STRETCH = 8192


class CachedStates:
    """Rows of states, by row of text.

    Args:
        encoder: of all layers.
        texts: distinct, none blank.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str]) -> None:
        self._encoder, self._texts = encoder, list(texts)
        self._held: NDArray[np.float16] | None = None
        if not encoder.keeps:  # no disk to read from
            self._held = encoder.kept(self._texts).vectors
            return
        for start in range(0, len(self._texts), _STRETCH):
            encoder.kept(self._texts[start : start + _STRETCH])

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """States of the texts at distinct rows [n], float16 [n, layers × dim]."""
        if self._held is not None:
            return self._held[rows]
        return self._encoder.kept([self._texts[row] for row in rows]).vectors

    def stretches(self) -> list[NDArray[np.int64]]:
        """All rows, in stretches that fit into memory."""
        rows = np.arange(len(self._texts))
        return [rows[start : start + _STRETCH] for start in range(0, len(rows), _STRETCH)]
