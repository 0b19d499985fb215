"""A serving system and newer events in; a challenger, and whether it may take over, out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.blend import Blend, decide
from isthmus.config import Config
from isthmus.continual.drift import Watch
from isthmus.continual.grow import up_to_date
from isthmus.continual.judge import Verdict, judge, served_gains
from isthmus.continual.lessons import Lessons
from isthmus.continual.progress import FULL, UPDATE, Progress
from isthmus.continual.refit import Course, refit_side
from isthmus.continual.rolling import everything, rolling_split, weighing_questions
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.errors import TrainingError
from isthmus.evaluation.significance import paired
from isthmus.transfer.sides import Side
from isthmus.transfer.system import System, open_uncompared


@dataclass(frozen=True)
class Challenger:
    """A successor, judged.

    Attributes:
        system: what would serve.
        split: what it has learnt; where networks learn, with the questions that judged it, which
            they learn the next time.
        verdict: against the system it started from.
        progress: for its folder.
    """

    system: System
    split: Split
    verdict: Verdict
    progress: Progress


def challenge(
    champion: System,
    dataset: Dataset,
    learnt: NDArray[np.bool_],
    arrived: NDArray[np.int64],
    raw: Sequence[ItemFeatures],
    config: Config,
    progress: Progress,
    *,
    guided: NDArray[np.int64] | None = None,
    full: bool = False,
    folder: Path | None = None,
) -> Challenger:
    """Train a successor on what is new, refresh its parts and gates, and hold it against the old.

    Args:
        champion: what serves, over the catalogues of `dataset`; it is not changed.
        dataset: the snapshot with everything that has come.
        learnt: bool [n_events] what the champion has learnt.
        arrived: int64 [n] positions of events that came since the champion was made.
        raw: text vectors per domain.
        config: with `learning`.
        progress: of the champion.
        guided: int64 [n] positions of events that answer a recommendation; see `rolling_split`.
        full: learn everything again, not the new events alone.
        folder: checkpoints; a killed call that is made again goes on from there.

    Raises:
        TrainingError: too little is new to learn from and to judge by.
    """
    start = time.perf_counter()
    settings, number = config.learning, progress.updates + 1
    split = rolling_split(
        dataset,
        learnt,
        share=settings.held_back,
        most=settings.held_back_most,
        salt=str(number),
        guided=guided,
    )
    fresh = ~learnt & split.in_train
    held_back = int((~split.in_train).sum())
    if not (fresh.any() and len(split.test)):
        raise TrainingError(
            f"{int((~learnt).sum()):,} new events are too few to learn from and to judge by",
            where="learning",
            hint="Wait for more of them",
        )
    # Whoever serves counts what is popular from day to day, so that is how both are weighed.
    looked_up = replace(dataset, events=split.known_events(dataset))
    champion = up_to_date(champion, looked_up)
    before = served_gains(champion.gated, dataset, split.test, config)
    watch = Watch.new(settings.drift_delta)
    if progress.watch is not None:
        watch = Watch.from_state(progress.watch)
    alarms = watch.look(before, dataset, arrived, least=settings.drift_least)
    drift = alarms if settings.drift else ()
    due = bool(settings.full_every) and progress.since_full + 1 >= settings.full_every
    full = full or due or bool(drift)
    questions = weighing_questions(
        dataset, learnt, most=settings.held_back_most, salt=str(number), guided=guided
    )
    course = Course(dataset, split, questions, fresh, raw, config, number, full, folder)
    learnt_on, lessons = _successor(champion, course)
    system = with_better_networks(learnt_on, champion, course) if course.passes else learnt_on
    after = served_gains(system.gated, dataset, split.test, config)
    verdict = judge(before, after, dataset.names, config)
    made = Progress(
        kind=FULL if full else UPDATE,
        updates=number,
        since_full=0 if full else progress.since_full + 1,
        fitted_items=progress.fitted_items,
        learnt=int(fresh.sum()),
        replayed=lessons.n_replayed,
        held_back=held_back,
        drift=drift,
        rested=system is not learnt_on,
        seconds=time.perf_counter() - start,
        verdict=verdict,
        watch=watch.state(),
    )
    if not course.passes:
        # Networks rest: nobody has more to learn of what has judged than to count it, and that is
        # done at once, since what follows what these days is not what it was a month ago.
        return Challenger(
            up_to_date(system, dataset, company=True), everything(dataset.events), verdict, made
        )
    return Challenger(up_to_date(system, dataset), split, verdict, made)


def _successor(champion: System, course: Course) -> tuple[System, Lessons]:
    """Every side goes on learning; the gates are set anew. With the transferred side's lessons."""
    transferred, lessons = refit_side(champion.transferred, course, champion.features)
    alone: dict[int, Side] = {}
    gates = dict(champion.gates)
    for d, side in champion.alone.items():
        if side is champion.transferred:
            alone[d] = transferred
            continue
        alone[d] = refit_side(side, course, champion.own_features)[0]
        gates[d] = decide(
            transferred.fitted[d],
            alone[d].fitted[d],
            course.config.blend,
            target=course.dataset.names[d],
        )
    for d, fitted in transferred.fitted.items():
        if champion.began_silent(d) and len(fitted.gain):
            gates[d] = open_uncompared(course.dataset.names[d], len(fitted.gain))
    return replace(champion, transferred=transferred, alone=alone, gates=gates), lessons


def with_better_networks(system: System, champion: System, course: Course) -> System:
    """The system as it is, or with the champion's networks where its blends then rank better.

    A network that has learnt on may rank better by itself and worse beside the other parts, which
    count what is new at once. It is asked what nobody has learnt, of the people who do not judge.
    A full fine-tune changes much and is rare, so that it has to rank better beyond chance: what is
    gained on the last days by luck is lost for as long as it serves.
    """
    questions = course.split.tuning
    if not len(questions):
        return system
    rested = _with_networks_of(champion, system)
    learnt_on, before = (
        served_gains(some.gated, course.dataset, questions, course.config)
        for some in (system, rested)
    )
    change = paired(learnt_on.value, before.value, learnt_on.user)
    better = change.ci_low > 0 if course.full else change.difference >= 0
    return system if better else rested


def _with_networks_of(champion: System, system: System) -> System:
    """The same system, but for the networks."""

    def rested(side: Side, before: Side) -> Side:
        parts, old = dict(side.parts), side.blend
        if "neural" in parts:
            parts["neural"] = before.neural
        blend = Blend(parts, old.weights, newcomers=old.newcomers, name=old.name)
        return replace(side, neural=before.neural, parts=parts, blend=blend, logs={})

    transferred = rested(system.transferred, champion.transferred)
    alone = {
        d: transferred if side is system.transferred else rested(side, champion.alone[d])
        for d, side in system.alone.items()
    }
    return replace(system, transferred=transferred, alone=alone)
