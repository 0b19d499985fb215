"""How a cross-encoder is tuned: which weights, on which pairs, by which loss.

A way of tuning is a function that is given the language model, all of it frozen, and the number of
layers, and lets those weights learn that it means; `TUNINGS` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.errors import ConfigError
from isthmus.language.cross_encoder_tokens import PairTokens
from isthmus.language.tokens import length_batches
from isthmus.training.losses import sum_of_means
from isthmus.training.optim import RowAdam

TUNINGS = {
    "last": "isthmus.language.cross_encoder_tuning:last_layers",
    "full": "isthmus.language.cross_encoder_tuning:everything",
}
BATCH_TOKENS = 2048
"""Tokens read at once where nothing is learnt, padding included."""


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs of texts with what is to be told of them.

    Attributes:
        first: [n] texts; None is read as empty.
        second: [n] the same.
        label: float64 [n] index of a class, or a number.
        group: int64 [n] whose mean loss a pair counts in, such as its domain.
    """

    first: Sequence[str | None]
    second: Sequence[str | None]
    label: NDArray[np.float64]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)


def last_layers(model: nn.Module, layers: int) -> None:
    """Let the last `layers` layers be tuned, and the norm after them.

    Raises:
        ConfigError: the model has no list of layers.
    """
    lists = [
        (name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList)
    ]
    if not lists:
        raise ConfigError(
            f"the layers of {type(model).__name__} cannot be told",
            where="tasks.cross_encoder.tune",
            hint="Set it to 'full'",
        )
    name, stack = max(lists, key=lambda entry: sum(p.numel() for p in entry[1].parameters()))
    for layer in list(stack)[-layers:]:
        layer.requires_grad_(True)
    prefix = name.rpartition(".")[0]
    holder = model.get_submodule(prefix) if prefix else model
    for child in holder.children():
        if isinstance(child, nn.LayerNorm) or type(child).__name__.endswith("RMSNorm"):
            child.requires_grad_(True)


def everything(model: nn.Module, layers: int) -> None:
    """Let all weights be tuned."""
    model.requires_grad_(True)


class PairTask:
    """Tuning on pairs; a `training.loop.Task`.

    Args:
        module: tokens in, outputs out.
        losses: outputs and labels → loss of each pair, [n].
        pairs: what is learnt, or judged.
        tokens: the same as tokens.
        size: pairs at a step.
        weights: of each group's mean loss, 1 where not named.
        device: of the module.
    """

    def __init__(
        self,
        module: nn.Module,
        losses: Callable[[Tensor, Tensor], Tensor],
        pairs: LabelledPairs,
        tokens: PairTokens,
        *,
        size: int,
        weights: Mapping[int, float],
        device: torch.device,
    ) -> None:
        self.module, self.losses, self.pairs, self.tokens = module, losses, pairs, tokens
        self.size, self.weights, self.device, self.progress = size, weights, device, 0.0
        # No table of rows is learnt here.
        self.rows = RowAdam(torch.zeros(0, 1, device=device))

    @property
    def batches_per_epoch(self) -> int:
        """Steps of an epoch."""
        return max(1, -(-len(self.pairs) // self.size))

    def batches(self, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """One epoch in random order."""
        order = rng.permutation(len(self.pairs))
        for start in range(0, len(order), self.size):
            yield order[start : start + self.size]

    def loss(self, batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Sum over groups of the mean loss of their pairs in the batch, a scalar."""
        return sum_of_means(self._by_group(batch), self.weights)

    def mean_loss(self) -> float:
        """The same over all pairs."""
        gathered: dict[int, list[Tensor]] = {}
        with torch.inference_mode():
            for rows in length_batches(self.tokens.tokens.lengths, BATCH_TOKENS):
                for group, losses in self._by_group(rows).items():
                    gathered.setdefault(group, []).append(losses)
        whole = {group: torch.cat(losses) for group, losses in gathered.items()}
        return float(sum_of_means(whole, self.weights))

    def _by_group(self, rows: NDArray[np.int64]) -> dict[int, Tensor]:
        outputs = self.module(*self.tokens.batch(rows, self.device))
        labels = torch.from_numpy(self.pairs.label[rows]).float().to(self.device)
        losses, group = self.losses(outputs, labels), self.pairs.group[rows]
        return {
            g: losses[torch.from_numpy(np.flatnonzero(group == g)).to(self.device)]
            for g in np.unique(group).tolist()
        }


def thinned(pairs: LabelledPairs, most: int, seed: int) -> LabelledPairs:
    """At most so many pairs, a random choice."""
    if len(pairs) <= most:
        return pairs
    rows = np.sort(np.random.default_rng(seed).choice(len(pairs), most, replace=False))
    return LabelledPairs(
        [pairs.first[i] for i in rows],
        [pairs.second[i] for i in rows],
        pairs.label[rows],
        pairs.group[rows],
    )
