from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from transfer_world import BOOKS, GEAR, settings, texts, world

from isthmus.alignment.domains import align_features
from isthmus.baselines import fading
from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.config import BlendConfig
from isthmus.data.splits import global_cut, leave_one_out
from isthmus.errors import ConfigError
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Requests
from isthmus.transfer.sides import FADES_TO, fit_parts, fit_side, judges
from isthmus.transfer.strategies import Joint, Roles, TargetOnly

QUICK = ("training.epochs=2",)


@pytest.fixture(scope="module")
def small():
    dataset = world(1.0, n_users=200)
    return dataset, global_cut(dataset), texts(dataset)


def test_joint_learns_and_reads_every_domain_and_target_only_one():
    roles = Roles(("a", "b", "c"), (1.0, 0.5, 2.0))
    (stage,) = Joint().stages(roles)
    assert (stage.reads, stage.weights) == ((0, 1, 2), (1.0, 0.5, 2.0))
    (stage,) = TargetOnly(1).stages(roles)
    assert (stage.reads, stage.weights) == ((1,), (0.0, 0.5, 0.0))


def test_a_target_only_side_sees_no_event_of_another_domain(small):
    dataset, split, raw = small
    config = settings(*QUICK)
    features = align_features(raw, config)
    side = fit_side(TargetOnly(GEAR), dataset, split, raw, features, config)
    # The same people with other books: nothing changes.
    events = dataset.events
    books = events.domain == BOOKS
    item = events.item.copy()
    item[books] = np.random.default_rng(0).permutation(item[books])
    other = replace(dataset, events=replace(events, item=item))
    again = fit_side(TargetOnly(GEAR), other, split, raw, features, config)
    assert again.fitted[GEAR].weights == side.fitted[GEAR].weights
    asked = split.test.position[events.domain[split.test.position] == GEAR][:20]
    for name in side.parts:
        np.testing.assert_array_equal(
            side.parts[name].score(Requests.at(dataset, asked).only(GEAR), GEAR).total,
            again.parts[name].score(Requests.at(other, asked).only(GEAR), GEAR).total,
        )
    assert set(side.fitted) == {GEAR}


def test_pairs_fade_in_the_domains_that_a_side_reads_if_that_answers_better(small, monkeypatch):
    dataset, split, raw = small
    config = settings("blend.parts=['co-occurrence']")
    monkeypatch.setattr(fading, "CONFIDENT", 0.0)

    def fades_to(split, *reads):
        neural = None  # not among the parts
        parts = fit_parts(dataset, split, raw, neural, config, reads=reads, asks=reads)
        return parts["co-occurrence"].config.fades_to

    assert fades_to(split, BOOKS, GEAR) == (FADES_TO, FADES_TO)
    assert fades_to(split, GEAR) == (1.0, FADES_TO)
    assert fades_to(leave_one_out(dataset), BOOKS, GEAR) == ()


def test_both_sides_have_the_same_parts_and_a_log_of_their_training(small, tmp_path):
    dataset, split, raw = small
    config = settings(*QUICK, "training.checkpoint_seconds=0")
    features = align_features(raw, config)
    side = fit_side(Joint(), dataset, split, raw, features, config, folder=tmp_path)
    assert list(side.parts) == config.blend.parts == list(side.fitted[BOOKS].weights)
    assert len(side.logs["joint"].epochs) == 2
    assert set(side.seconds) == {"train joint", "blend joint"}
    assert (tmp_path / "checkpoints" / "joint").is_dir()
    judged = side.fitted[GEAR]
    assert len(judged.gain) == (dataset.events.domain[split.validation.position] == GEAR).sum()
    # What sells is counted by a part of its own, so it is left out of what belongs together.
    company = side.parts["co-occurrence"]
    plain = CoOccurrence.fit(dataset, dataset.events, CoOccurrenceConfig(), learnt=split.in_train)
    requests = Requests.at(dataset, split.test.position[:50])
    told, usual = (part.score(requests, GEAR).total for part in (company, plain))
    assert usual.any()
    assert (told <= usual).all()
    assert told.sum() < 0.95 * usual.sum()
    # What came after training counts, for questions of later days.
    frozen = CoOccurrence.fit(dataset, split.train_events(dataset), company.config)
    assert not np.allclose(frozen.score(requests, GEAR).total, told)


def test_the_half_that_stopped_training_judges_only_where_the_other_is_too_small(small):
    dataset, split, _ = small
    n = int((dataset.events.domain[split.tuning.position] == GEAR).sum())
    enough, too_few = BlendConfig(enough_questions=n), BlendConfig(enough_questions=n + 1)
    assert judges(split, dataset, GEAR, enough) is split.tuning
    assert set(judges(split, dataset, GEAR, too_few).position) == {
        *split.tuning.position,
        *split.stopping.position,
    }


def test_of_very_many_questions_a_fixed_choice_judges_every_side(small, monkeypatch):
    dataset, split, raw = small
    monkeypatch.setattr("isthmus.transfer.judges.MOST", 40)
    config = settings("blend.parts=['text']", "training.epochs=1")
    features = align_features(raw, config)
    joint, alone = (
        fit_side(strategy, dataset, split, raw, features, config).fitted[GEAR]
        for strategy in (Joint(), TargetOnly(GEAR))
    )
    asked = judges(split, dataset, GEAR, config.blend)
    assert len(asked) == len(set(asked.position)) == 40
    assert set(asked.position) < set(split.validation.position)
    assert (dataset.events.domain[asked.position] == GEAR).all()
    for fitted in (joint, alone):
        np.testing.assert_array_equal(fitted.user, dataset.events.user[asked.position])


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_validation_asks_as_the_evaluation_does(small, exclude_seen):
    dataset, split, raw = small
    config = settings(
        *QUICK, "blend.parts=['neural']", f"evaluation.exclude_seen={str(exclude_seen).lower()}"
    )
    features = align_features(raw, config)
    side = fit_side(TargetOnly(GEAR), dataset, split, raw, features, config)
    # Of one part alone the weight changes no rank.
    questions = judges(split, dataset, GEAR, config.blend)
    asked = rank(side.blend, dataset, questions, GEAR, config=config.evaluation)
    gain = side.fitted[GEAR].gain
    place = asked.above + asked.tied - 1
    np.testing.assert_allclose(gain, np.where(place < 10, 1 / np.log2(place + 2), 0))


def test_a_second_fit_goes_on_from_the_first(small, tmp_path):
    dataset, split, raw = small
    config = settings(*QUICK)
    features = align_features(raw, config)
    first = fit_side(TargetOnly(GEAR), dataset, split, raw, features, config, folder=tmp_path)
    again = fit_side(TargetOnly(GEAR), dataset, split, raw, features, config, folder=tmp_path)
    assert again.logs == first.logs
    other = settings(*QUICK, "seed=1")
    fresh = fit_side(TargetOnly(GEAR), dataset, split, raw, features, other, folder=tmp_path)
    assert fresh.logs != first.logs


def test_only_the_parts_asked_for_are_fitted(small):
    dataset, split, raw = small
    config = settings(*QUICK, "blend.parts=['text', 'recent-popular']")
    side = fit_side(Joint(), dataset, split, raw, align_features(raw, config), config)
    assert list(side.parts) == ["text", "recent-popular"]


def test_an_unknown_part_is_named_with_the_near_one():
    with pytest.raises(ConfigError, match=r"blend\.parts.*'co-ocurrence'.*'co-occurrence'"):
        settings("blend.parts=['neural', 'co-ocurrence']")
