from __future__ import annotations

from itertools import product

import ir_measures
import numpy as np
import pytest
from evaluation_world import small_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG
from numpy.typing import NDArray

from isthmus.evaluation.metrics import (
    coverage,
    novelty,
    per_query,
    popularity_lift,
    popularity_of,
    whole_ranking,
)
from isthmus.evaluation.ranks import Protocol, Ranking

ORACLE = {
    "hit_rate": lambda k: Success @ k,
    "recall": lambda k: R @ k,
    "ndcg": lambda k: nDCG @ k,
    "mrr": lambda k: RR @ k,
}


def ranking_of(
    above: list[int],
    tied: list[int],
    *,
    top: NDArray[np.int64] | None = None,
    n_items: int = 50,
    protocol: Protocol = "full",
) -> Ranking:
    n = len(above)
    return Ranking(
        protocol=protocol,
        position=np.arange(n),
        user=np.arange(n),
        answer=np.zeros(n, np.int64),
        above=np.array(above),
        tied=np.array(tied),
        candidates=np.full(n, n_items),
        top=np.empty((n, 0), np.int64) if top is None else top,
        n_items=n_items,
    )


def oracle(places: list[int], n_items: int, cutoffs: list[int]) -> dict[str, list[float]]:
    """Each metric of each question by ir-measures; the answer of question q is at `places[q]`."""
    qrels = [ir_measures.Qrel(str(q), "answer", 1) for q in range(len(places))]
    run = [
        ir_measures.ScoredDoc(str(q), "answer" if r == place else f"other{r}", float(-r))
        for q, place in enumerate(places)
        for r in range(1, n_items + 1)
    ]
    names = {f"{name}@{k}": ORACLE[name](k) for name, k in product(ORACLE, cutoffs)} | {"mrr": RR}
    found: dict[str, list[float]] = {name: [np.nan] * len(places) for name in names}
    back = {measure: name for name, measure in names.items()}
    for value in ir_measures.iter_calc(list(names.values()), qrels, run):
        found[back[value.measure]][int(value.query_id)] = value.value
    return found


@settings(max_examples=10, deadline=None)
@given(places=st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_every_accuracy_metric_agrees_with_ir_measures(places: list[int]) -> None:
    cutoffs = [1, 5, 10, 20]
    expected = oracle(places, 50, cutoffs)
    found = per_query(ranking_of([p - 1 for p in places], [1] * len(places)), cutoffs)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, err_msg=name)


@settings(max_examples=10, deadline=None)
@given(above=st.integers(0, 20), tied=st.integers(1, 15))
def test_ties_count_as_the_mean_over_all_places(above: int, tied: int) -> None:
    cutoffs = [3, 10]
    every_place = oracle(list(range(above + 1, above + tied + 1)), 50, cutoffs)
    for name, values in per_query(ranking_of([above], [tied]), cutoffs).items():
        assert values[0] == pytest.approx(np.mean(every_place[name])), name


def test_hit_rate_under_ties_has_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    above, tied = rng.integers(0, 30, 200), rng.integers(1, 30, 200)
    found = per_query(ranking_of(above.tolist(), tied.tolist()), [10])["hit_rate@10"]
    np.testing.assert_allclose(found, np.clip((10 - above) / tied, 0, 1))


def test_an_answer_that_is_not_offered_gains_nothing_even_in_a_short_list() -> None:
    values = per_query(ranking_of([2], [0], n_items=5), [10])
    assert {name: float(v[0]) for name, v in values.items()} == dict.fromkeys(values, 0.0)


def test_a_cutoff_beyond_the_catalogue_holds_everything() -> None:
    values = per_query(ranking_of([4], [1], n_items=5), [100])
    assert values["hit_rate@100"][0] == 1
    assert values["mrr@100"][0] == values["mrr"][0] == pytest.approx(1 / 5)


def test_coverage_counts_distinct_items_and_no_padding() -> None:
    top = np.array([[0, 1, 2], [1, 2, -1], [2, -1, -1]])
    assert coverage(top, 6) == pytest.approx(3 / 6)
    assert coverage(top[:, :1], 6) == pytest.approx(3 / 6)
    assert coverage(top[1:, 1:], 6) == pytest.approx(1 / 6)


def test_novelty_is_self_information_with_one_event_added() -> None:
    popularity = np.array([7, 3, 0, 2])  # shares 8/16, 4/16, 1/16, 3/16
    found = novelty(np.array([[0, 1], [2, -1], [-1, -1]]), popularity)
    np.testing.assert_allclose(found, [(1 + 2) / 2, 4, 0])


def test_popularity_lift_is_zero_for_behaviour_itself() -> None:
    popularity = np.array([6, 3, 1])
    usual = np.repeat(np.arange(3), popularity)[:, None]
    assert popularity_lift(usual, popularity).mean() == pytest.approx(0)
    assert popularity_lift(np.array([[0]]), popularity)[0] == pytest.approx(6 / 4.6 - 1)
    assert popularity_lift(np.array([[-1]]), popularity)[0] == -1
    assert popularity_lift(np.array([[0]]), np.zeros(3, np.int64))[0] == -1


def test_popularity_counts_one_domain() -> None:
    dataset = small_dataset()
    events = dataset.events
    expected = [int(((events.domain == 1) & (events.item == i)).sum()) for i in range(20)]
    assert popularity_of(events, 1, 20).tolist() == expected


def test_list_metrics_come_with_full_rankings_up_to_the_lists_length() -> None:
    top = np.tile(np.arange(20), (2, 1))
    popularity = np.ones(50, np.int64)
    full = ranking_of([0, 1], [1, 1], top=top)
    assert {n for n in per_query(full, [5, 20, 1000], popularity) if "novelty" in n} == {
        "novelty@5",
        "novelty@20",
    }
    assert whole_ranking(full, [5, 20, 1000]) == {"coverage@5": 0.1, "coverage@20": 0.4}
    sampled = ranking_of([0, 1], [1, 1], protocol="sampled")
    assert "novelty@5" not in per_query(sampled, [5], popularity)
    assert whole_ranking(sampled, [5]) == {}


def test_list_metrics_reach_a_catalogue_that_is_shorter_than_the_cutoff() -> None:
    ranking = ranking_of([0], [1], top=np.array([[2, 0, 1]]), n_items=3)
    assert whole_ranking(ranking, [10]) == {"coverage@10": 1.0}
