"""The transformer blocks of any Hugging Face model, and small modules put behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isthmus.errors import LanguageModelError


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The model's transformer blocks: its longest list of modules.

    Raises:
        LanguageModelError: it has none.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise LanguageModelError(
            f"{type(model).__name__} has no list of transformer blocks",
            where="tuning.method",
            hint="Tune it with method = 'full' or 'side'",
        )
    return max(lists, key=len)


class Adapter(nn.Module):
    """x + up(gelu(down(norm(x)))), exactly x at the start since `up` begins at zero.

    Source: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, with one
    adapter a block as in Pfeiffer et al., "AdapterFusion", EACL 2021.
    """

    def __init__(self, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """States [batch, length, dim] → the same shape."""
        change: Tensor = self.up(nn.functional.gelu(self.down(self.norm(states))))
        return states + change


class AdaptedBlock(nn.Module):
    """A block and the adapter behind it; takes and gives what the block does."""

    def __init__(self, block: nn.Module, adapter: Adapter) -> None:
        super().__init__()
        self.block, self.adapter = block, adapter

    def __getattr__(self, name: str) -> Any:
        """What a model reads of its blocks, such as a ModernBERT's `attention_type`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block; its states, alone or first in a tuple, go through the adapter."""
        found = self.block(*args, **kwargs)
        if isinstance(found, torch.Tensor):
            return self.adapter(found)
        return (self.adapter(found[0]), *found[1:])


def insert_adapters(model: nn.Module, dim: int, bottleneck: int) -> None:
    """Put an adapter behind every block, in place; the rest of the model is frozen."""
    blocks = blocks_of(model)
    model.requires_grad_(requires_grad=False)
    for i, block in enumerate(blocks):
        blocks[i] = AdaptedBlock(block, Adapter(dim, bottleneck))


def free_last_blocks(model: nn.Module, count: int) -> None:
    """Freeze all but the last `count` blocks, and a norm that stands behind all blocks."""
    blocks = blocks_of(model)
    model.requires_grad_(requires_grad=False)
    for block in list(blocks)[-count:]:
        block.requires_grad_(requires_grad=True)
    siblings = [
        list(module.children())
        for module in model.modules()
        if any(child is blocks for child in module.children())
    ]
    for children in siblings:
        behind = children[next(i for i, child in enumerate(children) if child is blocks) + 1 :]
        for child in behind:
            if "Norm" in type(child).__name__:
                child.requires_grad_(requires_grad=True)
