"""Best items put in order anew: what moves, what stays, and that it can be measured."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray
from tasks_world import once

from isthmus.blend.examples import about
from isthmus.config import CrossEncoderConfig
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.recommender import Recommender
from isthmus.scoring import Requests, Scores, pick
from isthmus.tasks.reranking import Reranked, reordered
from isthmus.tasks.texts import PairTexts

GEAR = 1


class Given:
    """A scorer of fixed scores for the items of gear, the same for all."""

    name = "given"

    def __init__(self, scores: NDArray[np.float32]) -> None:
        self.scores = scores

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        return Scores(pick(np.tile(self.scores, (len(requests), 1)), items))


def encoder(
    by: Callable[[str, str | None], float],
    *,
    rerank: int = 50,
    classes: tuple[str, ...] = ("0", "1"),
    weights: dict[str, float] | None = None,
) -> CrossEncoder:
    """What tells of a pair what `by` says of its texts."""

    def tell(first: list[str], second: list[str | None]) -> NDArray[np.float64]:
        told = np.array([by(a, b) for a, b in zip(first, second, strict=True)])
        return np.column_stack([1 - told, told]) if classes else told

    made = CrossEncoder.__new__(CrossEncoder)
    made.config = CrossEncoderConfig(rerank=rerank)
    made.classes, made.weights, made.tell = classes, weights, tell  # type: ignore[method-assign]
    return made


def of_text(recommender: Recommender) -> dict[str, int]:
    """Number of an item of gear by its text."""
    return {text: i for i, text in enumerate(PairTexts(recommender.dataset, 5).of_items[GEAR])}


def scores_of(n_items: int) -> NDArray[np.float32]:
    """Item 0 best, 1 next, …; the last is not to be offered."""
    scores = np.linspace(3, 2, n_items).astype(np.float32)
    scores[-1] = -np.inf
    return scores


@pytest.mark.parametrize("classes", [("0", "1"), ()])
def test_the_best_that_are_new_change_places_and_nothing_else_does(classes: tuple) -> None:
    dataset = once().dataset
    n = dataset.domains[GEAR].n_items
    number = of_text(once())
    requests = Requests.of_users(dataset, np.arange(3))
    by = encoder(lambda _person, item: number[item] / n, rerank=4, classes=classes)
    found = Reranked(Given(scores_of(n)), by, dataset).score(requests, GEAR).total
    assert found.shape == (3, n)
    for row in range(3):
        had = set(requests.only(GEAR).select(np.array([row])).item.tolist())
        new = [i for i in range(n) if i not in had][:4]
        expected = list(range(n))
        for place, item in zip(new, reversed(new), strict=True):
            expected[place] = item
        assert np.argsort(-found[row], kind="stable").tolist() == expected
        assert found[row, -1] == -np.inf
        assert len(np.unique(found[row])) == n


def test_of_equals_the_earlier_stays_first_and_fewer_than_n_are_no_trouble() -> None:
    dataset = once().dataset
    n = dataset.domains[GEAR].n_items
    alone = Requests.of_users(dataset, np.array([0]))
    same = encoder(lambda _person, _item: 0.5)
    items = np.array([5, 3, n - 1, 4])
    for asked in (items, items[None]):
        found = Reranked(Given(scores_of(n)), same, dataset).score(alone, GEAR, asked).total
        assert np.argsort(-found[0]).tolist() == [1, 3, 0, 2]
    nothing = Given(np.full(n, -np.inf, np.float32))
    assert np.isneginf(Reranked(nothing, same, dataset).score(alone, GEAR).total).all()


def test_it_is_measured_beside_what_is_served() -> None:
    recommender = once()
    dataset = recommender.dataset
    number = of_text(recommender)
    still = encoder(lambda _person, _item: 0.5, rerank=5)
    turned = encoder(lambda _person, item: number[item] / len(number), rerank=5)
    found = recommender.evaluate(domains=["gear"], rerank=still)["gear"]
    assert list(found)[-1] == "reranked"
    assert found["reranked"].mean("ndcg@10") == pytest.approx(found["gated"].mean("ndcg@10"))
    systems = {"turned": Reranked(recommender.system.gated, turned, dataset)}
    other = recommender.evaluate(domains=["gear"], systems=systems)["gear"]["turned"]
    # Five change places, and none comes into the first ten or leaves them.
    assert other.mean("hit_rate@10") == pytest.approx(found["gated"].mean("hit_rate@10"))
    assert other.mean("ndcg@10") != pytest.approx(found["gated"].mean("ndcg@10"), abs=1e-3)


def test_a_sample_of_the_questions() -> None:
    recommender = once()
    few, again = (
        recommender.evaluate(queries="validation", most=20, domains=["gear"])["gear"]["gated"]
        for _ in range(2)
    )
    whole = recommender.evaluate(queries="validation", domains=["gear"])["gear"]["gated"]
    assert few.slices["all"].sum() == 20
    assert np.array_equal(few.position, again.position)
    assert np.isin(few.position, whole.position).all()


def answers_of(recommender: Recommender) -> dict[str, str]:
    """Text of each person of the tuning questions about gear → text of the answer."""
    dataset = recommender.dataset
    texts = PairTexts(dataset, 5)
    position = about(dataset, recommender.split.tuning, GEAR)
    people = texts.of_people(Requests.at(dataset, position))
    items = dataset.events.item[position].tolist()
    return {who: str(texts.of_items[GEAR][item]) for who, item in zip(people, items, strict=True)}


def noise(first: str, second: str | None) -> float:
    """Between 0 and 1, and says nothing."""
    return crc32(f"{first}|{second}".encode()) / 2**32


def test_who_knows_better_is_heard_and_who_says_nothing_is_not() -> None:
    recommender = once()
    answers = answers_of(recommender)
    knows = encoder(lambda who, item: 0.5 * noise(who, item) + 0.4 * (answers.get(who) == item))
    told = recommender.weigh(knows)["gear"]
    assert knows.weights is not None
    assert knows.weight("gear") == told.weight > 0.5
    assert told.confidence > 0.99
    assert told.n_questions == len(about(recommender.dataset, recommender.split.tuning, GEAR))
    queries = {"queries": "validation", "domains": ["gear"]}
    found = recommender.evaluate(**queries, rerank=knows)["gear"]
    gain = found["reranked"].mean("ndcg@10") - found["gated"].mean("ndcg@10")
    assert gain > 0.03
    deaf = encoder(noise)
    silent = recommender.weigh(deaf)["gear"]
    assert silent.weight == 0 == deaf.weight("gear")
    assert silent.change < 0.01
    same = recommender.evaluate(**queries, rerank=deaf)["gear"]
    np.testing.assert_array_equal(
        same["reranked"].values["ndcg@10"], same["gated"].values["ndcg@10"]
    )


def test_a_list_stays_where_the_reader_does_not_count() -> None:
    recommender = once()
    usual = recommender.recommend("gear", users=["u00001", "nobody"], k=7)
    number = of_text(recommender)

    def turned(_who: str, item: str | None) -> float:
        return number[item] / len(number) if item else 0.0

    for weights, same in (
        ({"gear": 0.0}, True),
        ({}, True),
        ({"gear": 50.0}, False),
        (None, False),
    ):
        by = encoder(turned, rerank=20, weights=weights)
        found = recommender.recommend("gear", users=["u00001", "nobody"], k=7, rerank=by)
        assert found["request"].to_list() == usual["request"].to_list()
        assert (found["item_id"].to_list() == usual["item_id"].to_list()) is same
        if same:
            assert found["first_rank"].to_list() == found["rank"].to_list()


def test_few_questions_and_answers_out_of_reach_are_no_reason_to_listen() -> None:
    recommender = once()
    answers = answers_of(recommender)
    knows = encoder(lambda who, item: 0.5 + 0.4 * (answers.get(who) == item), rerank=1)
    # With one item there is nothing to put in order.
    assert recommender.weigh(knows)["gear"].weight == 0
    knows = encoder(lambda who, item: 0.5 + 0.4 * (answers.get(who) == item))
    assert recommender.weigh(knows, most=1)["gear"].n_questions == 1
    assert knows.weight("gear") == 0


def test_what_counts_is_standardised() -> None:
    score, told = np.array([3.0, 2.0, 1.0], np.float32), np.array([0.0, 0.0, 9.0])
    np.testing.assert_array_equal(reordered(score, told, None), told)
    assert np.argsort(-reordered(score, told, 0.0)).tolist() == [0, 1, 2]
    assert np.argsort(-reordered(score, told, 3.0)).tolist() == [2, 0, 1]
    same = reordered(score, told, 1.0)
    np.testing.assert_allclose(reordered(5 * score + 1, 7 * told, 1.0), same, rtol=1e-6)
    np.testing.assert_array_equal(reordered(score, np.ones(3), 2.0), reordered(score, told, 0.0))
    assert reordered(score[:0], told[:0], 1.0).shape == (0,)
