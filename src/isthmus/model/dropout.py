"""Dropout that is quick on a CPU.

PyTorch draws one Bernoulli number per entry there, which takes longer than the matrix products
around it. Here one random byte decides on each entry, and eight of them come with one draw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Zero entries at random in training and scale up the rest.

    Args:
        rate: share of entries to drop; on a CPU rounded to 1/256.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        kept = max(1, 256 - round(256 * self.rate))
        if not self.training or kept == 256:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        mask = words.view(torch.uint8)[: x.numel()].view(x.shape) < kept
        return x * mask.to(x.dtype).mul_(256 / kept)
