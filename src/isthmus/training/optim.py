"""Optimisation: a row-wise lazy Adam for large tables, and the learning-rate schedule.

A dense optimiser walks over every row of an embedding table at every step. `RowAdam` updates only
the rows that a batch touched, so the cost of a step does not grow with the catalogue. Rows are not
decayed. Source: the lazy Adam of sparse embeddings (Kingma and Ba 2015 for the update itself).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class RowAdam:
    """Adam over the rows of one table.

    Args:
        table: float [n_rows, dim], changed in place.
        betas: decay of the moments.
        eps: keeps the denominator from zero.
    """

    def __init__(
        self, table: Tensor, *, betas: tuple[float, float] = (0.9, 0.98), eps: float = 1e-8
    ) -> None:
        self.table, self.betas, self.eps = table, betas, eps
        self.first = torch.zeros_like(table)
        self.second = torch.zeros_like(table)
        self.steps = torch.zeros(len(table), device=table.device)
        self._taken: list[tuple[Tensor, Tensor]] = []

    def take(self, rows: Tensor) -> Tensor:
        """The rows at distinct `rows` [n] as a leaf [n, dim] that gathers gradients."""
        leaf = self.table.index_select(0, rows).requires_grad_()
        self._taken.append((rows, leaf))
        return leaf

    def gradients(self) -> list[Tensor]:
        """Gradients of the rows taken since the last step, for clipping."""
        return [leaf.grad for _, leaf in self._taken if leaf.grad is not None]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the rows taken since the last step."""
        beta1, beta2 = self.betas
        for rows, leaf in self._taken:
            if leaf.grad is None:
                continue
            gradient = leaf.grad
            first = self.first.index_select(0, rows).lerp_(gradient, 1 - beta1)
            second = self.second.index_select(0, rows).mul_(beta2)
            second.addcmul_(gradient, gradient, value=1 - beta2)
            steps = self.steps[rows] + 1
            self.first.index_copy_(0, rows, first)
            self.second.index_copy_(0, rows, second)
            self.steps.index_copy_(0, rows, steps)
            scale = (1 - beta2**steps).sqrt() / (1 - beta1**steps) * learning_rate
            update = first.div_(second.sqrt_().add_(self.eps)).mul_(scale[:, None])
            self.table.index_copy_(0, rows, leaf.detach() - update)
        self._taken.clear()

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts, to resume from."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps.copy_(state["steps"])


def warmup_cosine(step: int, total: int, warmup: float, floor: float = 0.05) -> float:
    """Factor of the peak learning rate: linear warm-up, then cosine decay to `floor`."""
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    done = min(1.0, (step - rising) / max(1, total - rising))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
