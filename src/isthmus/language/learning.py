"""How any part of a language model learns, by the same loop as the recommender.

A stretch of steps stands for an epoch: after each, held-out examples are looked at, the best
weights are remembered, and a checkpoint is written from which a killed run goes on.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.config import TrackingConfig, TrainingConfig
from isthmus.training.loop import Log, train
from isthmus.training.optim import RowAdam
from isthmus.training.tracking import tracker

_STRETCHES = 12


class Part(nn.Module):
    """The part of a model that learns, so that checkpoints hold nothing else.

    Args:
        whole: the model; it follows when this is put into training or evaluation mode.
        own: its tensors that learn or are not the base model's, by name.
    """

    def __init__(self, whole: nn.Module, own: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self._whole = [whole]  # in a list, so that its frozen tensors are not registered
        for name, parameter in own.items():
            self.register_parameter(name.replace(".", "/"), parameter)

    def train(self, mode: bool = True) -> Part:
        """Put the whole model into the mode."""
        self._whole[0].train(mode)
        return super().train(mode)


class LanguageTask(ABC):
    """Something a language model can learn, as `training.loop.Task`; a subclass gives batches.

    Args:
        whole: the model.
        own: its tensors that learn, by name.
        steps: how many in all.
        device: where.
        after: called behind the optimiser at every step, with the number of steps made.
    """

    progress = 0.0

    def __init__(
        self,
        whole: nn.Module,
        own: Mapping[str, nn.Parameter],
        steps: int,
        device: torch.device,
        after: Callable[[int], None] = lambda _made: None,
    ) -> None:
        self._after = after
        self.module: nn.Module = Part(whole, own)
        self.rows = RowAdam(torch.zeros(0, 1))  # no table here
        self.device = device
        self._stretch = -(-steps // min(_STRETCHES, steps))
        self.stretches = -(-steps // self._stretch)

    @property
    def batches_per_epoch(self) -> int:
        """Steps of one stretch."""
        return self._stretch

    @property
    def step(self) -> int:
        """The step under way, or between two the one just made, from 0."""
        return round(self.progress * self._stretch * self.stretches)

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """One stretch of batches."""
        for _ in range(self._stretch):
            yield self.batch(rng)
            # Whoever asks for the next batch, or whether there is one, has made the step.
            self._after(self.step + 1)

    @abstractmethod
    def batch(self, rng: np.random.Generator) -> Any:
        """Examples of one step."""

    @abstractmethod
    def loss(self, batch: Any, rng: np.random.Generator) -> Tensor:
        """A scalar to go down."""


@dataclass(frozen=True)
class Pace:
    """How fast, and until when.

    Attributes:
        rate: peak learning rate.
        patience: looks at held-out examples without gain before stopping.
        seed: of everything drawn.
        folder: of checkpoints; None: none.
        mark: what the run depends on; a checkpoint of another run is not gone on with.
        threads: of PyTorch; None: its own choice.
        curves: folder of training curves; None: none.
        tracking: which tools take them.
    """

    rate: float
    patience: int = 3
    seed: int = 0
    folder: Path | None = None
    mark: str = ""
    threads: int | None = None
    curves: Path | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def learn(
    task: LanguageTask, validate: Callable[[], float | None], pace: Pace, *, label: str
) -> Log:
    """Train until the steps are done or held-out examples stop gaining; the best weights stay.

    Raises:
        TrainingError: the loss is not a number.
    """
    settings = TrainingConfig(
        epochs=task.stretches,
        evaluate_every=1,
        patience=pace.patience,
        learning_rate=pace.rate,
        threads=pace.threads,
    )
    return train(
        task,
        validate,
        settings,
        seed=pace.seed,
        label=label,
        folder=pace.folder,
        mark=pace.mark,
        tracking=tracker(pace.curves, pace.tracking),
    )


def run_mark(*what: object) -> str:
    """What a run depends on, as a hash; arrays count by content."""
    digest = hashlib.blake2b(digest_size=16)
    for part in what:
        plain = part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
        digest.update(hashlib.blake2b(plain, digest_size=16).digest())
    return digest.hexdigest()
