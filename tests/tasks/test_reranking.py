"""Best items put in order anew: what moves, what stays, and that it can be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray
from tasks_world import fresh, once

from isthmus.blend.examples import about
from isthmus.config import CrossEncoderConfig
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.recommender import Recommender
from isthmus.scoring import Requests, Scorer, Scores, pick
from isthmus.tasks.examples import Examples, Role
from isthmus.tasks.rerank_weight import Weighed, weigh
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


def weighed(by: CrossEncoder, scorer: Scorer | None = None, most: int | None = None) -> Weighed:
    """On the tuning questions about gear, of which `answers_of` knows the answers."""
    recommender = once()
    position = about(recommender.dataset, recommender.split.tuning, GEAR)[:most]
    scorer = scorer or recommender.system.gated
    return weigh(scorer, by, recommender.dataset, position, GEAR, batch=32, max_history=50)


def test_who_knows_better_is_heard_and_who_says_nothing_is_not() -> None:
    recommender = once()
    answers = answers_of(recommender)
    knows = encoder(lambda who, item: 0.5 * noise(who, item) + 0.4 * (answers.get(who) == item))
    told = weighed(knows)
    assert told.weight > 0.5
    assert told.confidence > 0.99
    assert told.n_questions == len(about(recommender.dataset, recommender.split.tuning, GEAR))
    knows.weights = {"gear": told.weight}
    queries = {"queries": "validation", "domains": ["gear"]}
    found = recommender.evaluate(**queries, rerank=knows)["gear"]
    gain = found["reranked"].mean("ndcg@10") - found["gated"].mean("ndcg@10")
    assert gain > 0.03
    silent = weighed(encoder(noise))
    assert silent.weight == 0
    assert silent.change < 0.01
    deaf = encoder(noise, weights={"gear": 0.0})
    same = recommender.evaluate(**queries, rerank=deaf)["gear"]
    np.testing.assert_array_equal(
        same["reranked"].values["ndcg@10"], same["gated"].values["ndcg@10"]
    )


def test_noise_is_not_heard_where_the_order_has_ties() -> None:
    n = once().dataset.domains[GEAR].n_items
    steps = np.repeat(np.arange(n // 20 + 1), 20)[:n]
    told = weighed(encoder(noise), Given(-steps.astype(np.float32)))
    assert told.weight == 0
    assert told.change < 0.01


def test_it_is_asked_about_people_who_taught_it_nothing_and_counts_what_was_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of impressions, seven in ten people are learnt from, whatever half of the questions is theirs.
    recommender = fresh()
    made = encoder(noise)
    made.n_truncated = 7
    asked: list[NDArray[np.int64]] = []
    learnt: list[NDArray[np.int64]] = []

    def teach(_task: str, _dataset: object, examples: Examples, *_: object, **__: object) -> object:
        learnt.append(examples.of(Role.TRAIN).user)
        return made

    def watched(*given: Any, **how: Any) -> Weighed:
        asked.append(recommender.dataset.events.user[given[3]])
        made.n_truncated = 1
        return Weighed(0.25, len(given[3]), 0.1, 0.9)

    monkeypatch.setattr("isthmus.recommender.telling.teach_language", teach)
    monkeypatch.setattr("isthmus.recommender.telling.weigh", watched)
    taught = recommender.teach_language("click")
    assert taught.weights == {"books": 0.25, "gear": 0.25}
    assert taught.n_truncated == 7
    tuning = recommender.dataset.events.user[recommender.split.tuning.position]
    assert np.isin(tuning, learnt[0]).any()
    assert all(len(users) for users in asked)
    assert not np.isin(np.concatenate(asked), learnt[0]).any()
    made.config = CrossEncoderConfig(weigh=0)
    made.weights = None
    assert recommender.teach_language("click").weights is None


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


def test_behind_the_best_everything_keeps_its_place() -> None:
    usual = once().recommend("gear", users=["u00001"], k=12)
    number = of_text(once())
    by = encoder(lambda _who, item: number[item] / len(number) if item else 0.0, rerank=4)
    found = once().recommend("gear", users=["u00001"], k=12, rerank=by)
    assert found["item_id"].to_list()[4:] == usual["item_id"].to_list()[4:]
    assert found["item_id"].to_list()[:4] != usual["item_id"].to_list()[:4]
    assert sorted(found["item_id"].to_list()) == sorted(usual["item_id"].to_list())
    assert found["reread"].is_null().to_list() == [False] * 4 + [True] * 8


def test_few_questions_and_answers_out_of_reach_are_no_reason_to_listen() -> None:
    answers = answers_of(once())
    # With one item there is nothing to put in order.
    alone = encoder(lambda who, item: 0.5 + 0.4 * (answers.get(who) == item), rerank=1)
    assert weighed(alone).weight == 0
    knows = encoder(lambda who, item: 0.5 + 0.4 * (answers.get(who) == item))
    assert weighed(knows, most=1) == Weighed(0.0, 1, 0.0, 0.0)
    assert weighed(knows, most=0) == Weighed(0.0, 0, 0.0, 0.0)


def test_what_counts_is_standardised() -> None:
    score, told = np.array([3.0, 2.0, 1.0], np.float32), np.array([0.0, 0.0, 9.0])
    np.testing.assert_array_equal(reordered(score, told, None), told)
    assert np.argsort(-reordered(score, told, 0.0)).tolist() == [0, 1, 2]
    assert np.argsort(-reordered(score, told, 3.0)).tolist() == [2, 0, 1]
    same = reordered(score, told, 1.0)
    np.testing.assert_allclose(reordered(5 * score + 1, 7 * told, 1.0), same, rtol=1e-6)
    np.testing.assert_array_equal(reordered(score, np.ones(3), 2.0), reordered(score, told, 0.0))
    assert reordered(score[:0], told[:0], 1.0).shape == (0,)
