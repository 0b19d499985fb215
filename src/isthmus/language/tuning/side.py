"""Side tuning: a small network on top of the cached vectors; the model itself stays as is.

The catalogue goes through the model once; every step after that touches only the network. It adds
to whitened vectors, so that a direction in which texts differ little counts as much as any, and at
the start it adds nothing. What is read in the end is the sum of the unit vectors before and after:
what was learnt draws together what people choose together, and what texts say of themselves keeps
its word. The sum stays in whitened coordinates, one set for all domains, and must not be whitened
again: the few directions in which taste differs most would then count no more than any other.

Sources: Sung et al., "LST: Ladder Side-Tuning for Parameter and Memory Efficient Transfer
Learning", NeurIPS 2022; for the sum, Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models",
CVPR 2022, which averages in the same spirit.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

_CHUNK = 8192


class SideNetwork(nn.Module):
    """Pooled vectors of a language model [n, dim] → vectors that carry taste [n, dim].

    Args:
        dim: width of the vectors.
        width: of the hidden layer.
    """

    mean: Tensor
    whiten: Tensor

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.dim = dim
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("whiten", torch.eye(dim))

    @torch.no_grad()
    def settle(self, mean: NDArray[np.float32], whiten: NDArray[np.float32]) -> None:
        """Set the whitened coordinates: vectors less `mean` [dim], times `whiten` [dim, dim]."""
        self.mean.copy_(torch.from_numpy(mean))
        self.whiten.copy_(torch.from_numpy(whiten))

    def whitened(self, vectors: Tensor) -> Tensor:
        """Vectors [n, dim] as unit vectors in whitened coordinates."""
        return F.normalize((vectors - self.mean) @ self.whiten, dim=1)

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [n, dim] → what is compared while it learns, [n, dim]."""
        # Whitened vectors are about √dim long.
        own = self.dim**0.5 * self.whitened(vectors)
        found: Tensor = own + self.dim**0.5 * self.up(F.gelu(self.down(own)))
        return found

    @torch.inference_mode()
    def read(self, vectors: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Cached vectors [n, dim] → float32 [n, dim], in stretches; see the module."""
        found = np.empty((len(vectors), self.dim), np.float32)
        for start in range(0, len(vectors), _CHUNK):
            part = torch.from_numpy(vectors[start : start + _CHUNK].astype(np.float32))
            both = self.whitened(part) + F.normalize(self(part), dim=1)
            found[start : start + _CHUNK] = both.numpy()
        return found
