"""One side goes on learning: its parts counted and weighed again, its network taught.

A network that learns starts from the weights that serve; how often it goes over the lessons, or
whether it rests until a full fine-tune, is configured. On what is replayed it also follows the
lists of the serving network, so that what it knew stays while what is new moves it (logit
distillation; Mi, Lin and Faltings, "ADER", RecSys 2020).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.baselines.cooccurrence import CoOccurrence
from isthmus.baselines.popular import RecentPopular
from isthmus.blend import FittedWeights, fit_blend
from isthmus.config import Config
from isthmus.continual.elastic import Elastic, fisher_diagonal
from isthmus.continual.grow import Room, grown_scorer
from isthmus.continual.lessons import Lessons, choose_lessons
from isthmus.continual.rolling import everything, learnt_of
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Queries, Split
from isthmus.model.core import CoreModel
from isthmus.model.learn import evidence, learn
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Scorer
from isthmus.training.loop import Log, pick_device
from isthmus.training.next_item import ExtraLoss, NextItemTask
from isthmus.transfer.distillation import Lists, RankingDistillation, teacher_lists
from isthmus.transfer.judges import no_more
from isthmus.transfer.sides import Side, blend_of, fit_parts, roles_of

_ASKED = ("gain", "user", "own", "elsewhere", "deep_gain")
_AGAIN = ("newcomer_gain", "newcomer_user", "newcomer_deep_gain")
"""What validation keeps, one value for each question; and for each asked again as a newcomer."""


@dataclass(frozen=True)
class Course:
    """What an update is, for every side of a system alike.

    Attributes:
        dataset: the larger snapshot.
        split: what may be learnt.
        questions: that weigh the parts: not learnt by the version that serves.
        fresh: bool [n_events] what is learnt for the first time.
        raw: text vectors per domain.
        config: of the model, with `learning`.
        number: of the update, from 1.
        full: a full fine-tune: everything is learnt again.
        folder: checkpoints to resume from; None keeps none.
    """

    dataset: Dataset
    split: Split
    questions: Queries
    fresh: NDArray[np.bool_]
    raw: Sequence[ItemFeatures]
    config: Config
    number: int
    full: bool = False
    folder: Path | None = None

    @property
    def passes(self) -> int:
        """Times that the network goes over its lessons; 0: it rests."""
        settings = self.config.learning
        return settings.full_passes if self.full else settings.passes

    @property
    def seed(self) -> int:
        """Of this update alone."""
        sequence = np.random.SeedSequence([self.config.seed, 1 + self.number])
        return int(sequence.generate_state(1)[0])


def refit_side(
    side: Side, course: Course, features: Sequence[ItemFeatures]
) -> tuple[Side, Lessons]:
    """A successor of a side, and what its network has learnt.

    Args:
        side: serving, over the course's snapshot already (see `grow`); it is not changed.
        course: what is learnt.
        features: aligned text vectors that its network reads.
    """
    start = time.perf_counter()
    dataset, config, settings = course.dataset, course.config, course.config.learning
    reads, neural = side.neural.reads, side.neural
    lessons = choose_lessons(
        dataset,
        course.fresh,
        course.split.in_train,
        reads,
        replay=np.inf if course.full else settings.replay if course.passes else 0,
        replay_most=settings.replay_most,
        max_length=config.model.max_length,
        salt=str(course.number),
    )
    name, log = f"update {side.name}", None
    if course.passes and len(lessons.events):
        neural = _student(side, course, features)
        log = _learn(side, neural.model, lessons, course)
    parts = _parts(side, neural, course)
    fitted = {d: _weighed(side, course, d) for d in side.fitted}
    informed = {d for d, f in fitted.items() if len(f.gain)}
    others = [d for d in side.blend.weights if d not in informed]
    successor = Side(
        side.name,
        neural,
        parts,
        blend_of(parts, fitted, side.name, others=others),
        fitted,
        {} if log is None else {name: log},
        {name: time.perf_counter() - start},
    )
    return successor, lessons


def _parts(side: Side, neural: NeuralScorer, course: Course) -> dict[str, Scorer]:
    """The parts of a side; texts teach nothing, and what is popular has been counted (`grow`)."""
    reads, names = side.neural.reads, list(side.parts)
    counted = [name for name in names if name not in ("text", RecentPopular.name)]
    blend = course.config.blend.model_copy(update={"parts": counted})
    config = course.config.model_copy(update={"blend": blend})
    dataset, split = course.dataset, course.split
    company = side.parts.get("co-occurrence")
    assert company is None or isinstance(company, CoOccurrence), "the part is a CoOccurrence"
    if company is None or not company.counts_on:
        # Judged beside one that has counted nothing since it was made, it counts no more either.
        dataset = learnt_of(dataset, split)
        split = everything(dataset.events)
    fitted = fit_parts(
        dataset,
        split,
        course.raw,
        neural,
        config,
        reads=reads,
        asks=reads,
        company=None if company is None else company.config,
    )
    return {name: fitted.get(name, side.parts[name]) for name in names}


def _student(side: Side, course: Course, features: Sequence[ItemFeatures]) -> NeuralScorer:
    """A copy of the serving network that knows how often each item has been chosen by now."""
    dataset = course.dataset
    seen = evidence(dataset, course.split.train_events(dataset).only(*side.neural.reads))
    same = Room.between(dataset.item_offsets, dataset.item_offsets)
    return grown_scorer(side.neural, features, same, seen)


def _learn(side: Side, student: CoreModel, lessons: Lessons, course: Course) -> Log:
    """Train the student in place; gives the log."""
    config, settings = course.config, course.config.learning
    roles = roles_of(course.dataset, config, None)
    weights = roles.only(*side.fitted)
    training = config.training.model_copy(
        update={
            "epochs": course.passes,
            "learning_rate": config.training.learning_rate * settings.rate,
            "newcomer_steps": 0.0,  # it knows how newcomers look
        }
    )
    ours = config.model_copy(update={"training": training, "seed": course.seed})
    extra: list[ExtraLoss] = []
    if settings.distil and not course.full and lessons.replayed.any():
        lists = _told(side.neural.model, lessons, list(side.fitted), config)
        extra.append(
            RankingDistillation(
                student,
                lists,
                lessons.events,
                training,
                weights=weights,
                strength=settings.distil,
                mark=f"distil {settings.distil} {settings.distil_top}",
            )
        )
    if settings.elastic and not course.full and lessons.replayed.any():
        extra.append(_elastic(student, lessons, weights, course, ours))
    name = side.name.replace("/", "-")
    _, log = learn(
        student,
        course.dataset,
        course.split,
        ours,
        reads=side.neural.reads,
        weights=weights,
        events=lessons.events,
        label=f"update, {side.name}",
        folder=course.folder / name if course.folder else None,
        depends=f"update {course.number} full {course.full}",
        extra=extra,
    )
    return log


def _told(teacher: CoreModel, lessons: Lessons, domains: Sequence[int], config: Config) -> Lists:
    """The serving network's lists at the replayed events; it is not asked about new ones."""
    settings = config.learning
    whose = np.zeros(lessons.events.n_users, bool)
    whose[lessons.events.user[lessons.replayed]] = True
    inside = whose[lessons.events.user]
    told = teacher_lists(
        teacher,
        lessons.events.keep(inside),
        domains,
        top=settings.distil_top,
        temperature=settings.distil_temperature,
        max_length=config.model.max_length,
    )
    n = len(lessons.events)
    item = np.zeros((n, settings.distil_top), np.int64)
    share = np.zeros((n, settings.distil_top), np.float32)
    confidence = np.zeros(n, np.float32)
    item[inside], share[inside], confidence[inside] = told.item, told.share, told.confidence
    confidence[~lessons.replayed] = 0.0
    return Lists(item, share, confidence)


def _elastic(
    student: CoreModel,
    lessons: Lessons,
    weights: Sequence[float],
    course: Course,
    config: Config,
) -> Elastic:
    """Hold the weights that the replayed events rest on."""
    events = lessons.events
    old = replace(events, weight=np.where(lessons.replayed, events.weight, np.float32(0)))
    task = NextItemTask(
        student.to(pick_device(config.training.device)),
        old,
        course.dataset.item_offsets,
        config.training,
        weights=weights,
        max_length=config.model.max_length,
        device=pick_device(config.training.device),
    )
    return Elastic(student, fisher_diagonal(task, seed=course.seed), config.learning.elastic)


def _weighed(side: Side, course: Course, domain: int) -> FittedWeights:
    """Part weights from all that is new, drawn towards those of the version before.

    The parts are asked as they have served: not having learnt what came since they were made. That
    is how the successor's will be asked until the next update, while questions from the days
    after its training would find them fresher than most people do.

    As many questions speak for the old weights as they rest on, at most `weight_memory`. What
    validation said before still counts for the gate, the latest `gate_memory` questions of it.
    """
    config, settings, before = course.config, course.config.learning, side.fitted[domain]
    now = fit_blend(
        side.parts,
        course.dataset,
        no_more(course.questions, course.dataset, domain),
        domain,
        config.blend,
        batch=config.evaluation.batch,
        max_history=config.evaluation.max_history,
        seed=config.seed,
        exclude_seen=config.evaluation.exclude_seen,
    )
    if not len(now.gain):
        return before
    before = _of_people_left(before, course.dataset)
    # A model that began with little data was weighed on few questions, and its weights say little.
    memory = min(settings.weight_memory, len(before.gain))
    weights = drawn_towards(now.weights, before.weights, len(now.gain), memory)
    newcomers = now.newcomer_weights or before.newcomer_weights
    if now.newcomer_weights and before.newcomer_weights:
        newcomers = drawn_towards(
            now.newcomer_weights,
            before.newcomer_weights,
            len(now.newcomer_gain),
            min(settings.weight_memory, len(before.newcomer_gain)),
        )
    lengths = [{len(getattr(before, name)) for name in names} for names in (_ASKED, _AGAIN)]
    if any(len(different) > 1 for different in lengths):
        # Folders written by older versions keep less than the gate asks for.
        before = replace(now, **{name: getattr(now, name)[:0] for name in _ASKED + _AGAIN})
    kept = {
        name: np.concatenate([getattr(before, name), getattr(now, name)])[-settings.gate_memory :]
        for name in _ASKED + _AGAIN
    }
    return replace(now, weights=weights, newcomer_weights=newcomers, **kept)


def _of_people_left(fitted: FittedWeights, dataset: Dataset) -> FittedWeights:
    """Without questions of people who have no events any more: they were erased."""
    alive = np.diff(dataset.events.offsets) > 0
    asked, again = alive[fitted.user], alive[fitted.newcomer_user]
    kept = {
        name: values[mask] if len(values) else values
        for names, mask in ((_ASKED, asked), (_AGAIN, again))
        for name in names
        for values in [getattr(fitted, name)]
    }
    return replace(fitted, **kept)


def drawn_towards(
    now: Mapping[str, float], before: Mapping[str, float], n: int, memory: int
) -> dict[str, float]:
    """Weights fitted on `n` questions, and others that count as `memory` of them."""
    share = n / max(n + memory, 1)
    return {name: share * w + (1 - share) * before[name] for name, w in now.items()}
