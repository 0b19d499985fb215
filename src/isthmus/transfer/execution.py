"""Running stages: one core model goes through them in turn and comes out trained.

Every stage keeps checkpoints of its own, marked by all that its outcome depends on, the weights it
began with included; so a killed run finds each finished stage as it was and goes on within the one
it was in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from isthmus.alignment.representations import representation_alignment
from isthmus.config import Config
from isthmus.data.dataset import Dataset, Events
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.errors import ConfigError, did_you_mean
from isthmus.model.core import CoreModel
from isthmus.model.learn import TaskMaker, evidence, learn
from isthmus.model.scorer import NeuralScorer
from isthmus.training.loop import Log
from isthmus.training.next_item import NextItemTask
from isthmus.transfer.pseudo_labels import with_pseudo_labels
from isthmus.transfer.reptile import ReptileTask, Tasks, taste_groups
from isthmus.transfer.stages import PseudoLabel, Reptile, Stage, Train

IDS = "items.table"
"""How the table of IDs is called among what can be frozen."""


@dataclass(frozen=True)
class Trained:
    """What came of a strategy's stages.

    Attributes:
        model: after the last stage.
        logs: training by stage.
        seconds: by stage.
    """

    model: CoreModel
    logs: dict[str, Log] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_stages(
    stages: Sequence[Stage],
    dataset: Dataset,
    split: Split,
    features: Sequence[ItemFeatures],
    config: Config,
    *,
    raw: Sequence[ItemFeatures],
    folder: Path | None = None,
) -> Trained:
    """Train a core model by the given stages.

    Args:
        stages: in turn; see `isthmus.transfer.stages`.
        dataset: the snapshot.
        split: training events, and questions for early stopping.
        features: aligned text vectors per domain.
        config: sizes, budget, seed, and the losses that align representations.
        raw: text vectors as the language model gives them, for pairs by text.
        folder: where checkpoints and curves go; None keeps none.

    Raises:
        ConfigError: stages that contradict each other, the snapshot or the configuration.
        DataError: a loss that aligns representations needs pairs, and there are none.
    """
    check(stages, dataset.names, config)
    course = _Course(stages, dataset, split, features, config, raw, folder)
    for index, stage in enumerate(stages):
        course.run(index, stage)
    return Trained(course.model, course.logs, course.seconds)


def check(stages: Sequence[Stage], names: Sequence[str], config: Config) -> None:
    """Refuse a list of stages that cannot be meant; see `run_stages`."""
    if not stages:
        raise ConfigError("the strategy has no stage", where="transfer.strategy")
    seen: set[str] = set()
    for stage in stages:
        where = f"transfer.strategy, stage {stage.name!r}"
        if stage.name in seen:
            raise ConfigError("two stages have this name", where=where, hint="Rename one")
        seen.add(stage.name)
        if isinstance(stage, PseudoLabel):
            _check_labelling(stage, names, where)
        else:
            _check_training(stage, names, config, where)
    training = [stage for stage in stages if isinstance(stage, Train)]
    if sum(stage.share for stage in training) > 1 + 1e-6:
        raise ConfigError(
            "the shares of the stages add up to more than 1",
            where="transfer.strategy",
            hint="All strategies have training.epochs to spend; raise that instead",
        )
    last = stages[-1]
    if not isinstance(last, Train):
        raise ConfigError(
            "the last stage trains nothing",
            where=f"transfer.strategy, stage {last.name!r}",
            hint="Let a Train stage use what it made",
        )
    if not last.ids and config.model.use_ids:
        raise ConfigError(
            "the last stage leaves IDs out, and the model would be served with untrained ones",
            where=f"transfer.strategy, stage {last.name!r}",
            hint="Set model.use_ids = false, or add a stage with IDs",
        )


def _check_training(stage: Train, names: Sequence[str], config: Config, where: str) -> None:
    domains = range(len(names))
    if len(stage.weights) != len(names) or not set(stage.reads) <= set(domains):
        raise ConfigError(
            f"reads {list(stage.reads)} and weighs {len(stage.weights)} domains, "
            f"and there are {len(names)}",
            where=where,
        )
    if not set(stage.learns) & set(stage.reads):
        raise ConfigError(
            "it learns no domain that it reads",
            where=where,
            hint="Check training.domain_weights, and that there is a source beside the target",
        )
    if not (0 < stage.share <= 1 and stage.rate > 0):
        raise ConfigError(f"share {stage.share} or rate {stage.rate} is out of range", where=where)
    if isinstance(stage, Reptile) and not (
        stage.groups >= 1 and stage.inner_steps >= 1 and 0 < stage.outer_rate <= 1
    ):
        raise ConfigError(
            "groups and inner_steps are at least 1, outer_rate is above 0 and at most 1",
            where=where,
        )
    if not stage.ids and not config.model.use_text:
        raise ConfigError(
            "it leaves IDs out, and model.use_text is off: items are known by nothing",
            where=where,
            hint="Set model.use_text = true",
        )


def _check_labelling(stage: PseudoLabel, names: Sequence[str], where: str) -> None:
    if not stage.domains or not set(stage.domains) <= set(range(len(names))):
        raise ConfigError(
            f"labels {list(stage.domains)}, and there are {len(names)} domains", where=where
        )
    if stage.fewer_than < 1 or stage.most < 0 or stage.weight <= 0:
        raise ConfigError("fewer_than, most or weight is out of range", where=where)


class _Course:
    """One model on its way through the stages."""

    def __init__(
        self,
        stages: Sequence[Stage],
        dataset: Dataset,
        split: Split,
        features: Sequence[ItemFeatures],
        config: Config,
        raw: Sequence[ItemFeatures],
        folder: Path | None,
    ) -> None:
        self.dataset, self.split, self.features, self.raw = dataset, split, features, raw
        self.config, self.folder = config, folder
        self.events = split.train_events(dataset)
        self.behaved = set(np.unique(self.events.domain).tolist())
        last = stages[-1]
        assert isinstance(last, Train), "checked before"
        seen = evidence(dataset, self.events.only(*last.reads))
        self.model = CoreModel(features, seen, config.model, config.seed)
        self.logs: dict[str, Log] = {}
        self.seconds: dict[str, float] = {}
        self.labelled: Events | None = None
        self.before: Train | None = None
        self.read: set[int] = set()
        self.asked: set[int] = set()

    def run(self, index: int, stage: Stage) -> None:
        """One stage; the model is changed in place."""
        if isinstance(stage, PseudoLabel):
            self._label(stage)
            return
        events = self.events if self.labelled is None else self.labelled
        self._train(index, stage, self.model, events.only(*stage.reads))
        self.before = stage
        self.read |= self.behaved & set(stage.reads)
        self.asked |= self.behaved & set(stage.reads) & set(stage.learns)
        self._lend()

    def _label(self, stage: PseudoLabel) -> None:
        if self.before is None:
            raise ConfigError(
                "nothing has been trained that could label",
                where=f"transfer.strategy, stage {stage.name!r}",
                hint="Put a Train stage before it",
            )
        start = time.perf_counter()
        scorer = NeuralScorer(self.model, self.before.reads)
        with _as_wanted(self.model, self.before):
            self.labelled = with_pseudo_labels(
                scorer, self.dataset, self.events, stage, self.config
            )
        self.seconds[stage.name] = time.perf_counter() - start

    def _train(self, index: int, stage: Train, model: CoreModel, events: Events) -> None:
        task: TaskMaker = NextItemTask
        if isinstance(stage, Reptile):
            group = taste_groups(self.dataset, events, self.features, stage.groups)
            task = partial(ReptileTask, tasks=Tasks(group, stage.inner_steps, stage.outer_rate))
        with _as_wanted(model, stage):
            self.logs[stage.name] = learn(
                model,
                self.dataset,
                self.split,
                _settings(self.config, stage, index),
                reads=stage.reads,
                weights=stage.weights,
                events=events,
                task=task,
                label=f"training, {stage.name}",
                folder=self.folder / "checkpoints" / stage.name if self.folder else None,
                curves=self.folder / "curves" / stage.name if self.folder else None,
                depends=repr(stage),
                extra=representation_alignment(
                    self.dataset, events, self.raw, self.config, stage.reads
                ),
            )[1]
        # Counted in the log, so that a resumed run reports what its training took in all.
        self.seconds[f"train {stage.name}"] = self.logs[stage.name].seconds

    def _lend(self) -> None:
        """Domains that no stage has touched so far start from the mean of those that were."""
        for domain in range(len(self.features)):
            if domain not in self.read:
                self.model.borrow_reading(domain, sorted(self.read))
            if domain not in self.asked:
                self.model.borrow_asking(domain, sorted(self.asked))


def _settings(config: Config, stage: Train, index: int) -> Config:
    """The configuration with the stage's share of epochs, its rate and a seed of its own."""
    training = config.training.model_copy(
        update={
            "epochs": max(1, round(config.training.epochs * stage.share)),
            "learning_rate": config.training.learning_rate * stage.rate,
            # A multiple of the rate, so that rows of IDs learn as fast as ever.
            "id_rate": config.training.id_rate / stage.rate,
        }
    )
    seed = config.seed
    if index:
        seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])
    return config.model_copy(update={"training": training, "seed": seed})


@contextmanager
def _as_wanted(model: CoreModel, stage: Train) -> Iterator[None]:
    """The model with IDs off and weights frozen as the stage says, and back again."""
    weights = dict(model.named_parameters())
    for start in stage.frozen:
        if not any(name.startswith(start) for name in (*weights, IDS)):
            parts = {".".join(name.split(".")[:2]) for name in weights} | {IDS}
            raise ConfigError(
                f"no weight's name starts with {start!r}",
                where=f"transfer.strategy, stage {stage.name!r}",
                hint=did_you_mean(start, parts),
            )
    still = [w for name, w in weights.items() if name.startswith(stage.frozen)]
    learn_ids = not IDS.startswith(stage.frozen)
    if len(still) == len(weights) and not (stage.ids and learn_ids):
        raise ConfigError("it freezes everything", where=f"transfer.strategy, stage {stage.name!r}")
    use_ids = model.items.use_ids
    model.items.use_ids = use_ids and stage.ids
    model.items.learn_ids = learn_ids
    for weight in still:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        model.items.use_ids, model.items.learn_ids = use_ids, True
        for weight in still:
            weight.requires_grad_(True)
