"""Elastic weight consolidation: weights that old knowledge rests on are held near where they were.

Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, with
the empirical Fisher information of batches. Rows of the ID table are left out: those that matter
are replayed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.data.batches import PackedBatch
from isthmus.training.next_item import NextItemTask, Step


def fisher_diagonal(task: NextItemTask, *, seed: int) -> dict[str, Tensor]:
    """Squared gradient of the loss on what a model has learnt, mean over batches, by weight.

    Args:
        task: the model with its old events; neither is changed.
        seed: of batches and negatives.
    """
    rng = np.random.default_rng(seed)
    task.module.eval()
    weights = dict(task.module.named_parameters())
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    n_batches = 0
    for batch in task.batches(rng):
        task.module.zero_grad(set_to_none=True)
        task.loss(batch, rng).backward()  # type: ignore[no-untyped-call]
        for name, weight in weights.items():
            if weight.grad is not None:
                total[name] += weight.grad**2
        n_batches += 1
    task.module.zero_grad(set_to_none=True)
    return {name: value / max(n_batches, 1) for name, value in total.items()}


class Elastic(nn.Module):
    """An `ExtraLoss`: strength / 2 × Σ Fisher × (weight − where it was)².

    Args:
        model: in training; its weights now are where they were.
        fisher: by the names of its parameters.
        strength: of the loss.
    """

    def __init__(self, model: nn.Module, fisher: Mapping[str, Tensor], strength: float) -> None:
        super().__init__()
        # In tuples, so that the model's weights are not taken for this module's own.
        self._held = tuple(
            (weight, weight.detach().clone(), fisher[name])
            for name, weight in model.named_parameters()
        )
        self.strength = strength
        self.mark = f"elastic {strength}"

    def rows(self, batch: PackedBatch, rng: np.random.Generator) -> NDArray[np.int64]:
        """None."""
        return np.zeros(0, np.int64)

    def forward(self, step: Step) -> Tensor:
        """A scalar, 0 where nothing has moved."""
        pulls = [(fisher * (now - before) ** 2).sum() for now, before, fisher in self._held]
        return 0.5 * self.strength * torch.stack(pulls).sum()
