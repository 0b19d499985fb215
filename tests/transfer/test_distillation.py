from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_strategies import EVERYTHING, ROLES, Killed, far, run, weights
from test_strategies import with_other_target_training as other_target
from transfer_world import BOOKS, GEAR, settings, texts, world

from isthmus.alignment.domains import align_features
from isthmus.config import TrainingConfig
from isthmus.data.splits import global_cut
from isthmus.errors import ConfigError
from isthmus.model.core import CoreModel
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Requests
from isthmus.training.loop import _Run
from isthmus.training.next_item import NextItemTask, Step
from isthmus.transfer import execution
from isthmus.transfer.distillation import Lists, RankingDistillation, teacher_lists
from isthmus.transfer.stages import Distil, Train
from isthmus.transfer.strategies import chosen_strategy

TEACHER = Train("teacher", EVERYTHING, (1.0, 1.0), share=0.5, width=2.0)
STUDENT = Distil("student", EVERYTHING, (1.0, 1.0), share=0.5, teacher="teacher", strength=3.0)


@pytest.fixture(scope="module")
def small():
    dataset = world(1.0, n_users=150)
    return dataset, global_cut(dataset)


@pytest.fixture(scope="module")
def model(small) -> CoreModel:
    return run(small, [Train("a", EVERYTHING, (1.0, 1.0))])


def _lists(model, small, **how: object) -> Lists:
    dataset, split = small
    usual = {"top": 5, "temperature": 1.0, "max_length": 20}
    domains = how.pop("domains", EVERYTHING)
    return teacher_lists(model, split.train_events(dataset), domains, **(usual | how))  # type: ignore[arg-type]


def test_a_list_is_what_the_teacher_ranks_first_at_that_event(small, model):
    dataset, split = small
    events = split.train_events(dataset)
    trained_on = replace(dataset, events=events)
    lists = _lists(model, small)
    scorer = NeuralScorer(model, EVERYTHING)
    first = events.offsets[events.user]
    # Within the first window of a person, a question reads all that stands before it.
    asked = np.flatnonzero((np.arange(len(events)) > first) & (np.arange(len(events)) <= first + 9))
    few = np.diff(events.offsets)[events.user[asked]] <= 20
    for d in EVERYTHING:
        at = asked[few & (events.domain[asked] == d)][:40]
        scores = scorer.score(Requests.at(trained_on, at), d).total
        order = np.argsort(-scores, axis=1)[:, :5]
        np.testing.assert_array_equal(lists.item[at] - dataset.item_offsets[d], order)
        top = np.take_along_axis(scores, order, 1).astype(np.float64)
        share = np.exp(top - top.max(1, keepdims=True))
        np.testing.assert_allclose(lists.share[at], share / share.sum(1, keepdims=True), rtol=1e-4)


def test_confidence_is_the_probability_of_the_list_with_mean_one(small, model):
    dataset, split = small
    events = split.train_events(dataset)
    short, long = _lists(model, small, top=1), _lists(model, small, top=40)
    for lists in (short, long):
        for d in EVERYTHING:
            told = lists.confidence[(events.domain == d) & (lists.confidence > 0)]
            assert told.mean() == pytest.approx(1.0, rel=1e-4)
    # A long list holds nearly everything, so that no question stands out.
    assert long.confidence[long.confidence > 0].std() < short.confidence[short.confidence > 0].std()
    # Nobody's first event is a next one.
    assert not short.confidence[events.offsets[:-1][np.diff(events.offsets) > 0]].any()


def test_a_domain_that_is_not_learnt_is_not_asked(small, model):
    dataset, split = small
    lists = _lists(model, small, domains=(GEAR,))
    assert not lists.confidence[split.train_events(dataset).domain == BOOKS].any()


def test_temperature_evens_the_shares_out(small, model):
    even, steep = _lists(model, small, temperature=10.0), _lists(model, small)
    told = steep.confidence > 0
    assert even.share[told].max(1).mean() < steep.share[told].max(1).mean()
    np.testing.assert_array_equal(even.item, steep.item)


def test_of_items_that_tie_at_the_end_of_a_list_none_is_chosen(small, model):
    alike = CoreModel(
        align_features(texts(small[0]), settings(), small[0]),
        np.zeros(small[0].n_items, np.float32),
        settings().model,
        0,
    )
    with torch.no_grad():
        alike.items.project.weight.zero_()
    lists = _lists(alike, small)
    assert not lists.confidence.any()
    assert not lists.share.any()


def test_the_loss_is_the_cross_entropy_to_the_list_by_hand(small, model):
    dataset, split = small
    events = split.train_events(dataset)
    lists = _lists(model, small, top=3)
    config = TrainingConfig(batch_events=100000, negatives=7)
    student = run(small, [Train("b", EVERYTHING, (1.0, 1.0))], "seed=5")
    loss = RankingDistillation(
        student, lists, events, config, weights=(0.5, 2.0), strength=0.1, mark=""
    )
    task = NextItemTask(
        student,
        events,
        dataset.item_offsets,
        config,
        weights=(0.5, 2.0),
        max_length=20,
        device=torch.device("cpu"),
        extra=[loss],
    )
    (batch,) = task.batches(np.random.default_rng(0))
    with torch.no_grad():
        both = task.loss(batch, np.random.default_rng(1)).item()
        task.extra = ()
        plain = task.loss(batch, np.random.default_rng(1)).item()
        states = student.states(
            student.item_vectors(torch.from_numpy(task.flat[batch.inputs])),
            torch.from_numpy(task.domain[batch.inputs]),
            torch.from_numpy(task.time[batch.inputs]),
            torch.from_numpy(batch.offsets),
        )
        expected = 0.0
        for d, weight in ((BOOKS, 0.5), (GEAR, 2.0)):
            size = dataset.domains[d].n_items
            drawn = loss._drawn[d]
            where = np.flatnonzero(task.domain[batch.targets] == d)
            queries = student.ask(states[where], d).double()
            total = 0.0
            for query, at in zip(queries, batch.targets[where], strict=True):
                listed = student.item_vectors(torch.from_numpy(lists.item[at])).double() @ query
                others = [r for r in drawn if r not in lists.item[at]]
                rest = student.item_vectors(torch.tensor(others)).double() @ query
                whole = torch.cat([listed, rest + np.log(size / 7)]).logsumexp(0)
                told = (torch.from_numpy(lists.share[at]).double() * listed).sum()
                total += float(lists.confidence[at] * (whole - told))
            expected += weight * total / len(where)
    assert both - plain == pytest.approx(0.1 * expected, rel=1e-3)


class _Everything:
    """Draws every item once, so that nothing is left to chance."""

    def integers(self, low: int, high: int, _size: int) -> np.ndarray:
        return np.arange(low, high)


def test_where_every_item_is_drawn_the_loss_is_that_of_the_whole_catalogue(small, model):
    dataset, split = small
    events = split.train_events(dataset)
    # Long lists: what they hold must not be taken off the catalogue twice.
    lists = _lists(model, small, top=60)
    student = run(small, [Train("b", EVERYTHING, (1.0, 1.0))], "seed=5")
    loss = RankingDistillation(
        student, lists, events, TrainingConfig(), weights=(1.0, 1.0), strength=1.0, mark=""
    )
    task = NextItemTask(
        student,
        events,
        dataset.item_offsets,
        TrainingConfig(batch_events=100000),
        weights=(1.0, 1.0),
        max_length=20,
        device=torch.device("cpu"),
    )
    (batch,) = task.batches(np.random.default_rng(0))
    with torch.no_grad():
        rows = torch.from_numpy(np.unique(loss.rows(batch, _Everything())))
        states = student.states(
            student.item_vectors(torch.from_numpy(task.flat[batch.inputs])),
            torch.from_numpy(task.domain[batch.inputs]),
            torch.from_numpy(task.time[batch.inputs]),
            torch.from_numpy(batch.offsets),
        )
        read = [torch.from_numpy(c[batch.inputs]) for c in (task.domain, events.user)]
        found = loss(Step(rows, student.item_vectors(rows), states, *read, 0.0, batch))
        expected = 0.0
        for d in EVERYTHING:
            where = np.flatnonzero(task.domain[batch.targets] == d)
            at = batch.targets[where]
            scores = student.ask(states[where], d) @ student.catalogue(d).T
            item = torch.from_numpy(lists.item[at] - dataset.item_offsets[d])
            told = scores.log_softmax(1).gather(1, item) * torch.from_numpy(lists.share[at])
            asked = lists.confidence[at] > 0
            expected -= float(
                (told.sum(1) * torch.from_numpy(lists.confidence[at]))[asked].sum()
            ) / len(at)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def _agreement(one: CoreModel, other: CoreModel, small) -> float:
    """Share of the ten items ranked first that two models have in common."""
    dataset, split = small
    asked = Requests.at(dataset, split.test.position[:200])
    tops = [
        np.argsort(-NeuralScorer(m, EVERYTHING).score(asked, GEAR).total, axis=1)[:, :10]
        for m in (one, other)
    ]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*tops, strict=True)]))


def test_a_student_ranks_more_like_its_teacher_than_one_without(small):
    longer = ("training.epochs=16", "training.patience=16", "training.device=cpu")
    teacher = run(small, [replace(TEACHER, width=None)], *longer)
    taught = run(small, [TEACHER, STUDENT], *longer)
    untaught = run(small, [TEACHER, replace(STUDENT, strength=1e-9)], *longer)
    assert taught.users.norm.normalized_shape == untaught.users.norm.normalized_shape == (16,)
    wide = _teacher_of(small, longer)
    assert wide.users.norm.normalized_shape == (32,)
    assert _agreement(taught, wide, small) > _agreement(untaught, wide, small) + 0.05
    assert _agreement(teacher, wide, small) < 1


def _teacher_of(small, how, stages=None) -> CoreModel:
    """The teacher that the student of these stages learns from; None: `TEACHER` and `STUDENT`."""
    from isthmus.transfer import execution

    kept: list[CoreModel] = []
    asked = execution.teacher_lists

    def seen(teacher, *args, **rest):
        kept.append(teacher)
        return asked(teacher, *args, **rest)

    execution.teacher_lists = seen
    try:
        run(small, stages or [TEACHER, replace(STUDENT, strength=1e-9)], *how)
    finally:
        execution.teacher_lists = asked
    return kept[0]


def test_an_earlier_stage_of_the_same_model_can_teach(small):
    first = Train("first", EVERYTHING, (1.0, 1.0), share=0.5)
    taught = weights(run(small, [first, replace(STUDENT, teacher="first")]))
    alone = weights(run(small, [first, Train("student", EVERYTHING, (1.0, 1.0), share=0.5)]))
    assert far(taught, alone)


def test_a_killed_student_goes_on_with_the_teacher_it_had(small, tmp_path, monkeypatch):
    how = ("training.epochs=4", "training.evaluate_every=1", "training.checkpoint_seconds=0")
    whole = weights(run(small, [TEACHER, STUDENT], *how))
    epoch, done = _Run.epoch, []

    def until_killed(self, validate):
        if len(done) == 3:
            raise Killed
        done.append(1)
        return epoch(self, validate)

    with monkeypatch.context() as patched:
        patched.setattr(_Run, "epoch", until_killed)
        with pytest.raises(Killed):
            run(small, [TEACHER, STUDENT], *how, folder=tmp_path)
    assert not far(whole, weights(run(small, [TEACHER, STUDENT], *how, folder=tmp_path)))
    # Another teacher: the student's checkpoint is not gone on from.
    other = [replace(TEACHER, width=1.5), STUDENT]
    resumed = weights(run(small, other, *how, folder=tmp_path))
    assert not far(resumed, weights(run(small, other, *how)))


@pytest.mark.parametrize("width", [None, 2.0])
def test_a_teacher_that_learnt_without_ids_teaches_without_them(small, monkeypatch, width):
    asked = []

    def with_other_ids(teacher, *given, **how):
        found = []
        for _ in range(2):
            found.append(teacher_lists(teacher, *given, **how))
            with torch.no_grad():
                teacher.id_table().normal_()
        asked.append(found)
        return found[0]

    monkeypatch.setattr(execution, "teacher_lists", with_other_ids)
    teacher = replace(TEACHER, ids=False, width=width)
    run(small, [teacher, STUDENT], "training.epochs=2")
    ((one, other),) = asked
    np.testing.assert_array_equal(one.item, other.item)
    np.testing.assert_array_equal(one.share, other.share)


def test_the_teacher_may_know_the_sources_alone():
    config = settings("transfer.strategy=distil", "transfer.distil.teacher=sources")
    teacher, student = chosen_strategy(config.transfer, ROLES).stages(ROLES)
    assert (teacher.reads, teacher.weights, teacher.width) == ((BOOKS,), (1.0, 0.0), 2.0)
    assert isinstance(student, Distil)
    assert (student.reads, student.teacher) == (EVERYTHING, "teacher")


def test_a_teacher_of_the_sources_never_sees_the_target(small):
    # Its lists of the target are there all the same: it knows the items by their texts.
    stages = [replace(TEACHER, reads=(BOOKS,), weights=(1.0, 0.0)), STUDENT]
    taught = [weights(_teacher_of(data, (), stages)) for data in (small, other_target(*small))]
    assert not far(*taught)
    # One of everything does see it.
    of_all = [weights(_teacher_of(data, ())) for data in (small, other_target(*small))]
    assert far(*of_all)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([STUDENT], "'teacher' is no stage before it"),
        ([STUDENT, TEACHER], "of its own, not the one that is going to serve"),
        ([replace(TEACHER, name="techer"), STUDENT], "is no stage before it.*'techer'"),
        ([TEACHER, Train("b", (0,), (1.0, 0.0), share=0.5)], "a stage that it teaches"),
        ([replace(TEACHER, width=0.0), STUDENT], "positive width"),
        ([TEACHER, replace(STUDENT, top=0)], "out of range"),
    ],
)
def test_teachers_that_cannot_be_meant_are_refused(small, stages, message):
    with pytest.raises(ConfigError, match=message):
        run(small, stages)
