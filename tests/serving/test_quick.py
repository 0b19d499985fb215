"""Questions of every kind in one batch, and the tables that they are answered from."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from serving_world import WordEncoder, fitted, gated, running, users

from isthmus.blend.mixture import standardise
from isthmus.errors import RequestError
from isthmus.online.catalogue import Item
from isthmus.recommender import Recommender
from isthmus.serving.best import best_of
from isthmus.serving.live import Live
from isthmus.serving.messages import ItemRef, Listing, Recommend, Recommendation
from isthmus.serving.past import past_of


def answers(live: Live, batch: list[Recommend]) -> list[Listing]:
    """Lists of a batch, as the service gives them."""
    questions = []
    for asked in batch:
        given = live.given([(entry.domain, entry.item_id) for entry in asked.history])
        past = past_of(live.recommender.dataset, live.places, user_id=asked.user_id, given=given)
        questions += live.questions(asked, past)
    return live.answers(questions)


def mixed(model: Recommender) -> list[Recommend]:
    """Questions that differ in everything that can be asked for."""
    books, gear = (d.items["item_id"].to_list() for d in model.dataset.domains)
    session = [ItemRef("books", books[3]), ItemRef("gear", gear[5])]
    one, two, three, four = users()[:4]
    return [
        Recommend(user_id=one, domains=["gear"], k=3),
        Recommend(user_id=two, domains=["gear"], k=50, filter="price < 10"),
        Recommend(user_id=three, domains=["books", "gear"], k=7, seen=True),
        Recommend(user_id=four, domains=["gear"], k=5, exclude=gear[:30], explain=True),
        Recommend(history=session, domains=["gear"], k=4),
        Recommend(user_id=one, domains=["gear"], k=6, diversity=0.7),
        Recommend(user_id="stranger", k=2),
        Recommend(user_id=two, domains=["gear"], filter="price > 1000"),
    ]


@pytest.mark.parametrize("gate", [0.0, 0.4, 1.0], ids=["shut", "ajar", "open"])
def test_a_mixed_batch_is_answered_as_each_of_its_questions_alone(gate: float) -> None:
    live = Live.of(gated(gate), "v000001")
    batch = mixed(live.recommender)
    apart = [listing for asked in batch for listing in answers(live, [asked])]
    for found, alone in zip(answers(live, batch), apart, strict=True):
        assert (found.domain, found.basis, found.fallback) == (
            alone.domain,
            alone.basis,
            alone.fallback,
        )
        assert [(i.item_id, i.why) for i in found.items] == [
            (i.item_id, i.why) for i in alone.items
        ]
        assert [i.score for i in found.items] == pytest.approx(
            [i.score for i in alone.items], abs=1e-4
        )


def test_a_mixed_batch_is_answered_as_the_facade_answers() -> None:
    model = gated(0.4)
    gear = model.dataset.domains[1].items
    cheap = gear.filter(gear["price"] < 10)["item_id"].to_list()
    book, boot = (d.items["item_id"].to_list() for d in model.dataset.domains)
    one, two, three, four = users()[:4]
    expected = [
        model.recommend("gear", users=[one], k=3),
        model.recommend("gear", users=[two], k=50, allow=cheap),
        model.recommend("books", users=[three], k=7, seen=True),
        model.recommend("gear", users=[three], k=7, seen=True),
        model.recommend("gear", users=[four], k=5, deny=boot[:30]),
        model.recommend("gear", histories=[[("books", book[3]), ("gear", boot[5])]], k=4),
    ]
    found = answers(Live.of(model, "v000001"), mixed(model))
    for rows, listing in zip(expected, found, strict=False):
        assert [item.item_id for item in listing.items] == rows["item_id"].to_list()
        assert [i.score for i in listing.items] == pytest.approx(rows["score"].to_list(), abs=1e-4)
    assert not found[-1].items


def test_questions_behind_a_slow_one_are_answered_together_but_for_the_bad_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as shop:
        service, keeper = shop.service, shop.service.keeper
        free, begun = threading.Event(), threading.Event()
        batches: list[int] = []
        refresh, answer_all = keeper.refresh, Live.answers

        def held() -> Live:
            if threading.current_thread().name == "keeper":
                return refresh()
            begun.set()
            assert free.wait(10)
            return refresh()

        def counted(live: Live, questions: list) -> list[Listing]:
            batches.append(len(questions))
            return answer_all(live, questions)

        monkeypatch.setattr(keeper, "refresh", held)
        monkeypatch.setattr(Live, "answers", counted)
        batch = [
            Recommend(user_id=users()[0], domains=["gear"], k=2),
            Recommend(user_id=users()[0], domains=["gear"], filter="price <"),
            Recommend(user_id=users()[1], domains=["nowhere"]),
            Recommend(user_id=users()[1], domains=["gear"], k=4),
        ]

        async def ask(asked: Recommend) -> Recommendation:
            answer = await service.recommend(msgspec.json.encode(asked))
            return msgspec.json.decode(answer, type=Recommendation)

        async def ask_all() -> list:
            first = asyncio.create_task(ask(batch[0]))
            await asyncio.to_thread(begun.wait, 10)
            others = [asyncio.create_task(ask(asked)) for asked in batch]
            await asyncio.sleep(0)
            free.set()
            return await asyncio.gather(first, *others, return_exceptions=True)

        first, good, unclear, unknown, other = asyncio.run(ask_all())
    assert batches == [1, 2]
    assert isinstance(unclear, RequestError)
    assert isinstance(unknown, RequestError)
    assert [i.item_id for i in good.lists[0].items] == [i.item_id for i in first.lists[0].items]
    assert [len(answer.lists[0].items) for answer in (first, good, other)] == [2, 2, 4]
    ids = {answer.recommendation_id for answer in (first, good, other)}
    assert len(ids) == 3


def test_sides_share_texts_and_still_do_when_items_have_arrived() -> None:
    live = Live.of(fitted(), "v000001", encoder=WordEncoder())
    grown = live.read([Item("gear", "NEW", text="compass compass chart")])
    for quick in (live.quick, grown.quick):
        assert len(quick.sides) == 3
        for domain in (0, 1):
            assert len({side.texts[domain] for side in quick.sides}) == 1
    texts = grown.quick.sides[0].texts[1]
    assert len(texts.row) == len(live.quick.sides[0].texts[1].row) + 1
    for n in (0, 1, 3, 8, 9, 17):
        query, found = torch.randn(n, texts.table.shape[1]), torch.empty(n, len(texts.row))
        texts.cosines(query, found)
        assert torch.allclose(found, (query @ texts.table.T)[:, texts.row], atol=1e-5)


@pytest.mark.parametrize("n_items", [17, 1000, 33_001])
def test_standardising_is_that_of_the_blend_and_keeps_ties(n_items: int) -> None:
    rng = np.random.default_rng(n_items)
    scores = rng.normal(size=(4, n_items)).astype(np.float32)
    scores[1, ::3], scores[2], scores[3] = 0.0, 5.0, rng.integers(3, size=n_items)
    weight = np.array([[0.3, 0.7, 0.2, 0.11], [0.0, 0.41, 0.0, 0.37]], np.float32)
    found = best_of(
        scores,
        weight,
        np.zeros((0, n_items), np.float32),
        np.zeros((2, 0), np.float32),
        np.ones((2, n_items), bool),
        3,
    )
    assert found.spoke.tolist() == [True, True, False, True]
    assert np.allclose(found.scaled, standardise(scores), atol=1e-5)
    assert np.allclose(found.total, weight @ found.scaled, atol=1e-5)
    # Wherever in memory it stands, a score is scaled to the same digit, and added up likewise.
    assert len(np.unique(found.scaled[1, ::3])) == 1
    assert len(np.unique(found.scaled[3])) == 3
    assert len(np.unique(found.total[1, ::3])) == 3


def test_equal_scores_stay_equal_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    for n_items in range(17, 120):
        few = rng.normal(size=(5, 7)).astype(np.float32)
        scores = np.take_along_axis(few, rng.integers(7, size=(5, n_items)), axis=1)
        nothing = np.zeros((0, n_items), np.float32), np.zeros((1, 0), np.float32)
        mix = np.array([[0, 0, 0.3, 0, 0]], np.float32)
        found = best_of(scores, mix, *nothing, np.ones((1, n_items), bool), 3)
        for row, scaled in zip(scores, found.scaled, strict=True):
            assert len(np.unique(scaled)) == len(np.unique(row))
        assert len(np.unique(found.total)) == len(np.unique(scores[2]))


def test_what_is_popular_alone_makes_a_list_too() -> None:
    level = np.array([[0.5, 2.0, 2.0, -1.0, 1.0]], np.float32)
    found = best_of(
        np.zeros((0, 5), np.float32),
        np.zeros((1, 0), np.float32),
        level,
        np.full((1, 1), 0.5, np.float32),
        np.array([[True, True, True, True, False]]),
        5,
    )
    assert found.in_order(4, np.array([0, 4, 1, 2, 3])).tolist() == [[2, 1, 0, 3]]
    assert found.in_order(1, np.array([0, 4, 1, 2, 3])).tolist() == [[2]]
    assert found.in_order(6, np.arange(5)).tolist() == [[1, 2, 0, 3, -1, -1]]
