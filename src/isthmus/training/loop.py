"""The training loop: a task in, the weights that validated best left in its module.

Knows nothing of users, items or domains. Warm-up and cosine decay, gradient clipping, early
stopping, progress, tracking, and a checkpoint at the end of an epoch from which a killed run goes
on to the very same figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.config import TrainingConfig
from isthmus.errors import TrainingError
from isthmus.threads import threads
from isthmus.training.checkpoint import State, read_folder, write_folder
from isthmus.training.optim import RowAdam, warmup_cosine
from isthmus.training.progress import progress
from isthmus.training.tracking import NoTracker, Tracker
from isthmus.training.versions import never_finished

CHECKPOINT_KIND = "training"


class Task(Protocol):
    """Something that can be learnt."""

    module: nn.Module
    rows: RowAdam
    device: torch.device
    progress: float
    """Share of training done, set before every step."""

    @property
    def batches_per_epoch(self) -> int:
        """Steps of one epoch, for the schedule; may be one off."""
        ...

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """One epoch of batches."""
        ...

    def loss(self, batch: Any, rng: np.random.Generator) -> Tensor:
        """A scalar to go down."""
        ...


@dataclass
class Log:
    """What happened.

    Attributes:
        epochs: per epoch `epoch`, `loss`, `seconds`, `step_seconds` without the look at validation,
            and `validation` where it was measured.
        best: best validation figure.
        best_epoch: when it was reached, from 1.
        stale: evaluations since.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best: float = -np.inf
    best_epoch: int = 0
    stale: int = 0

    @property
    def seconds(self) -> float:
        """Time spent in epochs, validation included."""
        return sum(e["seconds"] for e in self.epochs)

    @property
    def step_seconds(self) -> float:
        """Time spent in steps alone."""
        return sum(e.get("step_seconds", e["seconds"]) for e in self.epochs)


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA where it is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            "no CUDA device is available", where="training.device", hint="Set it to 'auto'"
        )
    device = torch.device(name)
    if (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise TrainingError(
            f"there are {torch.cuda.device_count()} CUDA devices, and {name} is none of them",
            where="training.device",
            hint="Set it to 'auto'",
        )
    return device


def train(
    task: Task,
    validate: Callable[[], float | None],
    config: TrainingConfig,
    *,
    seed: int,
    label: str = "training",
    folder: Path | None = None,
    mark: str = "",
    tracking: Tracker | None = None,
) -> Log:
    """Train until validation stops gaining; the best weights stay in the module.

    Args:
        task: what is learnt.
        validate: a figure that should go up; the module is in evaluation mode meanwhile. None
            where there is nothing to measure on: then the last weights stay.
        config: epochs, rates, patience.
        seed: of batches, negatives and dropout.
        label: shown with the progress bar.
        folder: where checkpoints are kept; a run that finds its own there goes on from it.
        mark: what the run depends on; a checkpoint with another mark is not this run's.
        tracking: takes the curves, and is closed at the end.

    Raises:
        TrainingError: the loss is not finite.
    """
    with torch.random.fork_rng(devices=[]), threads(config.threads):
        torch.manual_seed(seed)
        run = _Run(task, config, seed, mark)
        if folder is not None and folder.exists() and not never_finished(folder):
            run.resume(folder)
        kept = tracking or NoTracker()
        with closing(kept), progress(label, config.epochs) as tick:
            for _ in range(len(run.log.epochs)):
                tick("resumed")
            while not run.finished:
                figures = run.epoch(validate)
                kept.log(figures, int(figures["epoch"]))
                best = f", best validation {run.log.best:.4f}" if run.log.best_epoch else ""
                tick(f"loss {figures['loss']:.3f}{best}")
                if folder is not None:
                    run.checkpoint(folder)
    task.module.load_state_dict(run.best_weights)
    task.module.eval()
    return run.log


class _Run:
    """The state of one training run between epochs."""

    def __init__(self, task: Task, config: TrainingConfig, seed: int, mark: str) -> None:
        self.task, self.config, self.mark = task, config, mark
        self.rng = np.random.default_rng(seed)
        self.log = Log()
        self.step = 0
        self.total_steps = config.epochs * task.batches_per_epoch
        self.saved_at = time.monotonic()
        self.parameters = list(task.module.parameters())
        self.optimiser = torch.optim.AdamW(
            [
                {
                    "params": [p for p in self.parameters if p.ndim > 1],
                    "weight_decay": config.weight_decay,
                },
                {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        half = config.bf16 == "on" or (config.bf16 == "auto" and task.device.type == "cuda")
        self.precision: Any = (
            (lambda: torch.autocast(task.device.type, dtype=torch.bfloat16))
            if half
            else nullcontext
        )
        self.best_weights = _copy(task.module.state_dict())

    @property
    def finished(self) -> bool:
        """Out of epochs or out of patience."""
        return len(self.log.epochs) >= self.config.epochs or self.log.stale >= self.config.patience

    def epoch(self, validate: Callable[[], float | None]) -> dict[str, float]:
        """One pass, and a look at validation when it is due."""
        start = time.perf_counter()
        number = len(self.log.epochs) + 1
        self.task.module.train()
        losses = [self._step(batch) for batch in self.task.batches(self.rng)]
        # Nobody may have two events to learn from; the initial weights are then all there is.
        loss = float(torch.stack(losses).mean()) if losses else 0.0
        figures = {"epoch": float(number), "loss": loss}
        if not np.isfinite(figures["loss"]):
            raise TrainingError(
                f"the loss of epoch {number} is not a number",
                where="training",
                hint="Lower training.learning_rate",
            )
        figures["step_seconds"] = time.perf_counter() - start
        if number % self.config.evaluate_every == 0 or number == self.config.epochs:
            self.task.module.eval()
            measured = validate()
            if measured is not None:
                figures["validation"] = measured
            self._remember(measured, number)
        figures["seconds"] = time.perf_counter() - start
        self.log.epochs.append(figures)
        return figures

    def _step(self, batch: Any) -> Tensor:
        self.task.progress = min(1.0, self.step / self.total_steps)
        with self.precision():
            loss = self.task.loss(batch, self.rng)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self._clip([*gradients, *self.task.rows.gradients()])
        rate = self.config.learning_rate * warmup_cosine(
            self.step, self.total_steps, self.config.warmup
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.task.rows.step(rate * self.config.id_rate)
        self.step += 1
        return loss.detach()

    def _clip(self, gradients: list[Tensor]) -> None:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (self.config.clip / (norm + 1e-6)).clamp(max=1.0))

    def _remember(self, figure: float | None, number: int) -> None:
        if figure is None:
            self.best_weights = _copy(self.task.module.state_dict())
        elif figure > self.log.best:
            self.log.best, self.log.best_epoch, self.log.stale = figure, number, 0
            self.best_weights = _copy(self.task.module.state_dict())
        else:
            self.log.stale += 1

    def checkpoint(self, folder: Path) -> None:
        """Write all that the next epoch depends on, not more often than configured."""
        due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
        if not (due or self.finished):
            return
        optimiser = self.optimiser.state_dict()["state"]
        moments = {
            f"{i}.{name}": value for i, state in optimiser.items() for name, value in state.items()
        }
        write_folder(
            folder,
            {
                "weights": _state(self.task.module.state_dict()),
                "best": _state(self.best_weights),
                "moments": _state(moments),
                "rows": _state(self.task.rows.state()),
                "random": State(
                    {name: value.numpy() for name, value in self._random().items()},
                    {"numpy": self.rng.bit_generator.state},
                ),
            },
            kind=CHECKPOINT_KIND,
            meta={"mark": self.mark, "step": self.step, "log": vars(self.log)},
        )
        self.saved_at = time.monotonic()

    def _random(self) -> dict[str, Tensor]:
        """States of the generators that dropout draws from."""
        states = {"torch": torch.get_rng_state()}
        if self.task.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.task.device)
        return states

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint, if it is this run's."""
        saved = read_folder(folder, kind=CHECKPOINT_KIND)
        if saved.meta["mark"] != self.mark:
            return
        self.task.module.load_state_dict(_tensors(saved.state("weights")))
        self.best_weights = _tensors(saved.state("best"))
        self.task.rows.load(_tensors(saved.state("rows")))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _tensors(saved.state("moments")).items():
            index, part = name.split(".", 1)
            moments.setdefault(int(index), {})[part] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        random = saved.state("random")
        states = _tensors(random)
        torch.set_rng_state(states["torch"])
        if "cuda" in states and self.task.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], self.task.device)
        self.rng.bit_generator.state = random.meta["numpy"]
        self.step = saved.meta["step"]
        self.log = Log(**saved.meta["log"])


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def _state(tensors: Mapping[str, Tensor]) -> State:
    return State({name: value.detach().cpu().numpy() for name, value in tensors.items()})


def _tensors(state: State) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in state.arrays.items()}
