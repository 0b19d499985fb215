"""Side tuning: a small network over the cached states of all layers; the model itself stays as is.

The catalogue goes through the model once; every step after that touches only the network. At the
start it gives the model's last layer exactly. A gate for every layer and direction, shut at first,
lets the others in. What changes is learnt from whitened coordinates and in them, then turned back
into the model's own, so that a direction in which texts differ little counts as much as any, and
what reads frozen vectors reads these.

Source of the idea: Fu et al., "IISAN: Efficiently Adapting Multimodal Representation for
Sequential Recommendation with Decoupled PEFT", SIGIR 2024.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_CHUNK = 8192
_NO_VARIANCE = 1e-4


class SideNetwork(nn.Module):
    """States of all layers, end to end [n, layers × dim] → vectors [n, dim].

    Args:
        layers: how many states a text has.
        dim: width of each.
        width: of the hidden layer.
        dropout: on it.
    """

    centre: Tensor
    spread: Tensor
    mean: Tensor
    whiten: Tensor
    colour: Tensor

    def __init__(self, layers: int, dim: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers, self.dim = layers, dim
        self.gate = nn.Parameter(torch.zeros(layers, dim))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.down = nn.Linear(dim, width)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(width, dim)
        self.turn = nn.Linear(dim, dim, bias=False)
        for zero in (self.up.weight, self.up.bias, self.turn.weight):
            nn.init.zeros_(zero)
        for name, value in (
            ("centre", torch.zeros(layers * dim)),
            ("spread", torch.ones(layers * dim)),
            ("mean", torch.zeros(dim)),
            ("whiten", torch.eye(dim)),
            ("colour", torch.eye(dim)),
        ):
            self.register_buffer(name, value)

    def settle(
        self,
        states: Iterable[NDArray[np.float16]],
        mean: NDArray[np.float32],
        whiten: NDArray[np.float32],
    ) -> None:
        """Set the scale of what comes in, and the coordinates of what goes out.

        Args:
            states: of the catalogue, [n, layers × dim] each.
            mean: [dim] of the last layer.
            whiten: [dim, dim] map of the centred last layer to equal variances.
        """
        n, total, squares = 0, np.zeros(len(self.centre)), np.zeros(len(self.centre))
        for part in states:
            n += len(part)
            total += part.sum(0, dtype=np.float64)
            squares += np.square(part, dtype=np.float64).sum(0)
        centre = total / n
        spread = np.sqrt(np.maximum(squares / n - centre**2, 0.0))
        spread[spread < 1e-6] = 1.0
        for buffer, value in (
            (self.centre, centre),
            (self.spread, spread),
            (self.mean, mean),
            (self.whiten, whiten),
            # What normalisation left without variance stays without, whatever rounding says.
            (self.colour, np.linalg.pinv(whiten.astype(np.float64), rcond=_NO_VARIANCE)),
        ):
            buffer.copy_(torch.from_numpy(np.asarray(value, np.float32)))

    def forward(self, states: Tensor) -> Tensor:
        """States [n, layers × dim] → [n, dim]."""
        last = states[:, -self.dim :]
        own = (last - self.mean) @ self.whiten
        # What the gates let in of all layers, standardised, in one pass over them.
        shape = (self.layers, self.dim)
        weight = self.gate / self.spread.view(shape)
        let_in = torch.einsum("nld,ld->nd", states.view(-1, *shape), weight)
        let_in = let_in - (self.centre.view(shape) * weight).sum(0)
        hidden = torch.nn.functional.gelu(self.down(self.norm(own) + let_in))
        # Whitened vectors are about √dim long, and so must be what is added to them.
        turned = own + self.dim**0.5 * self.up(self.dropout(hidden)) + self.turn(own)
        # A text keeps its length: only its direction was learnt, and long vectors would rule the
        # whitening of whoever reads these.
        length = own.norm(dim=1, keepdim=True) / turned.norm(dim=1, keepdim=True).clamp_min(1e-6)
        vectors: Tensor = last + (turned * length - own) @ self.colour
        return vectors

    @torch.inference_mode()
    def read(self, states: NDArray[np.float16]) -> NDArray[np.float32]:
        """Cached states [n, layers × dim] → float32 [n, dim], in stretches."""
        if not len(states):
            return np.zeros((0, self.dim), np.float32)
        parts = [
            self(torch.from_numpy(states[start : start + _CHUNK].astype(np.float32))).numpy()
            for start in range(0, len(states), _CHUNK)
        ]
        return np.concatenate(parts)
