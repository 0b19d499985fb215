"""Best items put in order anew: what moves, what stays, and that it can be measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tasks_world import once

from isthmus.recommender import Recommender
from isthmus.scoring import Requests, Scores, pick
from isthmus.tasks.reranking import Reranked
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


def encoder(by: Any, *, rerank: int = 50, classes: tuple[str, ...] = ("0", "1")) -> Any:
    """What tells of a pair what `by` says of its texts."""

    def tell(first: list[str], second: list[str | None]) -> NDArray[np.float64]:
        told = np.array([by(a, b) for a, b in zip(first, second, strict=True)])
        return np.column_stack([1 - told, told]) if classes else told

    return SimpleNamespace(
        config=SimpleNamespace(rerank=rerank, history=5), classes=classes, tell=tell
    )


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
