"""Reasons are read off the numbers that ranked the item."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import polars as pl
from recommender_world import fitted, set_by_hand

from isthmus.blend import Blend
from isthmus.recommender import Recommender
from isthmus.recommender.relations import NOTHING, Relations
from isthmus.scoring import Request, Requests

LEADS = {
    "reads like": "text",
    "by its text": "text",
    "often follows": "co-occurrence",
    "fits the history": "neural",
    "popular now": "recent-popular",
}


def _asked(recommender: Recommender) -> list[str]:
    counts = np.diff(recommender.dataset.events.offsets)
    return recommender.dataset.user_ids.gather(np.flatnonzero(counts > 3)[:60]).to_list()


def test_relations_are_what_the_parts_score_for_a_history_of_one() -> None:
    side = fitted().system.transferred
    relations, dataset = Relations(side), fitted().dataset
    n_books, n_gear = (d.n_items for d in dataset.domains)
    for book in range(0, n_books, 7):
        one = Requests.of([Request(history=[(0, book)])])
        gear = np.arange(n_books, n_books + n_gear)[None]
        for name in ("text", "co-occurrence"):
            found = relations.between(name, np.array([[book]]), gear)[0, :, 0]
            scored = side.parts[name].score(one, 1).total[0]
            if name == "text":
                found = np.where(found == NOTHING, NOTHING, found * relations.elsewhere)
            known = found != NOTHING
            assert np.allclose(found[known], scored[known], atol=1e-5)
            if name == "co-occurrence":
                assert not scored[~known].any()


def test_neural_relations_are_cosines_about_each_domains_mean() -> None:
    side = fitted().system.transferred
    centred = [
        v - v.mean(0) for d in (0, 1) for v in [side.neural.catalogue(d).numpy().astype(np.float64)]
    ]
    book, gear = centred[0][4], centred[1][9]
    expected = book @ gear / np.linalg.norm(book) / np.linalg.norm(gear)
    flat = np.array([[4]]), np.array([[fitted().dataset.domains[0].n_items + 9]])
    assert np.isclose(Relations(side).between("neural", *flat)[0, 0, 0], expected, atol=1e-5)


def test_nothing_relates_to_itself_or_to_an_empty_place() -> None:
    relations = Relations(fitted().system.transferred)
    for name in relations.names:
        found = relations.between(name, np.array([[3, -1, 4]]), np.array([[3, -1]]))[0]
        assert found[0, 0] == NOTHING
        assert (found[1] == NOTHING).all()
        assert (found[:, 1] == NOTHING).all()


def test_the_phrase_names_the_part_that_lifted_the_item_most() -> None:
    recommender = set_by_hand(gate=1.0)
    answers = recommender.recommend("gear", users=_asked(recommender), k=8)
    parts = answers["parts"].struct.unnest()
    largest = np.array(parts.columns)[parts.to_numpy().argmax(1)]
    seen = set()
    for why, part in zip(answers["why"], largest, strict=True):
        said = next(lead for start, lead in LEADS.items() if why.startswith(start))
        assert said == part
        seen.add(part)
    assert seen >= {"text", "co-occurrence", "neural"}


def test_the_history_item_named_is_the_one_that_reads_most_alike() -> None:
    recommender = set_by_hand(gate=1.0)
    dataset = recommender.dataset
    answers = recommender.recommend("gear", users=_asked(recommender), k=8)
    text = recommender.system.transferred.parts["text"]
    read = answers.filter(pl.col("why").str.starts_with("reads like"))
    assert len(read) > 10
    checked = 0
    for row in read.iter_rows(named=True):
        requests = Requests.of_users(dataset, np.array([dataset.user_index[row["request"]]]))
        item = np.array([dataset.domains[1].index_of(row["item_id"])])
        pairs = list(zip(requests.domain.tolist(), requests.item.tolist(), strict=True))[-50:]
        alike = [
            text.score(Requests.of([Request(history=[pair])]), 1, item).total[0, 0]
            if pair != (1, int(item[0]))
            else -np.inf
            for pair in pairs
        ]
        domain, best = pairs[int(np.argmax(alike))]
        title = dataset.domains[domain].items["title"][best]
        closing = "" if domain == 1 else " from books"
        quoted = re.fullmatch(r"reads like '(.*)'( from books)?", row["why"])
        assert quoted is not None
        assert title.startswith(quoted[1].rstrip("…"))
        assert (quoted[2] or "") == closing
        checked += 1
    assert checked == len(read)


def test_a_part_of_negative_weight_is_never_the_reason() -> None:
    recommender = set_by_hand(gate=1.0)
    side = recommender.system.transferred
    weights = {**dict.fromkeys(side.parts, 0.0), "recent-popular": -1.0}
    blend = Blend(side.parts, {0: weights, 1: weights})
    system = replace(recommender.system, transferred=replace(side, blend=blend))
    turned = Recommender(
        recommender.dataset, recommender.config, recommender.split, recommender.raw, system
    )
    answers = turned.recommend("gear", users=["nobody"], k=3)
    assert set(answers["why"]) == {"the best of what is left"}
    assert "popular" not in answers["basis"][0]


def test_what_followed_is_told_as_of_the_question() -> None:
    """What comes after a question is no reason for its answer."""
    recommender = fitted()
    side, dataset = recommender.system.transferred, recommender.dataset
    part = side.parts["co-occurrence"]
    assert part.counts_on
    early = recommender.split.cut_times[0]
    n_books, n_gear = (d.n_items for d in dataset.domains)
    book = np.arange(n_books)[:, None]
    gear = np.broadcast_to(np.arange(n_books, n_books + n_gear), (n_books, n_gear))
    relations = Relations(side)
    now = relations.between("co-occurrence", book, gear)[..., 0]
    then = relations.between(
        "co-occurrence", book, gear, query_time=np.full(n_books, early, np.float64)
    )[..., 0]
    one = Requests.of([Request([(0, i)], query_time=early) for i in range(n_books)])
    scored = part.score(one, 1).total
    assert np.allclose(np.where(then == NOTHING, 0, then), scored, atol=1e-6)
    assert ((now != NOTHING) & (then == NOTHING)).any()
    untimed = relations.between("co-occurrence", book, gear, query_time=np.full(n_books, np.nan))
    assert np.array_equal(untimed[..., 0], now)
