"""How a cross-encoder is tuned: which weights, on which pairs, by which loss.

The ways of tuning are those of `isthmus tune-language` (`tuning/methods.py`), but for the side
network, which reads one text at a time. One of your own is a function that is given the language
model, all of it frozen, and the number of layers, and lets those weights learn that it means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.config import CrossEncoderConfig, TuningConfig
from isthmus.config.language_learning import TuningMethod
from isthmus.config.tasks import TUNED
from isthmus.errors import LanguageModelError
from isthmus.language.cross_encoder_tokens import PairTokens
from isthmus.language.learning import Part
from isthmus.language.models import Pooling
from isthmus.language.tokens import length_batches
from isthmus.language.tuning.methods import RATES, Tunable
from isthmus.settings import component
from isthmus.training.losses import sum_of_means
from isthmus.training.optim import RowAdam

IN_FRONT = ("prefix", "prompt")
"""Ways of tuning that put tokens in front of the text."""

BATCH_TOKENS = 2048
"""Tokens read at once where nothing is learnt, padding included."""

_WHERE = "tasks.cross_encoder.tune"


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


@dataclass(frozen=True)
class Opened:
    """A language model of which part can learn.

    Attributes:
        model: with the parts that were added.
        own: what is learnt or was added, by its name in the model.
        in_front: states of virtual tokens before those of the text.
        kinds: whether it can be told which tokens are of the second text.
        penalty: a further part of the loss.
        after_step: called behind the optimiser at every step, with the number of steps made.
        settled: whether it has the size that it will be saved with.
    """

    model: Any
    own: dict[str, nn.Parameter]
    in_front: int = 0
    kinds: bool = True
    penalty: Callable[[], Tensor | None] = lambda: None
    after_step: Callable[[int], None] = lambda _made: None
    settled: Callable[[], bool] = lambda: True


def opened(model: Any, pooling: Pooling, config: CrossEncoderConfig, steps: int) -> Opened:
    """Freeze a language model but for what `config.tune` lets learn; it is changed in place.

    Args:
        model: without a head.
        pooling: how its states become a vector.
        config: the way of tuning and its sizes.
        steps: of the training, over which AdaLoRA shares out its ranks.

    Raises:
        ConfigError: a function of one's own that cannot be imported.
        LanguageModelError: the way does not suit the model.
    """
    if config.tune not in TUNED:
        tune: Any = component(config.tune, {}, where=_WHERE)
        model.requires_grad_(False)
        tune(model, config.layers)
        return Opened(model, {n: w for n, w in model.named_parameters() if w.requires_grad})
    sizes = TuningConfig(
        method=method_of(config.tune),
        last_layers=config.layers,
        rank=config.rank,
        scale=config.scale,
        bottleneck=config.bottleneck,
        virtual_tokens=config.virtual_tokens,
        steps=steps,
    )
    try:
        tunable = Tunable(model, pooling, sizes)
    except LanguageModelError as error:
        raise LanguageModelError(error.what, where=_WHERE, hint="Set it to 'full'") from error
    # Tokens in front have no place in either text, so peft passes on no kinds with them.
    kinds = config.tune not in IN_FRONT
    return Opened(
        tunable.model,
        tunable.own(),
        tunable.in_front,
        kinds,
        tunable.penalty,
        tunable.after_step,
        lambda: tunable.settled,
    )


def method_of(tune: str) -> TuningMethod:
    """A way of tuning a cross-encoder as `isthmus tune-language` calls it."""
    return "last-layers" if tune == "last" else cast(TuningMethod, tune)


def usual_rate(tune: str) -> float:
    """Peak learning rate that suits a way of tuning and a head that is new."""
    return 1e-4 if tune == "full" or tune not in TUNED else RATES[method_of(tune)]


class PairTask:
    """Tuning on pairs; a `training.loop.Task`.

    Args:
        net: tokens in, outputs out.
        own: of its tensors, what is learnt or goes with it; checkpoints hold nothing else.
        losses: outputs and labels → loss of each pair, [n].
        pairs: what is learnt, or judged.
        tokens: the same as tokens.
        size: pairs at a step.
        weights: of each group's mean loss, 1 where not named.
        device: of the module.
        epochs: most passes, which says at which step `progress` is.
        penalty: a further part of the loss.
        after_step: called behind the optimiser at every step, with the number of steps made.
    """

    def __init__(
        self,
        net: nn.Module,
        own: Mapping[str, nn.Parameter],
        losses: Callable[[Tensor, Tensor], Tensor],
        pairs: LabelledPairs,
        tokens: PairTokens,
        *,
        size: int,
        weights: Mapping[int, float],
        device: torch.device,
        epochs: int = 1,
        penalty: Callable[[], Tensor | None] = lambda: None,
        after_step: Callable[[int], None] = lambda _made: None,
    ) -> None:
        self.net, self.losses, self.pairs, self.tokens = net, losses, pairs, tokens
        self.module: nn.Module = Part(net, own)
        self.size, self.weights, self.device, self.progress = size, weights, device, 0.0
        self.epochs, self._penalty, self._after_step = epochs, penalty, after_step
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
            # Whoever asks for the next batch, or whether there is one, has made the step.
            self._after_step(round(self.progress * self.epochs * self.batches_per_epoch) + 1)

    def loss(self, batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Sum over groups of the mean loss of their pairs in the batch, a scalar."""
        extra = self._penalty()
        found = sum_of_means(self._by_group(batch), self.weights)
        return found if extra is None else found + extra

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
        outputs = self.net(*self.tokens.batch(rows, self.device))
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
