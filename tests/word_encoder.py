"""An encoder that needs no language model, for tests of all that reads texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from isthmus.data.features import ItemFeatures

DIM = 32


class WordEncoder:
    """A text is the sum of its words' vectors, each drawn once by the word's hash."""

    def encode(self, texts: Sequence[str | None]) -> ItemFeatures:
        vectors = np.zeros((len(texts), DIM), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", (text or "").lower()):
                vectors[row] += _word(word)
        return ItemFeatures(vectors, np.array([bool(text) for text in texts], bool))


@cache
def _word(word: str) -> NDArray[np.float32]:
    seed = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
