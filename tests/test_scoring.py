from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.scoring import Request, Requests, Scorer, Scores, pick

N_ITEMS = (7, 5)

event = st.tuples(st.integers(0, 1), st.integers(0, 4))
histories = st.lists(st.lists(event, max_size=6), min_size=1, max_size=6)


def dataset_of(users: list[list[tuple[int, int]]]) -> Dataset:
    """Each user's (domain, item) events; the time of an event is its place in the whole list."""
    domain, item = np.array([e for u in users for e in u], dtype=int).reshape(-1, 2).T
    domains = tuple(
        Domain(f"domain{d}", pl.DataFrame({"item_id": [f"{d}-{i}" for i in range(n)]}))
        for d, n in enumerate(N_ITEMS)
    )
    events = Events.from_columns(
        len(users),
        np.repeat(np.arange(len(users)), [len(u) for u in users]),
        domain.astype(np.int16),
        item.astype(np.int32),
        np.arange(len(item)).astype(np.float64),
    )
    return Dataset(domains, pl.Series([f"user{u}" for u in range(len(users))]), events)


def unpacked(requests: Requests) -> list[list[tuple[int, int]]]:
    """(domain, item) pairs of each request."""
    pairs = list(zip(requests.domain.tolist(), requests.item.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(requests.offsets[:-1], requests.offsets[1:], strict=True)]


@settings(max_examples=50, deadline=None)
@given(histories=histories)
def test_packing_keeps_every_history(histories: list[list[tuple[int, int]]]) -> None:
    requests = Requests.of([Request(h, user=u) for u, h in enumerate(histories)])
    assert unpacked(requests) == histories
    assert requests.lengths.tolist() == [len(h) for h in histories]
    assert requests.rows.tolist() == [b for b, h in enumerate(histories) for _ in h]
    assert requests.age.tolist() == [a for h in histories for a in reversed(range(len(h)))]
    assert requests.user.tolist() == list(range(len(histories)))
    assert np.isnan(requests.time).all()
    assert np.isnan(requests.query_time).all()
    assert requests.context == ()


def test_times_and_context_come_along() -> None:
    requests = Requests.of(
        [
            Request([(0, 1), (1, 2)], times=[10.0, 20.0], query_time=30.0),
            Request([(0, 3)], context={"limit": 5}),
        ]
    )
    assert requests.time[:2].tolist() == [10, 20]
    assert np.isnan(requests.time[2])
    assert requests.query_time[0] == 30
    assert requests.user.tolist() == [-1, -1]
    assert list(requests.context) == [{}, {"limit": 5}]
    chosen = requests.select(np.array([1, 1]))
    assert list(chosen.context) == [{"limit": 5}] * 2
    assert list(requests.only(1).context) == list(requests.context)


def test_nobody_and_nothing_pack_to_empty_batches() -> None:
    assert len(Requests.of([])) == 0
    empty = Requests.of([Request(), Request()])
    assert unpacked(empty) == [[], []]
    assert empty.age.tolist() == []
    assert unpacked(empty.only(0)) == [[], []]


@settings(max_examples=50, deadline=None)
@given(users=histories, max_history=st.integers(1, 4), data=st.data())
def test_a_question_sees_only_what_the_same_user_did_before(
    users: list[list[tuple[int, int]]], max_history: int, data: st.DataObject
) -> None:
    dataset = dataset_of(users)
    n = len(dataset.events)
    position = np.array(
        data.draw(st.lists(st.integers(0, n - 1), max_size=8) if n else st.just([])), np.int64
    )
    requests = Requests.at(dataset, position, max_history=max_history)
    user = dataset.events.user[position]
    expected = [
        users[u][: p - dataset.events.offsets[u]][-max_history:]
        for u, p in zip(user, position, strict=True)
    ]
    assert unpacked(requests) == expected
    assert requests.user.tolist() == user.tolist()
    assert requests.query_time.tolist() == position.tolist()
    # Time is the place in the event list: nothing is as late as the answer.
    assert (requests.time < requests.query_time[requests.rows]).all()


@settings(max_examples=30, deadline=None)
@given(users=histories, max_history=st.integers(1, 8))
def test_a_known_user_brings_everything_they_did(
    users: list[list[tuple[int, int]]], max_history: int
) -> None:
    who = np.arange(len(users))[::-1].copy()
    requests = Requests.of_users(dataset_of(users), who, max_history=max_history)
    assert unpacked(requests) == [users[u][-max_history:] for u in who]
    assert requests.user.tolist() == who.tolist()
    assert np.isnan(requests.query_time).all()


@settings(max_examples=50, deadline=None)
@given(histories=histories, data=st.data())
def test_selecting_takes_whole_requests_in_the_order_asked(
    histories: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    requests = Requests.of(
        [
            Request(h, user=u, query_time=float(u), times=[float(t) for t in range(len(h))])
            for u, h in enumerate(histories)
        ]
    )
    rows = data.draw(st.lists(st.integers(0, len(histories) - 1), max_size=8))
    chosen = requests.select(np.array(rows, np.int64))
    assert unpacked(chosen) == [histories[r] for r in rows]
    assert chosen.user.tolist() == rows
    assert chosen.query_time.tolist() == rows
    assert chosen.time.tolist() == [t for r in rows for t in range(len(histories[r]))]


@settings(max_examples=50, deadline=None)
@given(histories=histories, domain=st.integers(0, 1))
def test_only_one_domain_keeps_every_request(
    histories: list[list[tuple[int, int]]], domain: int
) -> None:
    requests = Requests.of([Request(h, user=u) for u, h in enumerate(histories)])
    left = requests.only(domain)
    assert unpacked(left) == [[e for e in h if e[0] == domain] for h in histories]
    assert left.user.tolist() == requests.user.tolist()


@settings(max_examples=50, deadline=None)
@given(histories=histories, last=st.integers(0, 6))
def test_keeping_young_events_cuts_each_history_to_its_end(
    histories: list[list[tuple[int, int]]], last: int
) -> None:
    requests = Requests.of([Request(h) for h in histories])
    expected = [h[max(0, len(h) - last) :] for h in histories]
    assert unpacked(requests.keep(requests.age < last)) == expected


def test_picking_shared_and_own_items() -> None:
    total = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert pick(total, None) is total
    assert pick(total, np.array([3, 0])).tolist() == [[3, 0], [7, 4], [11, 8]]
    own = np.array([[0, 1], [1, 2], [2, 3]])
    assert pick(total, own).tolist() == [[0, 1], [5, 6], [10, 11]]


def test_a_scorer_is_whatever_has_a_name_and_scores() -> None:
    class Zero:
        name = "zero"

        def score(self, requests: Requests, domain: int, items: np.ndarray | None = None) -> Scores:
            return Scores(pick(np.zeros((len(requests), N_ITEMS[domain]), np.float32), items))

    assert isinstance(Zero(), Scorer)
    assert not isinstance(object(), Scorer)
    assert Zero().score(Requests.of([Request()]), 1).total.shape == (1, 5)
