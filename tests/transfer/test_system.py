from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from transfer_world import BOOKS, GEAR, ndcg, settings, texts, world

from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split, global_cut, leave_one_out
from isthmus.errors import ConfigError, DataError
from isthmus.scoring import Requests
from isthmus.transfer.system import System, fit_system

Fitted = tuple[Dataset, Split, System]


def _fit(transfer: float) -> Fitted:
    dataset = world(transfer)
    split = global_cut(dataset)
    return dataset, split, fit_system(dataset, split, texts(dataset), settings(), targets=[GEAR])


@pytest.fixture(scope="module")
def related() -> Fitted:
    return _fit(1.0)


@pytest.fixture(scope="module")
def unrelated() -> Fitted:
    return _fit(0.0)


def test_where_one_domain_tells_of_the_other_transfer_wins_and_the_gate_opens(related):
    dataset, split, system = related
    alone = ndcg(system.alone[GEAR].blend, dataset, split, GEAR)
    assert ndcg(system.transferred.blend, dataset, split, GEAR) > 1.05 * alone
    assert system.gates[GEAR].weight > 0.9
    assert ndcg(system.gated, dataset, split, GEAR) > 1.05 * alone


def test_where_it_tells_nothing_the_gate_shuts_and_nothing_is_lost(unrelated):
    dataset, split, system = unrelated
    assert system.gates[GEAR].weight == 0
    alone = ndcg(system.alone[GEAR].blend, dataset, split, GEAR)
    assert ndcg(system.gated, dataset, split, GEAR) == alone


def test_an_anchor_by_name_stands_for_the_shared_side_alone():
    dataset = world(1.0, n_users=200)
    config = settings("training.epochs=1", "alignment.anchor=gear")
    system = fit_system(dataset, global_cut(dataset), texts(dataset), config, targets=[GEAR])
    usual = settings("training.epochs=1")
    other = fit_system(dataset, global_cut(dataset), texts(dataset), usual, targets=[GEAR])
    for one, two in zip(system.own_features, other.own_features, strict=True):
        np.testing.assert_array_equal(one.vectors, two.vectors)


def test_other_questions_to_stop_by_are_another_training(tmp_path):
    dataset = world(1.0, n_users=200)
    config = settings("training.epochs=4", "training.evaluate_every=1")
    logs = []
    for quantiles in ((0.8, 0.95), (0.8, 0.85)):
        split = global_cut(dataset, quantiles=quantiles)
        for folder in (tmp_path, None):
            system = fit_system(dataset, split, texts(dataset), config, folder=folder)
            (log,) = system.transferred.logs.values()
            logs.append([epoch["validation"] for epoch in log.epochs])
    assert logs[0] == logs[1] != logs[2] == logs[3]


def test_the_gate_opens_as_one_domain_tells_more_of_the_other(related, unrelated):
    between = [_fit(transfer) for transfer in (0.25, 0.5)]
    gates = [system.gates[GEAR] for _, _, system in (unrelated, *between, related)]
    weight = [gate.weight for gate in gates]
    assert np.diff(weight).min() > -0.05
    assert (weight[0], weight[-1]) == (0.0, pytest.approx(1.0, abs=0.1))
    new = [next(part for part in gate.slices if part.asked_again) for gate in gates]
    assert all(part.n > 150 for part in new)
    gain = [part.shrunk[0] for part in new]
    assert np.diff(gain).min() > -0.1
    assert gain[0] < 0 < 1 < gain[-1]
    assert (new[0].weight, new[-1].weight) == (0.0, 1.0)


def test_only_the_targets_asked_for_have_a_gate(related):
    _, _, system = related
    assert set(system.gates) == set(system.alone) == {GEAR}
    assert set(system.transferred.fitted) == {BOOKS, GEAR}
    assert [len(f) for f in system.features] == [150, 120]


def _quick(dataset: Dataset, split: Split, *overrides: str) -> System:
    return fit_system(dataset, split, texts(dataset), settings("training.epochs=2", *overrides))


@pytest.fixture(scope="module")
def small() -> Dataset:
    return world(1.0, n_users=200)


def test_the_same_seed_gives_the_same_scores_twice(small):
    split = global_cut(small)
    one, two = (_quick(small, split) for _ in range(2))
    requests = Requests.at(small, split.test.position[:50])
    for domain in (BOOKS, GEAR):
        assert one.gates[domain] == two.gates[domain]
        for a, b in (
            (one.transferred.blend, two.transferred.blend),
            (one.alone[domain].blend, two.alone[domain].blend),
            (one.gated, two.gated),
        ):
            assert np.array_equal(a.score(requests, domain).total, b.score(requests, domain).total)


def test_a_domain_without_behaviour_is_served_by_what_the_others_taught(small):
    silent = replace(small, events=small.events.only(BOOKS))
    split = leave_one_out(silent)
    system = _quick(silent, split)
    gate = system.gates[GEAR]
    assert gate.weight == 1
    assert math.isnan(gate.confidence)
    assert "gear has no behaviour" in gate.reason
    assert GEAR not in system.alone
    assert system.transferred.blend.weights[GEAR] == system.transferred.fitted[BOOKS].weights
    scores = system.gated.score(Requests.at(silent, split.test.position[:20]), GEAR)
    assert np.isfinite(scores.total).all()
    # Books speak for gear through their texts.
    assert scores.parts["text"].std(axis=1).max() > 0


def test_a_domain_without_questions_has_the_gate_shut_and_borrowed_weights(small):
    split = global_cut(small)
    tuning, stopping = (
        half.where(small.events.domain[half.position] == BOOKS)
        for half in (split.tuning, split.stopping)
    )
    system = _quick(small, replace(split, tuning=tuning, stopping=stopping))
    assert system.gates[GEAR].weight == 0
    assert "no validation question" in system.gates[GEAR].reason
    weights = system.transferred.blend.weights
    assert weights[GEAR] == weights[BOOKS] == system.transferred.fitted[BOOKS].weights


def test_people_with_one_event_each_teach_no_sequence_but_stop_nothing(small):
    first = np.zeros(len(small.events), bool)
    gear = np.flatnonzero(small.events.domain == GEAR)
    first[gear[np.unique(small.events.user[gear], return_index=True)[1]]] = True
    few = replace(small, events=small.events.keep(first | (small.events.domain == BOOKS)))
    system = _quick(few, leave_one_out(few))
    assert np.isfinite(system.gated.score(Requests.of_users(few, np.arange(10)), GEAR).total).all()


def test_one_domain_has_nothing_to_transfer(small):
    events = small.events.only(GEAR)
    gear = replace(
        small,
        domains=(small.domains[GEAR],),
        events=replace(events, domain=np.zeros_like(events.domain)),
    )
    system = _quick(gear, leave_one_out(gear))
    assert system.gates[0].weight == 0
    assert "one domain" in system.gates[0].reason
    assert system.alone[0] is system.transferred
    asked = Requests.of_users(gear, np.arange(10))
    assert np.array_equal(
        system.gated.score(asked, 0).total, system.transferred.blend.score(asked, 0).total
    )


def test_a_domain_that_is_not_learnt_is_still_answered(small):
    system = _quick(small, global_cut(small), "training.domain_weights.gear=0")
    assert system.gates[GEAR].weight == 1
    assert "not learnt" in system.gates[GEAR].reason
    scores = system.gated.score(Requests.of_users(small, np.arange(5)), GEAR)
    assert np.isfinite(scores.total).all()


def test_texts_may_be_missing_altogether(small):
    split = global_cut(small)
    none = [
        ItemFeatures(np.zeros((d.n_items, 8), np.float32), np.zeros(d.n_items, bool))
        for d in small.domains
    ]
    system = fit_system(small, split, none, settings("training.epochs=2"), targets=[GEAR])
    assert ndcg(system.gated, small, split, GEAR) > 0


def test_nothing_to_learn_from_is_said():
    dataset = world(1.0, n_users=20)
    split = replace(global_cut(dataset), in_train=np.zeros(len(dataset.events), bool))
    with pytest.raises(DataError, match="no domain has a training event"):
        fit_system(dataset, split, texts(dataset), settings())


def test_a_weight_for_a_domain_that_does_not_exist_is_refused():
    dataset = world(0.0)
    config = settings()
    training = config.training.model_copy(update={"domain_weights": {"gaer": 2.0}})
    with pytest.raises(ConfigError, match=r"'gaer' is no domain\. Did you mean 'gear'"):
        fit_system(
            dataset,
            global_cut(dataset),
            texts(dataset),
            config.model_copy(update={"training": training}),
        )
