"""Heads: what turns a user's state into a question about the items of one domain, one for each.

A head of one's own is a `torch.nn.Module` whose `forward` takes states [n, dim] to queries
[n, dim]; it is made with those of `dim` and `rank` that it asks for by name, and `model.head` takes
it by its dotted path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.config import ModelConfig
from isthmus.errors import ConfigError
from isthmus.settings import asked_for, component

HEADS = {"low-rank": "isthmus.model.heads:DomainAdapter"}


class DomainAdapter(nn.Module):
    """A low-rank correction of the state for one domain's question; zero at the start."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, rank, bias=False)
        self.up = nn.Linear(rank, dim, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[n, dim] → [n, dim]."""
        corrected: Tensor = x + self.up(self.down(x))
        return corrected

    @torch.no_grad()
    def borrow(self, others: Sequence[DomainAdapter]) -> None:
        """Become the mean of other corrections, as near as the rank allows."""
        mean = torch.stack([other.up.weight @ other.down.weight for other in others]).mean(0)
        left, size, right = torch.linalg.svd(mean)
        rank = min(len(self.down.weight), len(size))
        root = size[:rank].sqrt()
        # A rank above the dimension has nothing more to hold.
        self.up.weight.zero_()[:, :rank] = left[:, :rank] * root
        self.down.weight.zero_()[:rank] = root[:, None] * right[:rank]


def domain_heads(n_domains: int, config: ModelConfig) -> nn.ModuleList:
    """One head per domain; none where the usual ones have rank 0.

    Raises:
        ConfigError: a class that cannot be found or is no module.
    """
    if config.head in HEADS and not config.adapter_rank:
        return nn.ModuleList()
    kind: Any = component(config.head, HEADS, where="model.head")
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ConfigError(
            f"{config.head!r} is no torch.nn.Module",
            where="model.head",
            hint="A head is a module with forward(states)",
        )
    asked = asked_for(kind, {"dim": config.dim, "rank": config.adapter_rank})
    return nn.ModuleList(kind(**asked) for _ in range(n_domains))


@torch.no_grad()
def borrow_head(head: nn.Module, others: Sequence[nn.Module]) -> None:
    """Make a head that was never trained like the mean of others.

    By its own method `borrow(others)`, or weight by weight where it has none.
    """
    own: Callable[[Sequence[nn.Module]], None] | None = getattr(head, "borrow", None)
    if own is not None:
        own(others)
    else:
        for name, weight in head.named_parameters():
            weight.copy_(torch.stack([other.get_parameter(name) for other in others]).mean(0))
