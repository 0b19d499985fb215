"""A penalty on attention across domains.

What somebody did elsewhere should count only where it pays for itself: the share of attention that
goes to events of other domains is added to the loss.

Source: Ju et al., "Revisiting Self-Attention for Cross-Domain Sequential Recommendation"
(AutoCDSR), KDD 2025; here with a fixed weight in place of the paper's search for a Pareto optimum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.data.batches import PackedBatch
from isthmus.model.user_tower import UserTower
from isthmus.training.next_item import Step


class ForeignAttention(nn.Module):
    """An `ExtraLoss`: the share of attention that goes to events of other domains.

    Args:
        users: the tower whose attention is looked at; it must be one that watches it.
        weight: of the share in the loss.
    """

    mark = ""
    """The weight is part of the model's configuration."""

    def __init__(self, users: UserTower, weight: float) -> None:
        super().__init__()
        # In a tuple, so that the tower's weights are not taken for this module's own.
        self._users, self.weight = (users,), weight

    def rows(self, batch: PackedBatch, rng: np.random.Generator) -> NDArray[np.int64]:
        """None."""
        return np.zeros(0, np.int64)

    def forward(self, step: Step) -> Tensor:
        """A scalar between 0 and the weight."""
        return self.weight * self._users[0].foreign_attention()
