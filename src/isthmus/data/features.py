"""What is known of items beside behaviour: vectors, and a mask of what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ItemFeatures:
    """Vectors of one domain's items.

    Attributes:
        vectors: float32 [n_items, dim]; rows without content are zero and never to be read.
        present: bool [n_items]; false where the item has no content.
        whitened: whether the vectors were learnt in whitened coordinates. Their cosines then mean
            something as they are, and whitening would undo what was learnt.
        truncated: different texts that were longer than the model reads, and were cut.
    """

    vectors: NDArray[np.float32]
    present: NDArray[np.bool_]
    whitened: bool = False
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.present)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.vectors.shape[1])
