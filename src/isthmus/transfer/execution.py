"""Running stages: one core model goes through them in turn and comes out trained.

Every stage keeps checkpoints of its own, marked by all that its outcome depends on, the weights it
began with included; so a killed run finds each finished stage as it was and goes on within the one
it was in.
"""

from __future__ import annotations

import copy
import hashlib
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
from isthmus.training.next_item import ExtraLoss, NextItemTask
from isthmus.training.tracking import Tracker
from isthmus.transfer.checks import check
from isthmus.transfer.distillation import RankingDistillation, teacher_lists
from isthmus.transfer.pseudo_labels import with_pseudo_labels
from isthmus.transfer.reptile import ReptileTask, Tasks, taste_groups
from isthmus.transfer.stages import Distil, PseudoLabel, Reptile, Stage, Train, epochs_by_stage

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
    watch: Tracker | None = None,
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
        watch: takes the figures of every epoch of every stage, and may raise to break off.

    Raises:
        ConfigError: stages that contradict each other, the snapshot or the configuration.
        DataError: a loss that aligns representations needs pairs, and there are none.
    """
    check(stages, dataset.names, config)
    course = _Course(stages, dataset, split, features, config, raw, folder, watch)
    for stage in stages:
        if isinstance(stage, Train):
            # Names of weights are those of any width; a wrong one is said before anything trains.
            with _as_wanted(course.model, stage):
                pass
    for index, stage in enumerate(stages):
        course.run(index, stage)
    return Trained(course.model, course.logs, course.seconds)


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
        watch: Tracker | None,
    ) -> None:
        self.dataset, self.split, self.features, self.raw = dataset, split, features, raw
        self.config, self.folder, self.watch = config, folder, watch
        self.events = split.train_events(dataset)
        self.behaved = set(np.unique(self.events.domain).tolist())
        self.epochs = epochs_by_stage(stages, config.training.epochs)
        last = stages[-1]
        assert isinstance(last, Train), "checked before"
        seen = evidence(dataset, self.events.only(*last.reads))
        self.model = CoreModel(features, seen, config.model, config.seed)
        self.logs: dict[str, Log] = {}
        self.seconds: dict[str, float] = {}
        self.labelled: Events | None = None
        self.before: Train | None = None
        self.wanted = {stage.teacher for stage in stages if isinstance(stage, Distil)}
        self.teachers: dict[str, tuple[Train, CoreModel]] = {}
        self.read: set[int] = set()
        self.asked: set[int] = set()

    def run(self, index: int, stage: Stage) -> None:
        """One stage; the model is changed in place."""
        if isinstance(stage, PseudoLabel):
            self._label(stage)
            return
        events = (self.events if self.labelled is None else self.labelled).only(*stage.reads)
        read = self.behaved & set(stage.reads)
        asked = read & set(stage.learns)
        if stage.width is not None:
            model = self._apart(stage)
            self._train(index, stage, model, events)
            _lend(model, read, asked)
            self.teachers[stage.name] = stage, model
            return
        self._train(index, stage, self.model, events)
        self.before = stage
        self.read |= read
        self.asked |= asked
        _lend(self.model, self.read, self.asked)
        if stage.name in self.wanted:
            self.teachers[stage.name] = stage, copy.deepcopy(self.model)

    def _apart(self, stage: Train) -> CoreModel:
        """A model of the stage's own width, which knows the IDs of what the stage reads."""
        config = self.config.model
        heads = config.heads
        dim = max(1, round(config.dim * (stage.width or 1) / heads)) * heads
        seen = evidence(self.dataset, self.events.only(*stage.reads))
        sizes = config.model_copy(update={"dim": dim})
        return CoreModel(self.features, seen, sizes, self.config.seed)

    def _label(self, stage: PseudoLabel) -> None:
        assert self.before is not None, "checked before"
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
        config = _settings(self.config, stage, index, self.epochs[stage.name])
        extra: list[ExtraLoss] = [
            *representation_alignment(
                self.dataset, events, self.raw, self.config, stage.reads, model.config.dim
            )
        ]
        if isinstance(stage, Distil):
            extra.append(self._lessons(stage, model, events, config))
        with _as_wanted(model, stage):
            self.logs[stage.name] = learn(
                model,
                self.dataset,
                self.split,
                config,
                reads=stage.reads,
                weights=stage.weights,
                events=events,
                task=task,
                label=f"training, {stage.name}",
                folder=self.folder / "checkpoints" / stage.name if self.folder else None,
                curves=self.folder / "curves" / stage.name if self.folder else None,
                depends=repr(stage),
                extra=extra,
                watch=self.watch,
            )[1]
        # Counted in the log, so that a resumed run reports what its training took in all.
        self.seconds[f"train {stage.name}"] = self.logs[stage.name].seconds

    def _lessons(
        self, stage: Distil, student: CoreModel, events: Events, config: Config
    ) -> RankingDistillation:
        """The loss against what the stage's teacher says of its events."""
        taught, teacher = self.teachers[stage.teacher]
        with _as_wanted(teacher, taught):
            lists = teacher_lists(
                teacher,
                events,
                stage.learns,
                top=stage.top,
                temperature=stage.temperature,
                max_length=config.model.max_length,
            )
        digest = hashlib.blake2b(digest_size=16)
        for array in (lists.item, lists.share, lists.confidence):
            digest.update(array.tobytes())
        return RankingDistillation(
            student,
            lists,
            events,
            config.training,
            weights=stage.weights,
            strength=stage.strength,
            mark=digest.hexdigest(),
        )


def _lend(model: CoreModel, read: set[int], asked: set[int]) -> None:
    """Domains that no stage has touched so far start from the mean of those that were."""
    for domain in range(len(model.bounds) - 1):
        if domain not in read:
            model.borrow_reading(domain, sorted(read))
        if domain not in asked:
            model.borrow_asking(domain, sorted(asked))


def _settings(config: Config, stage: Train, index: int, epochs: int) -> Config:
    """The configuration with the stage's epochs, its rate and a seed of its own."""
    training = config.training.model_copy(
        update={
            "epochs": epochs,
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
    model.items.ids_learnt_of = None if learn_ids else ()
    for weight in still:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        model.items.use_ids, model.items.ids_learnt_of = use_ids, None
        for weight in still:
            weight.requires_grad_(True)
