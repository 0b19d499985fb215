"""A question is answered with what had been counted when it was asked, and never with more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from baseline_world import asking, dataset_of, random_world

from isthmus.baselines import moments
from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.baselines.moments import moments_of, remains
from isthmus.baselines.popular import DAY
from isthmus.data.dataset import Dataset
from isthmus.scoring import Requests

CUT = 12 * DAY
CONFIGS = (
    CoOccurrenceConfig(),
    CoOccurrenceConfig(merged=False, backward=0.25, trend_power=0.5, shrinkage=2.0),
    CoOccurrenceConfig(from_power=1.0, to_power=0.5, window=2, shrinkage=0.0),
    CoOccurrenceConfig(fades_to=(0.25, 0.5), half_life_days=3.0),
    CoOccurrenceConfig(merged=False, fades_to=(1.0, 0.0), half_life_days=1.5, backward=0.5),
)


def fit(dataset: Dataset, config: CoOccurrenceConfig = CONFIGS[0]) -> CoOccurrence:
    """What is before the cut was learnt, the rest is known."""
    learnt = dataset.events.time < CUT
    assert 0 < learnt.sum() < len(learnt)
    return CoOccurrence.fit(dataset, dataset.events, config, learnt=learnt)


def counted_until(dataset: Dataset, moment: float, config: CoOccurrenceConfig) -> CoOccurrence:
    events = dataset.events
    return CoOccurrence.fit(dataset, events.keep(events.time < max(moment, CUT)), config)


def asked_at(time: float) -> Requests:
    drawn = ((0, 1, 2), (3, 4, 5), (9, 7, 6), (8, 0, 1))
    histories = [[(0, a), (1, b), (0, c)] for a, b, c in drawn]
    return asking([], *histories, query_time=time)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", range(3))
def test_the_answer_is_that_of_what_had_been_counted_by_then(
    config: CoOccurrenceConfig, seed: int
) -> None:
    dataset = random_world(seed)
    scorer, differ = fit(dataset, config), set()
    for day in (0, 12, 13, 14.5, 16, 19.75, 20, 21, 30):
        then = counted_until(dataset, np.floor(day) * DAY, config)
        requests = asked_at(day * DAY)
        for domain in (0, 1):
            told = scorer.score(requests, domain).total
            np.testing.assert_allclose(told, then.score(requests, domain).total, rtol=1e-5)
            differ.add(told.tobytes())
    assert len(differ) > 8, "the answers change from day to day"


def test_questions_of_many_times_are_answered_together_as_alone() -> None:
    dataset = random_world(1)
    scorer = fit(dataset)
    times = np.array([25, np.nan, 3, 15, 15, 12, 18.5, 40]) * DAY
    history = [(0, 1), (1, 2), (0, 4)]
    requests = replace(asking(*[history] * len(times)), query_time=times)
    together = scorer.score(requests, 0).total
    for row, time in enumerate(times):
        alone = scorer.score(asking(history, query_time=time), 0).total
        np.testing.assert_array_equal(together[[row]], alone)
    assert together[0].any()
    # Without a time, and long after the last day, it is what is known now.
    np.testing.assert_array_equal(together[1], together[0])
    now = CoOccurrence.fit(dataset, dataset.events)
    np.testing.assert_array_equal(now.score(requests, 0).total[0], together[0])
    np.testing.assert_array_equal(together[3], together[4])


def test_nothing_of_the_own_day_or_later_is_seen() -> None:
    histories = [[(0, 0), (0, 1)], [(0, 0), (0, 2)], [(0, 0), (0, 3)]]
    times = [[1 * DAY, 2 * DAY], [1 * DAY, 15.2 * DAY], [1 * DAY, 16.1 * DAY]]
    scorer = fit(dataset_of(histories, (4,), times))
    for day, seen in ((15.9, [1]), (16.0, [1, 2]), (16.9, [1, 2]), (17.0, [1, 2, 3])):
        told = scorer.score(asking([(0, 0)], query_time=day * DAY), 0).total[0]
        assert np.flatnonzero(told).tolist() == seen, day


def test_days_that_share_a_moment_are_seen_when_all_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = random_world(2)
    exact = fit(dataset)
    monkeypatch.setattr(moments, "MOST", 3)
    later = dataset.events.time[dataset.events.time >= CUT]
    few = moments_of(later, dataset.n_items)
    assert len(few) == 3
    assert few[-1] == np.floor(later.max() / DAY) * DAY + DAY
    coarse = fit(dataset)
    for day in range(12, 24):
        seen = np.max(few[few <= day * DAY], initial=CUT)
        told = coarse.score(asked_at(day * DAY), 0).total
        then = exact.score(asked_at(seen), 0).total
        np.testing.assert_allclose(told, then, rtol=1e-5)


def test_large_catalogues_have_fewer_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    time = np.arange(40) * DAY
    assert len(moments_of(time, 100)) == 40
    monkeypatch.setattr(moments, "CELLS", 500)
    assert len(moments_of(time, 100)) == 5
    assert len(moments_of(time, 10_000)) == 1


def test_in_pieces_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = random_world(0)
    whole = fit(dataset).score(asked_at(15 * DAY), 1).total
    monkeypatch.setattr(moments, "ENTRIES_AT_ONCE", 1)
    np.testing.assert_array_equal(fit(dataset).score(asked_at(15 * DAY), 1).total, whole)


@pytest.mark.parametrize("config", CONFIGS[::3])
def test_a_saved_past_is_the_same_past(config: CoOccurrenceConfig) -> None:
    dataset = random_world(0)
    scorer = fit(dataset, config)
    again = CoOccurrence.from_state(scorer.state())
    for day in (11, 14, 15, 17, 50):
        requests = asked_at(day * DAY)
        np.testing.assert_array_equal(
            again.score(requests, 0).total, scorer.score(requests, 0).total
        )


@pytest.mark.parametrize("config", CONFIGS[::3])
def test_the_past_moves_with_items_that_are_renumbered(config: CoOccurrenceConfig) -> None:
    dataset = random_world(0)
    sizes = [domain.n_items for domain in dataset.domains]
    place = np.concatenate([np.arange(sizes[0]), sizes[0] + 4 + np.arange(sizes[1])])
    offsets = np.array([0, sizes[0] + 4, sizes[0] + 4 + sizes[1] + 2])
    scorer = fit(dataset, config)
    grown = scorer.renumbered(place, offsets)
    for day in (11, 14, 17, 50):
        requests = asked_at(day * DAY)
        for domain, extra in ((0, 4), (1, 2)):
            told = grown.score(requests, domain).total
            np.testing.assert_array_equal(told[:, :-extra], scorer.score(requests, domain).total)
            assert not told[:, -extra:].any()


def test_a_past_from_before_pairs_faded_is_read() -> None:
    scorer = fit(random_world(0))
    state = scorer.state()
    older = {name: array for name, array in state.arrays.items() if name != "past_fades"}
    older["past_moments"] = older["past_moments"][1:]
    again = CoOccurrence.from_state(replace(state, arrays=older))
    for day in (11, 14, 17, 50):
        told = again.score(asked_at(day * DAY), 0).total
        np.testing.assert_array_equal(told, scorer.score(asked_at(day * DAY), 0).total)


def test_a_pair_fades_towards_what_an_old_one_counts() -> None:
    histories = [[(0, 0), (0, 1)], [(0, 0), (0, 2)], [(0, 0), (0, 3)]]
    times = [[1.5 * DAY, 2 * DAY], [1 * DAY, 15.5 * DAY], [1 * DAY, 22 * DAY]]
    config = CoOccurrenceConfig(fades_to=(0.2,), half_life_days=4.0, shrinkage=0.0, to_power=0.0)
    scorer = fit(dataset_of(histories, (4,), times), config)
    # Days from a pair's second event to the last day that was over; each follows one of three 0s.
    for asked, ages in (
        (16.2, (14, 0.5)),
        (22.9, (14, 0.5)),
        (23, (21, 7.5, 1)),
        (80, (21, 7.5, 1)),
    ):
        told = scorer.score(asking([(0, 0)], query_time=asked * DAY), 0).total[0]
        due = 0.2 + 0.8 * np.exp2(-np.array(ages) / 4.0)
        first = 1 + len(ages)
        np.testing.assert_allclose(told[1:first] / told[1], due / due[0], rtol=1e-5)
        assert not told[first:].any()


def test_a_pair_of_unknown_age_counts_as_an_old_one() -> None:
    histories = [[(0, 0), (0, 1)], [(0, 0), (0, 2)]]
    times = [[np.nan, np.nan], [1 * DAY, 2 * DAY]]
    dataset = dataset_of(histories, (3,), times)
    config = CoOccurrenceConfig(fades_to=(0.3,), half_life_days=1.0)
    scorer = CoOccurrence.fit(dataset, dataset.events, config)
    told = scorer.score(asking([(0, 0)]), 0).total[0]
    np.testing.assert_allclose(told[2] / told[1], (0.3 + 0.7 * 0.5) / 0.3, rtol=1e-5)


def test_what_was_learnt_rests_on_nothing_else() -> None:
    dataset = random_world(0)
    config = CoOccurrenceConfig(trend_power=0.5, fades_to=(0.1, 0.1))
    learnt = dataset.events.user % 2 == 0
    some = CoOccurrence.fit(dataset, dataset.events, config, learnt=learnt)
    alone = CoOccurrence.fit(dataset, dataset.events.keep(learnt), config)
    requests = asked_at(-DAY)
    told = some.score(requests, 0).total
    assert told.any()
    np.testing.assert_allclose(told, alone.score(requests, 0).total, rtol=1e-6)
    assert some.counts_on
    assert not alone.counts_on


def test_nothing_of_the_past_is_made_ready_for_questions_of_now() -> None:
    scorer = fit(random_world(0))
    scorer.score(asked_at(90 * DAY), 0)
    assert scorer._past is not None
    assert not {"_taken", "_towards"} & set(vars(scorer._past))


def test_what_lies_ahead_has_not_begun_to_fade() -> None:
    ages = np.array([-1e5 * DAY, -1.0, 0.0, 3 * DAY, np.nan])
    assert remains(ages, 3.0).tolist() == [1, 1, 1, 0.5, 0]
