from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_strategies import EVERYTHING, ROLES, far, run, weights
from transfer_world import GEAR, settings, texts, world

from isthmus.alignment.domains import align_features
from isthmus.data.splits import global_cut
from isthmus.errors import ConfigError
from isthmus.model.learn import evidence
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Requests
from isthmus.transfer.pseudo_labels import with_pseudo_labels
from isthmus.transfer.sides import fit_side
from isthmus.transfer.stages import PseudoLabel, Train
from isthmus.transfer.strategies import SelfTraining, chosen_strategy

SURE = PseudoLabel("labels", (GEAR,), fewer_than=3, confidence=0.12, most=10.0, weight=0.5)


@pytest.fixture(scope="module")
def small():
    dataset = world(1.0, n_users=150)
    return dataset, global_cut(dataset)


@pytest.fixture(scope="module")
def joint(small):
    return NeuralScorer(run(small, [Train("a", EVERYTHING, (1.0, 1.0))]), EVERYTHING)


def label(joint, small, **how: object):
    dataset, split = small
    events = split.train_events(dataset)
    stage = replace(SURE, **how)  # type: ignore[arg-type]
    return events, with_pseudo_labels(joint, dataset, events, stage, settings())


def added(before, after):
    """Where the labels stand among the events after labelling."""
    real = after.offsets[:-1, None] + np.arange(np.diff(before.offsets).max())
    kept = np.zeros(len(after), bool)
    for user in range(before.n_users):
        kept[real[user][: np.diff(before.offsets)[user]]] = True
    return np.flatnonzero(~kept), np.flatnonzero(kept)


def test_real_events_stay_as_they_were_and_labels_come_last(small, joint):
    before, after = label(joint, small)
    new, real = added(before, after)
    assert len(new) > 10
    for name in ("domain", "item", "time", "kind", "weight"):
        np.testing.assert_array_equal(getattr(after, name)[real], getattr(before, name))
    assert (after.domain[new] == GEAR).all()
    ends = after.offsets[after.user[new] + 1] - 1
    np.testing.assert_array_equal(new, ends)
    assert (after.time[new] == after.time[new - 1]).all()


def test_labels_are_what_the_model_ranks_first_of_what_is_unseen_and_weigh_by_confidence(
    small, joint
):
    dataset, _ = small
    before, after = label(joint, small)
    new, _ = added(before, after)
    users = after.user[new]
    asked = Requests.of_users(replace(dataset, events=before), users)
    scores = joint.score(asked, GEAR).total.astype(np.float64)
    own = asked.domain == GEAR
    scores[asked.rows[own], asked.item[own]] = -np.inf
    np.testing.assert_array_equal(after.item[new], scores.argmax(1))
    best = np.sort(scores, axis=1)[:, ::-1][:, :10]
    share = 1 / np.exp(best - best[:, :1]).sum(1)
    np.testing.assert_allclose(after.weight[new], 0.5 * share, rtol=1e-4)
    assert (share >= 0.12).all()
    assert after.weight[new].max() <= 0.5


def test_only_people_with_little_target_history_get_a_label(small, joint):
    before, after = label(joint, small, confidence=0.0)
    new, _ = added(before, after)
    known = np.bincount(before.user[before.domain == GEAR], minlength=before.n_users)
    assert (known[after.user[new]] < 3).all()
    # All of them that have any history, since any confidence will do and no two items tie.
    few = (known < 3) & (np.diff(before.offsets) > 0)
    assert len(new) == few.sum()


def test_thresholds_keep_the_surest(small, joint):
    before, everyone = label(joint, small, confidence=0.0)
    all_new = everyone.weight[added(before, everyone)[0]]
    limit = 15 / (before.domain == GEAR).sum()
    _, some = label(joint, small, confidence=0.0, most=limit + 1e-9)
    kept = some.weight[added(before, some)[0]]
    assert len(kept) == 15
    assert kept.min() >= np.sort(all_new)[::-1][14]
    _, none = label(joint, small, confidence=1.0)
    assert len(none) == len(before)


def test_a_label_cannot_tell_what_is_held_back(small):
    # Other answers in validation and test: the same labels and the same weights come out.
    dataset, split = small
    item = dataset.events.item.copy()
    held = ~split.in_train & (dataset.events.domain == GEAR)
    item[held] = np.random.default_rng(0).permutation(item[held])
    other = replace(dataset, events=replace(dataset.events, item=item))
    silent = replace(split, stopping=split.stopping.where(np.zeros(len(split.stopping), bool)))
    stages = SelfTraining().stages(ROLES)
    eager = [
        replace(stage, confidence=0.0) if isinstance(stage, PseudoLabel) else stage
        for stage in stages
    ]
    one = weights(run((dataset, silent), eager))
    assert not far(one, weights(run((other, silent), eager)))
    # Labels did matter.
    assert far(one, weights(run((dataset, silent), [*eager[:1], *eager[2:]])))


def test_labels_do_not_count_as_evidence_nor_teach_the_other_parts(small):
    dataset, split = small
    raw, config = texts(dataset), settings("training.epochs=2", "blend.folds=2")
    features = align_features(raw, config, dataset)
    strategy = SelfTraining(config.transfer.pseudo_label.model_copy(update={"confidence": 0.0}))
    side = fit_side(strategy, dataset, split, raw, features, config, target=GEAR)
    counts = side.neural.model.items.evidence.numpy()
    np.testing.assert_array_equal(counts, evidence(dataset, split.train_events(dataset)))
    assert {"labels-1", "train first", "train round-1"} <= set(side.seconds)
    assert set(side.logs) == {"first", "round-1"}


def test_every_round_labels_the_training_events_anew(small):
    config = settings("transfer.strategy=pseudo-label", "transfer.pseudo_label.rounds=2")
    stages = chosen_strategy(config.transfer, ROLES).stages(ROLES)
    assert [stage.name for stage in stages] == [
        "first",
        "labels-1",
        "round-1",
        "labels-2",
        "round-2",
    ]
    shares = [stage.share for stage in stages if isinstance(stage, Train)]
    assert sum(shares) == pytest.approx(1.0)
    assert stages[1].domains == (GEAR,)
    several = replace(ROLES, target=None)
    assert chosen_strategy(config.transfer, several).stages(several)[1].domains == EVERYTHING


def test_items_that_tie_are_not_known(small, joint):
    dataset, split = small
    events = split.train_events(dataset)

    class Indifferent(NeuralScorer):
        def score(self, requests, domain, items=None):
            scores = super().score(requests, domain, items)
            scores.total[:] = np.round(scores.total / 100)
            return scores

    alike = Indifferent(joint.model, joint.reads)
    stage = replace(SURE, confidence=0.01)
    assert len(with_pseudo_labels(alike, dataset, events, stage, settings())) == len(events)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([SURE, Train("a", EVERYTHING, (1.0, 1.0))], "nothing has been trained"),
        ([Train("a", EVERYTHING, (1.0, 1.0)), SURE], "last stage trains nothing"),
        ([replace(SURE, domains=(7,)), Train("a", EVERYTHING, (1.0, 1.0))], "2 domains"),
        ([replace(SURE, weight=0.0), Train("a", EVERYTHING, (1.0, 1.0))], "out of range"),
    ],
)
def test_labelling_that_cannot_be_meant_is_refused(small, stages, message):
    with pytest.raises(ConfigError, match=message):
        run(small, stages)
