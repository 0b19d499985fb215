"""Side tuning: a small network on top of the cached vectors; the model itself stays as is.

The catalogue goes through the model once; every step after that touches only the network. It reads
whitened vectors, so that a direction in which texts differ little counts as much as any. What comes
out is the whitened unit vector plus what was learnt, also of length 1, and it is this sum that
learns: what texts say of themselves keeps its word, which is all there is to go by for items that
nobody has chosen yet, and the rest need only learn what it does not say. Which share of it is read
depends on how many new items are asked about, and is left to validation
(`isthmus.experiment.tune_language`). The sum stays in whitened coordinates, one set for all domains
and must not be whitened again: the few directions in which taste differs most would then count no
more than any other.

It may read hidden layers beside the final one (`tuning.hidden_layers`), mixed by shares that are
learnt.

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
_SHRINKAGE = 0.05


class SideNetwork(nn.Module):
    """Pooled vectors of a language model [n, dim] → vectors that carry taste [n, dim].

    With hidden layers, theirs stand behind the final one, [n, (1 + n_hidden) · dim]. What is learnt
    then reads a mix of all in whitened coordinates, each layer in its own; the shares are a softmax
    that is learnt as well, even at the start. What texts say of themselves is the final vector.

    Args:
        dim: width of the vectors that come out.
        width: of the hidden layer.
        n_hidden: layers of the language model that are read beside the final one.
    """

    mean: Tensor
    whiten: Tensor
    share: Tensor
    hidden_mean: Tensor
    hidden_whiten: Tensor

    def __init__(self, dim: int, width: int, n_hidden: int = 0) -> None:
        super().__init__()
        self.dim, self.n_hidden = dim, n_hidden
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("whiten", torch.eye(dim))
        self.register_buffer("share", torch.ones(()))
        if n_hidden:
            self.mix = nn.Parameter(torch.zeros(1 + n_hidden))
            self.register_buffer("hidden_mean", torch.zeros(n_hidden, dim))
            self.register_buffer("hidden_whiten", torch.eye(dim).repeat(n_hidden, 1, 1))

    @torch.no_grad()
    def settle(self, mean: NDArray[np.float32], whiten: NDArray[np.float32]) -> None:
        """Set the whitened coordinates: vectors less `mean` [dim], times `whiten` [dim, dim]."""
        self.mean.copy_(torch.from_numpy(mean))
        self.whiten.copy_(torch.from_numpy(whiten))

    @torch.no_grad()
    def settle_hidden(self, vectors: NDArray[np.float32]) -> None:
        """Set the coordinates of hidden layers, whitened by vectors [n, (1 + n_hidden) · dim]."""
        for layer in range(self.n_hidden):
            rows = vectors[:, (1 + layer) * self.dim : (2 + layer) * self.dim].astype(np.float64)
            mean = rows.mean(0)
            values, axes = np.linalg.eigh(np.cov(rows - mean, rowvar=False, bias=True))
            values = np.maximum(values, 0) + _SHRINKAGE * max(values.mean(), 1e-12)
            self.hidden_mean[layer] = torch.from_numpy(mean)
            self.hidden_whiten[layer] = torch.from_numpy((axes / np.sqrt(values)) @ axes.T)

    def whitened(self, vectors: Tensor) -> Tensor:
        """The final ones of vectors [n, …] as unit vectors in whitened coordinates, [n, dim]."""
        return F.normalize((vectors[:, : self.dim] - self.mean) @ self.whiten, dim=1)

    def mixed(self, vectors: Tensor, own: Tensor) -> Tensor:
        """All layers of vectors [n, …] as one unit vector in whitened coordinates, [n, dim].

        `own` [n, dim] is what `whitened` makes of them.
        """
        if not self.n_hidden:
            return own
        below = vectors[:, self.dim :].reshape(-1, self.n_hidden, self.dim).transpose(0, 1)
        found = torch.bmm(below - self.hidden_mean[:, None], self.hidden_whiten)
        every = torch.cat([own[None], F.normalize(found, dim=2)])
        return F.normalize(torch.einsum("knd,k->nd", every, self.mix.softmax(0)), dim=1)

    def parts(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Of vectors [n, dim], or wider: the whitened ones and what is learnt beside them.

        Both are unit vectors [n, dim], and at the start the same.
        """
        own = self.whitened(vectors)
        # Whitened vectors are about √dim long.
        added = self.up(F.gelu(self.down(self.dim**0.5 * self.mixed(vectors, own))))
        return own, F.normalize(own + added, dim=1)

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [n, dim], or wider → what is compared while it learns, [n, dim]."""
        own, learnt = self.parts(vectors)
        return own + learnt

    @torch.inference_mode()
    def read(self, vectors: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Cached vectors [n, dim], or wider → float32 [n, dim], in stretches; see the module."""
        found = np.empty((len(vectors), self.dim), np.float32)
        for start in range(0, len(vectors), _CHUNK):
            part = torch.from_numpy(vectors[start : start + _CHUNK].astype(np.float32))
            own, learnt = self.parts(part)
            found[start : start + _CHUNK] = (own + self.share * learnt).numpy()
        return found
