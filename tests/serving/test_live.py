"""Answers of a `Live` are those of the façade, and what has arrived since is among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from serving_world import fitted, gated, grown, users

from isthmus.blend import GateDecision, SliceGate
from isthmus.errors import RequestError
from isthmus.online.catalogue import Item
from isthmus.online.events import Choice
from isthmus.recommender import Recommender
from isthmus.serving.live import Live
from isthmus.serving.messages import ItemRef, Listing, Recommend
from isthmus.serving.past import past_of
from isthmus.serving.similar import similar
from word_encoder import WordEncoder

FILMS = 2
BY_GROUP = GateDecision(
    0.5,
    slices=tuple(
        SliceGate(low, high, elsewhere, weight)
        for low, high, weight in ((0, 0, 1.0), (1, None, 0.0))
        for elsewhere in (True, False)
    ),
)


def live_of(recommender: Recommender) -> Live:
    return Live.of(recommender, "v000001", encoder=WordEncoder())


def ask(live: Live, asked: Recommend, *, logged: list[Choice] | None = None) -> list[Listing]:
    given = live.given([(entry.domain, entry.item_id) for entry in asked.history])
    past = past_of(
        live.recommender.dataset,
        live.places,
        user_id=asked.user_id,
        logged=logged or [],
        given=given,
    )
    return live.answers(live.questions(asked, past))


@pytest.mark.parametrize("gate", [0.0, 0.4, 1.0, BY_GROUP], ids=["shut", "ajar", "open", "groups"])
@pytest.mark.parametrize("domain", ["books", "gear"])
def test_answers_are_those_of_the_facade(gate: float | GateDecision, domain: str) -> None:
    check_answers(gated(gate), domain)


@pytest.mark.parametrize("gate", [0.0, 0.4, 1.0], ids=["shut", "ajar", "open"])
@pytest.mark.parametrize("domain", ["books", "gear", "films"])
def test_answers_of_a_grown_model_are_those_of_the_facade(gate: float, domain: str) -> None:
    model = with_gates(grown(), gate)
    # What people did in films is history to films alone.
    assert (model.dataset.events.domain == FILMS).sum() > 500
    assert [model.system.sides(d)[0].n_domains for d in range(3)] == [2, 2, 3]
    check_answers(model, domain)


def with_gates(model: Recommender, gate: float) -> Recommender:
    gates = dict.fromkeys(model.system.gates, GateDecision(gate))
    system = replace(model.system, gates=gates)
    return Recommender(model.dataset, model.config, model.split, model.raw, system)


def check_answers(model: Recommender, domain: str) -> None:
    """Live answers, together and one by one, are those of the façade."""
    live = live_of(model)
    people = [*users()[:40], "stranger"]
    expected = model.recommend(domain, users=people, k=7)
    # All at once, as a full queue would have it.
    questions = []
    for person in people:
        asked = Recommend(user_id=person, domains=[domain], k=7, explain=True)
        past = past_of(model.dataset, live.places, user_id=person)
        questions += live.questions(asked, past)
    for person, listing in zip(people, live.answers(questions), strict=True):
        rows = expected.filter(expected["request"] == person)
        assert [item.item_id for item in listing.items] == rows["item_id"].to_list()
        assert [item.why for item in listing.items] == rows["why"].to_list()
        assert listing.basis == rows["basis"][0]
        assert [item.score for item in listing.items] == pytest.approx(
            rows["score"].to_list(), abs=1e-4
        )
        for item, parts in zip(listing.items, rows["parts"].to_list(), strict=True):
            assert item.parts == pytest.approx(parts, abs=1e-4)
            assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-4)
        # One by one it is the same.
        (alone,) = ask(live, Recommend(user_id=person, domains=[domain], k=7))
        assert [item.item_id for item in alone.items] == rows["item_id"].to_list()


def test_a_session_is_answered_like_a_given_history() -> None:
    model, live = fitted(), live_of(fitted())
    books, gear = (d.items["item_id"].to_list() for d in model.dataset.domains)
    history = [("books", books[3]), ("gear", gear[5]), ("books", books[9])]
    expected = model.recommend("gear", histories=[history], k=5)
    asked = Recommend(history=_refs(history), domains=["gear"], k=5)
    (listing,) = ask(live, asked)
    assert [item.item_id for item in listing.items] == expected["item_id"].to_list()
    assert listing.basis == expected["basis"][0]
    assert not listing.fallback


def test_a_cold_answer_says_that_it_is_a_fallback() -> None:
    (books, gear) = ask(live_of(fitted()), Recommend(user_id="nobody"))
    assert (books.domain, gear.domain) == ("books", "gear")
    assert books.fallback
    assert books.basis == "unknown user, no history: what is popular now"


def test_what_was_just_done_changes_the_next_list() -> None:
    live = live_of(fitted())
    asked = Recommend(user_id="newcomer", domains=["gear"])
    (before,) = ask(live, asked)
    clicked = before.items[0].item_id
    event = ("gear", clicked, 1e9)
    (after,) = ask(live, asked, logged=[event])
    assert not after.fallback
    assert clicked not in [item.item_id for item in after.items]
    assert after.basis.startswith("own history in gear")


def test_an_event_that_the_model_has_learnt_counts_once() -> None:
    model, live = fitted(), live_of(fitted())
    person = users()[0]
    row = model.dataset.user_index[person]
    last = int(model.dataset.events.offsets[row + 1]) - 1
    events = model.dataset.events
    domain = int(events.domain[last])
    known = (
        live.names[domain],
        live.shelves[domain].ids[events.item[last]],
        float(events.time[last]),
    )
    once = past_of(model.dataset, live.places, user_id=person, logged=[known])
    twice = past_of(model.dataset, live.places, user_id=person, logged=[known, known])
    n = last + 1 - int(events.offsets[row])
    assert len(once) == n
    # The log itself holds an event once; a second one is another event.
    assert len(twice) == n + 1


def test_late_events_find_their_place_in_time() -> None:
    live = live_of(fitted())
    gear = live.shelves[1].ids
    logged = [("gear", gear[n], time) for n, time in ((0, 1.0), (1, 2.0))]
    past = past_of(fitted().dataset, live.places, user_id=users()[0], logged=logged)
    assert past.time.tolist() == sorted(past.time.tolist())
    assert past.item[:2].tolist() == [0, 1]


def test_pages_do_not_repeat_and_end() -> None:
    live = live_of(fitted())
    person, seen, cursor = users()[1], [], None
    while True:
        asked = Recommend(user_id=person, domains=["gear"], k=13, cursor=cursor, seen=True)
        (listing,) = ask(live, asked)
        seen += [item.item_id for item in listing.items]
        # What was done between two pages changes the order, and brings nothing back.
        if (cursor := listing.next_cursor) is None:
            break
    assert len(seen) == len(set(seen)) == len(live.shelves[1])


def test_a_cursor_of_something_else_is_refused() -> None:
    live = live_of(fitted())
    for cursor in ("x", "AAAA", "!!!!", "_" * 16):
        with pytest.raises(RequestError, match="no cursor of this service"):
            ask(live, Recommend(domains=["gear"], cursor=cursor))
    with pytest.raises(RequestError, match="belongs to one list"):
        ask(live, Recommend(cursor="AAAAAAAAAAA"))


def test_filters_and_exclusions_leave_what_they_should() -> None:
    live = live_of(fitted())
    shelf, person = live.shelves[1], users()[2]
    (listing,) = ask(
        live, Recommend(user_id=person, domains=["gear"], filter="price < 10", k=100, seen=True)
    )
    cheap = {i for i, price in zip(shelf.ids, shelf.extra["price"], strict=True) if price < 10}
    assert {item.item_id for item in listing.items} == cheap
    assert listing.basis.endswith(f"; only {len(cheap)} could be offered")
    out = listing.items[0].item_id
    (fewer,) = ask(
        live,
        Recommend(user_id=person, domains=["gear"], filter="price < 10", exclude=[out], k=100),
    )
    assert out not in [item.item_id for item in fewer.items]


def test_diversity_makes_lists_less_alike() -> None:
    live = live_of(fitted())

    def alike(diversity: float) -> float:
        total = 0.0
        for person in users()[:20]:
            asked = Recommend(user_id=person, domains=["gear"], k=8, diversity=diversity)
            (listing,) = ask(live, asked)
            places = np.array([live.shelves[1].index[item.item_id] for item in listing.items])
            vectors = live.quick.described(1, places)
            total += float((vectors @ vectors.T).sum())
            assert listing.items[0].score == max(item.score for item in listing.items)
        return total

    plain, some, much = map(alike, (0.0, 0.4, 0.9))
    assert much < some < plain


def test_a_new_item_stands_where_its_twin_stands() -> None:
    """Text and neural parts see an item without behaviour as they see another of its text."""
    model = fitted()
    live = live_of(model)
    evidence = model.system.transferred.neural.model.items.evidence
    start = int(model.dataset.item_offsets[1])
    texts = model.dataset.domains[1].items["text"].to_list()
    twin = next(i for i, t in enumerate(texts) if t and evidence[start + i] > 0)
    new = Item("gear", "NEW", title="New", text=texts[twin], attributes={"price": 1.0})
    grown = live.read(live.unread([new]))
    (listing,) = ask(grown, Recommend(user_id=users()[3], domains=["gear"], k=100, seen=True))
    found = {item.item_id: item for item in listing.items}
    old = found[live.shelves[1].ids[twin]]
    assert found["NEW"].parts["text"] == pytest.approx(old.parts["text"], abs=1e-4)
    assert found["NEW"].title == "New"
    assert found["NEW"].parts["recent-popular"] < old.parts["recent-popular"]
    # The other value is as it was.
    assert len(live.shelves[1]) == len(grown.shelves[1]) - 1


def test_a_new_item_is_a_history_too() -> None:
    live = live_of(fitted())
    texts = fitted().dataset.domains[1].items["text"].to_list()
    near = next(i for i, text in enumerate(texts) if text)
    grown = live.read([Item("gear", "NEW", text=texts[near])])
    event = ("gear", "NEW", 1e9)
    (listing,) = ask(
        grown, Recommend(user_id="somebody", domains=["gear"], k=60, explain=True), logged=[event]
    )
    assert not listing.fallback
    best = max(listing.items, key=lambda item: item.parts["text"])
    assert best.item_id == live.shelves[1].ids[near]


def test_a_new_text_of_a_known_item_is_read_once() -> None:
    live = live_of(fitted())
    item_id = live.shelves[1].ids[0]
    text = fitted().dataset.domains[1].items["text"][0]
    same = Item("gear", item_id, text=text)
    other = Item("gear", item_id, text="wholly other words")
    assert live.unread([same]) == []
    assert live.unread([other]) == [other]
    changed = live.read([other])
    assert changed.unread([other]) == []
    assert len(changed.shelves[1]) == len(live.shelves[1])
    before, after = (x.quick.described(1, np.array([0])) for x in (live, changed))
    assert not np.allclose(before, after)


def test_a_model_that_was_grown_reads_new_items_alike() -> None:
    """What arrives at a grown model is mapped as its first items were."""
    model = fitted()
    live = live_of(model)
    item = Item("gear", "NEW", text="compass compass chart")
    side = live.read([item]).quick.laid_out(model.system.transferred)
    vectors, texts = side.vectors[1][-1], side.texts[1]
    direct = model.system.transferred.neural.model.items.by_text(
        *_aligned(model, item.text or ""),
    )
    assert np.allclose(vectors.numpy(), direct.detach().numpy()[0], atol=1e-5)
    assert float((texts.table[texts.row[-1]] ** 2).sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("d", "name"), [(0, "books"), (1, "gear"), (FILMS, "films")])
def test_new_items_of_a_grown_model_are_mapped_as_those_that_it_has(d: int, name: str) -> None:
    model = with_gates(grown(), 1.0)
    live = live_of(model)
    n_items = model.dataset.domains[d].n_items
    texts = model.dataset.domains[d].items["text"].to_list()
    known = [place for place, text in enumerate(texts) if text][:5]
    told = live._arrivals.read(d, [texts[place] for place in known])
    for expected, found in (
        (model.system.features, told.aligned),
        (model.system.own_features, told.own),
    ):
        if d < len(expected):
            assert np.allclose(found.vectors, expected[d].vectors[known], atol=1e-4)
    new = live.read([Item(name, "NEW", text=texts[known[0]])])
    assert new.quick.n_items(d) == n_items + 1
    for side in new.quick.sides:
        sizes = [len(vectors) for vectors in side.vectors]
        usual = np.diff(model.dataset.item_offsets)[: len(sizes)]
        assert sizes == [n + (other == d) for other, n in enumerate(usual)]
    # It is offered in its domain, and is history to every domain that knows its own.
    (listing,) = ask(new, Recommend(user_id=users()[3], domains=[name], k=100, seen=True))
    assert "NEW" in [item.item_id for item in listing.items]
    event = (name, "NEW", 1e9)
    for answer in ask(new, Recommend(user_id="somebody"), logged=[event]):
        later = d == FILMS and answer.domain != "films"
        assert answer.fallback == later
        assert ("joined later and is not read here" in answer.basis) == later


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_similar_items_are_those_of_the_facade(gate: float) -> None:
    check_similar(gated(gate), ((1, 1), (1, 0), (0, 1)))


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_similar_items_of_a_grown_model_are_those_of_the_facade(gate: float) -> None:
    check_similar(with_gates(grown(), gate), ((2, 2), (2, 0), (1, 2), (1, 1)))


def check_similar(model: Recommender, pairs: Sequence[tuple[int, int]]) -> None:
    live = live_of(model)
    for domain, to in pairs:
        for place in range(5):
            item_id, names = live.shelves[domain].ids[place], live.names
            expected = model.similar(names[domain], item_id, to=names[to], k=5)
            found = similar(live, domain, place, to, 5)
            ids = [live.shelves[to].ids[near.place] for near in found]
            assert ids == expected["item_id"].to_list()
            assert [near.score for near in found] == pytest.approx(
                expected["score"].to_list(), abs=1e-4
            )


def test_hidden_and_deleted_items_are_not_offered() -> None:
    live = live_of(fitted())
    asked = Recommend(user_id=users()[4], domains=["gear"], k=3)
    (before,) = ask(live, asked)
    first, second = (item.item_id for item in before.items[:2])
    marked = live.marked(
        [
            Item("gear", first, described=False, hidden=True),
            Item("gear", second, described=False, deleted=True),
        ]
    )
    (after,) = ask(marked, asked)
    assert not {first, second} & {item.item_id for item in after.items}
    with pytest.raises(RequestError, match="is not in the catalogue"):
        marked.given([("gear", second)])


def _refs(history: list[tuple[str, str]]) -> list[ItemRef]:
    return [ItemRef(domain, item_id) for domain, item_id in history]


def _aligned(model: Recommender, text: str) -> tuple:
    import torch

    from isthmus.alignment.domains import FeatureAlignment

    alignment = FeatureAlignment.fit(model.raw, model.config, model.dataset)
    found = alignment.extend(1, WordEncoder().encode([text]))
    return torch.from_numpy(found.vectors), torch.from_numpy(found.present), torch.tensor([1])
