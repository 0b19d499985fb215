"""Heads learn a task on a fitted system, all domains at once, and say how well they tell it.

Loss = sum over domains of the mean loss of that domain's examples (R5 of the requirements: no
domain counts by its size). States and item vectors stand still, so a head can make no
recommendation worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.config import Config, TasksConfig, TrainingConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.model.task_heads import TaskNet, numbers_of, task_heads
from isthmus.tasks.examples import Examples, Role, clicks, rated_events
from isthmus.tasks.figures import Figures, figures_of
from isthmus.tasks.reader import Inputs, Reader, TaskName
from isthmus.training.checkpoint import State
from isthmus.training.loop import Log, train
from isthmus.training.losses import sum_of_means
from isthmus.training.memory import enough_memory
from isthmus.training.optim import RowAdam
from isthmus.training.tracking import tracker

LEAST_BATCH, LEAST_STEPS = 32, 32
"""A batch is made smaller, though not below the one, where an epoch has fewer steps than the other:
heads that begin at zero need some hundred steps to learn anything."""


@dataclass(frozen=True)
class Taught:
    """A task that heads have learnt.

    Attributes:
        task: which.
        net: what is shared, and a head per domain.
        offered: what each domain's head was made with.
        learnt: indices of the domains that had examples.
        head: its name in the configuration.
        settings: of the shared part.
        classes: names of what is told; empty for ratings.
        log: of its training.
    """

    task: TaskName
    net: TaskNet
    offered: list[dict[str, Any]]
    learnt: tuple[int, ...]
    head: str
    settings: TasksConfig
    classes: tuple[str, ...] = ()
    log: Log = field(default_factory=Log)

    @torch.inference_mode()
    def tell(self, inputs: Inputs, domain: int) -> NDArray[np.float64]:
        """Ratings [n], or probabilities [n, n_classes]; ratings stay within what occurs."""
        self.net.eval()
        outputs = self.net(inputs.state, inputs.item, inputs.facts, domain)
        head: Any = self.net.heads[domain]
        answer = head.answer(outputs).double().numpy()
        if self.task == "rate":
            levels = self.offered[domain]["levels"]
            answer = answer.clip(levels[0], levels[-1])
        return np.asarray(answer)

    def state(self) -> State:
        """Weights and what the heads were made with."""
        weights = {n: w.detach().cpu().numpy() for n, w in self.net.state_dict().items()}
        meta = {
            "dim": self.net.dim,
            "offered": self.offered,
            "learnt": list(self.learnt),
            "head": self.head,
            "settings": self.settings.model_dump(mode="json"),
            "classes": list(self.classes),
            "log": vars(self.log),
        }
        return State(weights, meta)

    @classmethod
    def from_state(cls, task: TaskName, state: State) -> Taught:
        """The same heads again."""
        meta = state.meta
        settings = TasksConfig.model_validate(meta["settings"])
        net = _net(task, meta["head"], settings, meta["dim"], meta["offered"])
        net.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in state.arrays.items()})
        return cls(
            task,
            net.eval(),
            meta["offered"],
            tuple(meta["learnt"]),
            meta["head"],
            settings,
            tuple(meta["classes"]),
            Log(**meta["log"]),
        )


def gather(task: TaskName, dataset: Dataset, split: Split, config: Config) -> Examples:
    """The configured examples of a task.

    Raises:
        DataError: there are none, or their labels cannot be meant.
    """
    if task == "rate":
        return rated_events(dataset, split)
    settings = config.tasks.click
    return clicks(dataset, split, settings.examples, negatives=settings.negatives, seed=config.seed)


def teach(
    reader: Reader, examples: Examples, config: Config, *, folder: Path | None = None
) -> Taught:
    """Train heads for every domain that has examples to learn from.

    Args:
        reader: of the task, on a fitted system.
        examples: for training and for early stopping.
        config: settings of the task, weights of the domains, seed.
        folder: checkpoints and curves; a killed run that is called again goes on from there.

    Raises:
        ConfigError: a head that cannot be meant.
        TrainingError: memory ran out, or the loss is no number.
    """
    settings, task = config.tasks, reader.task
    name = settings.rate.head if task == "rate" else settings.click.head
    names = reader.dataset.names
    learnt = tuple(np.unique(examples.of(Role.TRAIN).domain).tolist())
    offered = [_offered(task, reader, examples, d, settings) for d in range(len(names))]
    with enough_memory("evaluation.batch", "tasks.batch"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = _net(task, name, settings, reader.dim, offered)
        pairs = {
            role: {
                d: labelled(reader, some, in_training=role is Role.TRAIN)
                for d in learnt
                if len(some := examples.take((examples.role == role) & (examples.domain == d)))
            }
            for role in (Role.TRAIN, Role.VALIDATION)
        }
        net.settle([tuple(vars(p.inputs).values()) for p in pairs[Role.TRAIN].values()])
        weights = {d: config.training.domain_weights.get(names[d], 1.0) for d in learnt}
        to_learn = HeadTask(net, pairs[Role.TRAIN], settings.batch, weights)
        how = _training(settings, config.training)

        def validate() -> float | None:
            with torch.inference_mode():
                losses = {d: to_learn.losses(some, d) for d, some in pairs[Role.VALIDATION].items()}
                return -float(sum_of_means(losses, weights)) if losses else None

        log = train(
            to_learn,
            validate,
            how,
            seed=config.seed,
            label=f"learning to {task}",
            folder=folder and folder / "checkpoints" / task,
            mark=_mark(to_learn, pairs[Role.VALIDATION], settings, how, config.seed),
            tracking=tracker(folder and folder / "curves" / task, config.tracking),
        )
    return Taught(task, net.eval(), offered, learnt, name, settings, examples.classes, log)


@dataclass(frozen=True)
class Labelled:
    """Inputs of one domain with their labels, [n]: float ratings or int64 classes."""

    inputs: Inputs
    labels: Tensor

    def take(self, rows: Tensor) -> Labelled:
        """The pairs at `rows`."""
        return Labelled(self.inputs.take(rows), self.labels[rows])


def labelled(reader: Reader, examples: Examples, *, in_training: bool) -> Labelled:
    """Read examples of one domain."""
    labels = torch.from_numpy(examples.label)
    inputs = reader.read(examples, in_training=in_training)
    return Labelled(inputs, labels.float() if reader.task == "rate" else labels.long())


class HeadTask:
    """Learning heads on pairs that were read beforehand; a `training.loop.Task`.

    Args:
        net: heads, and what they share.
        pairs: by domain.
        batch: most pairs at a step, of all domains together; fewer where there are few.
        weights: of each domain's mean loss.
    """

    def __init__(
        self, net: TaskNet, pairs: Mapping[int, Labelled], batch: int, weights: Mapping[int, float]
    ) -> None:
        self.net, self.pairs = net, dict(pairs)
        self.module: nn.Module = net
        self.weights = dict(weights)
        self.rows, self.device, self.progress = RowAdam(torch.zeros(0, 1)), torch.device("cpu"), 0.0
        self.domain = np.repeat(list(self.pairs), [len(p.labels) for p in self.pairs.values()])
        self.place = np.concatenate([np.arange(len(p.labels)) for p in self.pairs.values()])
        self.batch = min(batch, max(LEAST_BATCH, len(self.domain) // LEAST_STEPS))

    @property
    def batches_per_epoch(self) -> int:
        """Steps of an epoch."""
        return max(1, -(-len(self.domain) // self.batch))

    def batches(self, rng: np.random.Generator) -> Iterator[dict[int, Tensor]]:
        """Rows of each domain's pairs; one epoch in random order."""
        order = rng.permutation(len(self.domain))
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            domain, place = self.domain[rows], self.place[rows]
            yield {d: torch.from_numpy(place[domain == d]) for d in np.unique(domain).tolist()}

    def loss(self, batch: dict[int, Tensor], rng: np.random.Generator) -> Tensor:
        """Sum over domains of the mean loss of their pairs in the batch, a scalar."""
        losses = {d: self.losses(self.pairs[d].take(rows), d) for d, rows in batch.items()}
        return sum_of_means(losses, self.weights)

    def losses(self, pairs: Labelled, domain: int) -> Tensor:
        """Loss of each pair of one domain, [n]."""
        inputs, head = pairs.inputs, self.net.heads[domain]
        outputs = self.net(inputs.state, inputs.item, inputs.facts, domain)
        losses: Tensor = head.loss(outputs, pairs.labels)  # type: ignore[operator]
        return losses


def judged(taught: Taught, reader: Reader, examples: Examples, role: Role) -> Figures:
    """How well a task is told on examples of one role, by domain and over all."""
    told: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for d in taught.learnt:
        some = examples.take((examples.role == role) & (examples.domain == d))
        if len(some):
            told[d] = some.label, taught.tell(reader.read(some), d)
    return figures_of(taught.task, reader.dataset.names, told, taught.classes)


def _offered(
    task: TaskName, reader: Reader, examples: Examples, domain: int, settings: TasksConfig
) -> dict[str, Any]:
    """What a head of that domain may ask for."""
    width = settings.hidden + numbers_of(reader.n_facts)
    common: dict[str, Any] = {"width": width, "n_facts": reader.n_facts}
    if task == "click":
        return common | {"n_classes": len(examples.classes)}
    to_learn = examples.of(Role.TRAIN)
    own = to_learn.label[to_learn.domain == domain]
    levels = np.unique(own if len(own) else to_learn.label)
    if len(levels) > 100:
        levels = np.linspace(levels[0], levels[-1], 100)
    return common | {"mean": float(reader.ratings.mean[domain]), "levels": levels.tolist()}


def _net(
    task: TaskName, name: str, settings: TasksConfig, dim: int, offered: list[dict[str, Any]]
) -> TaskNet:
    heads: list[nn.Module] = task_heads(task, name, len(offered), offered)
    return TaskNet(dim, offered[0]["n_facts"], settings, heads)


def _training(settings: TasksConfig, usual: TrainingConfig) -> TrainingConfig:
    return usual.model_copy(
        update={
            "evaluate_every": 1,
            "bf16": "off",
            **{
                name: getattr(settings, name)
                for name in ("epochs", "patience", "learning_rate", "weight_decay")
            },
        }
    )


def _mark(
    task: HeadTask,
    judging: Mapping[int, Labelled],
    settings: TasksConfig,
    how: TrainingConfig,
    seed: int,
) -> str:
    """What the outcome depends on, as a short text."""
    digest = hashlib.blake2b(digest_size=16)
    pace = (how.warmup, how.clip)
    digest.update(f"{settings.model_dump(mode='json')}{seed}{task.weights}{pace}".encode())
    for d, pairs in (*task.pairs.items(), *judging.items()):
        digest.update(f"{d}:{len(pairs.labels)}".encode())
        for tensor in (pairs.labels, *vars(pairs.inputs).values()):
            digest.update(tensor.numpy().tobytes())
    for tensor in task.net.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
