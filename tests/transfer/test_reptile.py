from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_strategies import EVERYTHING, ROLES, far, run, weights
from transfer_world import BOOKS, GEAR, settings, texts, world

from isthmus.alignment.domains import align_features
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import global_cut
from isthmus.errors import ConfigError
from isthmus.model.core import CoreModel
from isthmus.transfer.reptile import ReptileTask, Tasks, taste_groups
from isthmus.transfer.stages import Reptile, Train
from isthmus.transfer.strategies import chosen_strategy

STAGE = Reptile("meta", EVERYTHING, (1.0, 1.0))


@pytest.fixture(scope="module")
def small():
    dataset = world(1.0, n_users=150)
    return dataset, global_cut(dataset)


def _task(
    small, tasks: Tasks, learnt: tuple[float, float] = (1.0, 1.0), *overrides: str
) -> ReptileTask:
    dataset, split = small
    config = settings("training.batch_events=200", *overrides)
    features = align_features(texts(dataset), config, dataset)
    return ReptileTask(
        CoreModel(features, np.ones(dataset.n_items, np.float32), config.model, 0),
        split.train_events(dataset),
        dataset.item_offsets,
        config.training,
        weights=learnt,
        max_length=20,
        device=torch.device("cpu"),
        tasks=tasks,
    )


def test_steps_for_newcomers_are_none_of_its_own(small):
    tasks = Tasks(np.zeros(150, np.int64), inner_steps=3, outer_rate=1.0)
    plain = _task(small, tasks)
    asked = _task(small, tasks, (1.0, 1.0), "training.newcomer_steps=1")
    assert asked.batches_per_epoch == plain.batches_per_epoch
    assert len(list(asked.batches(np.random.default_rng(0)))) == plain.batches_per_epoch


def test_after_a_task_weights_are_part_of_the_way_to_where_its_steps_led(small):
    groups = np.zeros(150, np.int64)
    outcomes = {}
    for rate in (1.0, 0.25):
        task = _task(small, Tasks(groups, inner_steps=3, outer_rate=rate))
        before = {n: w.detach().clone() for n, w in task.module.named_parameters()}
        table = task.rows.table.clone()
        batches = task.batches(np.random.default_rng(0))
        rng = np.random.default_rng(1)
        torch.manual_seed(0)
        for _ in range(3):
            task.loss(next(batches), rng).backward()
            with torch.no_grad():
                for weight in task.module.parameters():
                    weight += 1
            task.rows.step(0.1)
        next(batches)
        moved = {n: (w - before[n]).detach() for n, w in task.module.named_parameters()}
        outcomes[rate] = moved, task.rows.table - table
    for name, whole in outcomes[1.0][0].items():
        assert torch.allclose(whole, torch.full_like(whole, 3.0), atol=1e-5)
        assert torch.allclose(outcomes[0.25][0][name], 0.25 * whole, atol=1e-5)
    rows = outcomes[1.0][1]
    assert rows.abs().max() > 0.05
    assert torch.allclose(outcomes[0.25][1], 0.25 * rows, atol=1e-6)


def test_a_batch_holds_one_domain_to_learn_and_one_group_of_people(small):
    dataset, split = small
    events = split.train_events(dataset)
    groups = np.arange(150) % 3
    task = _task(small, Tasks(groups, inner_steps=4, outer_rate=0.5))
    seen, rng = set(), np.random.default_rng(0)
    for _ in range(8):
        for batch in task.batches(rng):
            (group,) = set(groups[events.user[batch.inputs]].tolist())
            (domain,) = np.flatnonzero(task.weights).tolist()
            assert (events.domain[batch.targets] == domain).any()
            seen.add((domain, group))
    assert seen == {(d, g) for d in EVERYTHING for g in range(3)}
    assert task.weights == (1.0, 1.0)


def test_an_epoch_costs_what_an_ordinary_one_does(small):
    for inner in (1, 4, 7, 100):
        task = _task(small, Tasks(np.zeros(150, np.int64), inner_steps=inner, outer_rate=0.5))
        assert task.batches_per_epoch % 7, "the last task is cut short"
        steps = len(list(task.batches(np.random.default_rng(0))))
        assert steps == task.batches_per_epoch


def test_a_domain_that_is_not_learnt_is_no_task(small):
    task = _task(small, Tasks(np.zeros(150, np.int64), 4, 0.5), learnt=(0.0, 1.0))
    assert {domain for domain, _ in task.pools} == {GEAR}


def test_people_are_grouped_by_the_texts_they_read_not_by_their_rows(small):
    dataset, split = small
    events = split.train_events(dataset)
    rng = np.random.default_rng(0)
    # Two kinds of items and two kinds of people.
    kind = [np.arange(d.n_items) % 2 for d in dataset.domains]
    features = [
        ItemFeatures(
            (np.outer(2 * k - 1, [5, 0, 0]) + rng.normal(size=(len(k), 3))).astype(np.float32),
            np.ones(len(k), bool),
        )
        for k in kind
    ]
    person = np.arange(150) // 75
    books = events.domain == BOOKS
    item = (events.item // 2 * 2 + person[events.user]).astype(np.int32)
    item = np.minimum(item, np.where(books, 148, 118) + person[events.user]).astype(np.int32)
    group = taste_groups(dataset, replace(events, item=item), features, 2)
    active = np.diff(events.offsets) > 1
    same = (group == person)[active].mean()
    assert max(same, 1 - same) > 0.9
    counts = np.bincount(group[active])
    assert abs(int(counts[0]) - int(counts[1])) <= 1


def test_without_texts_people_are_grouped_by_chance_in_equal_parts(small):
    dataset, split = small
    none = [
        ItemFeatures(np.zeros((d.n_items, 4), np.float32), np.zeros(d.n_items, bool))
        for d in dataset.domains
    ]
    group = taste_groups(dataset, split.train_events(dataset), none, 3)
    active = np.diff(split.train_events(dataset).offsets) > 1
    counts = np.bincount(group[active])
    assert len(counts) == 3
    assert counts.max() - counts.min() <= 1


def test_the_strategy_adapts_to_the_target_where_there_is_one():
    config = settings("transfer.strategy=meta", "transfer.meta.inner_steps=7")
    meta, adapt = chosen_strategy(config.transfer, ROLES).stages(ROLES)
    assert isinstance(meta, Reptile)
    assert (meta.inner_steps, meta.weights) == (7, (1.0, 1.0))
    assert (adapt.reads, adapt.weights) == (EVERYTHING, (0.0, 1.0))
    several = replace(ROLES, target=None)
    assert chosen_strategy(config.transfer, several).stages(several)[1].weights == (1.0, 1.0)


def test_a_stage_of_tasks_learns_and_repeats(small):
    stages = [replace(STAGE, share=0.5), Train("adapt", EVERYTHING, (0.0, 1.0), share=0.5)]
    one, two = (weights(run(small, stages, "training.epochs=4")) for _ in range(2))
    assert not far(one, two)
    other = [replace(stages[0], outer_rate=1.0), stages[1]]
    assert "items.project.weight" in far(one, weights(run(small, other, "training.epochs=4")))


@pytest.mark.parametrize("wrong", [{"groups": 0}, {"inner_steps": 0}, {"outer_rate": 1.5}])
def test_tasks_that_cannot_be_made_are_refused(small, wrong):
    with pytest.raises(ConfigError, match="outer_rate"):
        run(small, [replace(STAGE, **wrong)])
