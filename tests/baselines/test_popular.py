from __future__ import annotations

import numpy as np
import pytest
from baseline_world import asking, dataset_of

from isthmus.baselines.popular import (
    DAY,
    Popular,
    RecentPopular,
    RecentPopularConfig,
    taken_lately,
)
from isthmus.scoring import Requests
from isthmus.training.checkpoint import State

HALF = RecentPopularConfig(half_life_days=2.0, half_life_share=0.5)


def test_popular_counts_events_of_its_own_domain() -> None:
    dataset = dataset_of([[(0, 1), (1, 0)], [(0, 1), (0, 2)], [(1, 0)]], (4, 2))
    scorer = Popular.fit(dataset, dataset.events)
    requests = asking([], [(0, 1)])
    np.testing.assert_allclose(
        scorer.score(requests, 0).total, np.log1p([[0, 2, 1, 0]] * 2), rtol=1e-6
    )
    np.testing.assert_allclose(scorer.score(requests, 1).total, np.log1p([[2, 0]] * 2), rtol=1e-6)


def test_popular_learns_only_from_the_events_it_is_given() -> None:
    dataset = dataset_of([[(0, 0), (0, 1)]], (2,))
    given = dataset.events.keep(np.array([True, False]))
    counts = Popular.fit(dataset, given).score(asking([]), 0).total
    np.testing.assert_allclose(counts, np.log1p([[1, 0]]), rtol=1e-6)


def test_an_event_loses_half_its_weight_in_a_half_life() -> None:
    dataset = dataset_of([[(0, 0), (0, 1), (0, 2)]], (4,), [[0.0, 2 * DAY, 4 * DAY + 5]])
    scorer = RecentPopular.fit(dataset, dataset.events, HALF)
    expected = np.log1p([[0.25, 0.5, 1.0, 0.0]])
    np.testing.assert_allclose(scorer.score(asking([]), 0).total, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("day", "counts"),
    [
        (0.5, [0, 0, 0, 0]),
        (1.0, [1, 0, 0, 0]),
        (2.9, [2**-0.5, 0, 0, 0]),
        (3.0, [0.5, 1, 0, 0]),
        (4.9, [2**-0.75 * 2**-0.25 * 2**-0.5, 2**-0.5, 0, 0]),
        (5.0, [0.25, 0.5, 1, 0]),
        (900.0, [0.25, 0.5, 1, 0]),
        (-7.0, [0, 0, 0, 0]),
    ],
)
def test_a_question_sees_only_days_that_were_over(day: float, counts: list[float]) -> None:
    dataset = dataset_of([[(0, 0), (0, 1), (0, 2)]], (4,), [[0.0, 2 * DAY, 4 * DAY + 5]])
    scorer = RecentPopular.fit(dataset, dataset.events, HALF)
    scores = scorer.score(asking([], query_time=day * DAY), 0).total
    np.testing.assert_allclose(scores, np.log1p([counts]), rtol=1e-6)


@pytest.mark.parametrize("ancient", [-1e15, -1e300])
def test_an_event_of_thousands_of_years_ago_costs_one_row_and_weighs_nothing(
    ancient: float,
) -> None:
    times = [[ancient, 0.0, 2 * DAY, 4 * DAY + 5]]
    dataset = dataset_of([[(0, 3), (0, 0), (0, 1), (0, 2)]], (4,), times)
    scorer = RecentPopular.fit(dataset, dataset.events, HALF)
    assert len(scorer.state().arrays["indptr"]) == 5
    for day, counts in ((None, [0.25, 0.5, 1, 0]), (3.0, [0.5, 1, 0, 0]), (-7.0, [0, 0, 0, 0])):
        asked = asking([]) if day is None else asking([], query_time=day * DAY)
        found = scorer.score(asked, 0).total
        np.testing.assert_allclose(found, np.log1p([counts]), rtol=1e-6, atol=1e-12)
    level = scorer.fading().level(0)
    np.testing.assert_allclose(level, np.log1p([0.25, 0.5, 1, 0]), rtol=1e-6, atol=1e-12)


def test_a_state_with_a_row_for_every_day_is_still_read() -> None:
    dataset = dataset_of([[(0, 0), (0, 1), (0, 2)]], (4,), [[0.0, 2 * DAY, 4 * DAY + 5]])
    scorer = RecentPopular.fit(dataset, dataset.events, HALF)
    state = scorer.state()
    arrays = {name: array for name, array in state.arrays.items() if name != "days"}
    arrays["indptr"] = np.array([0, 1, 1, 2, 2, 3])
    older = RecentPopular.from_state(State(arrays, {**state.meta, "first_day": 0}))
    for query in (None, 0.5, 2.9, 4.9, 900.0):
        asked = asking([]) if query is None else asking([], query_time=query * DAY)
        np.testing.assert_array_equal(older.score(asked, 0).total, scorer.score(asked, 0).total)
    np.testing.assert_array_equal(older.fading().level(0), scorer.fading().level(0))


def test_without_a_clock_what_is_done_elsewhere_makes_nothing_older() -> None:
    dataset = dataset_of([[(0, 0), (1, 0), (0, 1), (1, 1), (1, 2)]], (2, 3))
    scorer = RecentPopular.fit(dataset, dataset.events, HALF)
    expected = np.log1p([[0.5, 1.0]])
    np.testing.assert_allclose(scorer.score(asking([]), 0).total, expected, rtol=1e-6)
    alone = RecentPopular.fit(dataset, dataset.events.only(1), HALF)
    np.testing.assert_array_equal(
        alone.score(asking([]), 1).total, scorer.score(asking([]), 1).total
    )


def test_without_a_clock_an_event_fades_by_its_place_in_the_history() -> None:
    dataset = dataset_of([[(0, 0), (0, 1)], [(0, 2)]], (4,))
    scorer = RecentPopular.fit(dataset, dataset.events, HALF)
    expected = np.log1p([[0.5, 1.0, 1.0, 0.0]])
    np.testing.assert_allclose(scorer.score(asking([]), 0).total, expected, rtol=1e-6)


def test_counting_on_gives_what_counting_everything_at_once_gives() -> None:
    times = [[0.0, 2 * DAY, 4 * DAY + 5], [9 * DAY, 9.5 * DAY, float("nan")]]
    whole = dataset_of([[(0, 0), (0, 1), (1, 0)], [(0, 1), (1, 1), (0, 2)]], (4, 2), times)
    first = np.zeros(len(whole.events), bool)
    first[[0, 2, 5]] = True
    later = whole.events.keep(~first)
    fading = RecentPopular.fit(whole, whole.events.keep(first), HALF).fading()
    for n in range(len(later)):
        one = slice(n, n + 1)
        moment = later.time[one]
        fading = fading.counting(later.domain[one].astype(int), later.item[one].astype(int), moment)
    at_once = RecentPopular.fit(whole, whole.events, HALF)
    assert fading.counting(*(np.empty(0, kind) for kind in (int, int, float))) is fading
    for domain in (0, 1):
        expected = at_once.score(asking([]), domain).total[0]
        np.testing.assert_allclose(fading.level(domain), expected, rtol=1e-6)
        np.testing.assert_array_equal(fading.level(domain), at_once.fading().level(domain))


def test_counting_starts_where_nothing_had_a_time_and_takes_in_new_items() -> None:
    dataset = dataset_of([[(0, 0), (0, 1)]], (2,))
    fading = RecentPopular.fit(dataset, dataset.events, HALF).fading()
    assert fading.day is None
    fading = fading.counting(np.zeros(2, int), np.array([1, 3]), np.array([DAY, 3 * DAY]))
    np.testing.assert_allclose(fading.level(0), np.log1p([0.5, 1.5, 0, 1]), rtol=1e-6)


def test_how_popular_an_item_was_is_what_somebody_saw_who_asked_then() -> None:
    rng = np.random.default_rng(0)
    rows = [[(0, int(item)) for item in rng.integers(5, size=20)] for _ in range(10)]
    times = np.sort(rng.integers(40, size=(10, 20)), axis=1) * DAY + rng.random((10, 20)) * 1000
    dataset = dataset_of(rows, (5,), times.tolist())
    events = dataset.events
    scorer = RecentPopular.fit(dataset, events, RecentPopularConfig(half_life_days=3.0))
    then = Requests.at(dataset, np.arange(len(events)))
    level = scorer.score(then, 0).total[np.arange(len(events)), events.item]
    found = taken_lately(events.item.astype(np.int64), events.time, 3.0)
    np.testing.assert_allclose(np.log1p(found), level, atol=1e-5)
    assert found.any()


def test_without_a_time_nothing_was_popular() -> None:
    item, time = np.array([0, 0, 0]), np.array([np.nan, 0.0, DAY])
    np.testing.assert_array_equal(taken_lately(item, time, 7.0), [0, 0, 1])
    assert len(taken_lately(item[:0], time[:0], 7.0)) == 0


def test_an_event_of_thousands_of_years_ago_was_not_lately() -> None:
    item, time = np.array([0, 0, 1]), np.array([-9e13, 0.0, 9e13])
    np.testing.assert_array_equal(taken_lately(item, time, 7.0), [0, 0, 0])
