from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.splits import (
    Queries,
    Split,
    global_cut,
    leave_one_out,
    make_split,
    user_hash,
)
from isthmus.errors import DataError
from isthmus.scoring import Requests

seeds = st.integers(0, 100_000)


def dataset_of(
    seed: int = 0, *, n_users: int = 60, longest: int = 9, moments: int = 40, clock: bool = True
) -> Dataset:
    """Two domains; `moments` different times, so few of them mean many ties."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), rng.integers(0, longest + 1, n_users))
    n = len(user)
    time = rng.integers(0, moments, n).astype(np.float64)
    time = time[np.lexsort((time, user))] if clock else np.full(n, np.nan)
    domains = tuple(
        Domain(f"domain{d}", pl.DataFrame({"item_id": [f"{d}-{i}" for i in range(20)]}))
        for d in range(2)
    )
    events = Events.from_columns(
        n_users,
        user,
        rng.integers(0, 2, n).astype(np.int16),
        rng.integers(0, 20, n).astype(np.int32),
        time,
    )
    return Dataset(domains, pl.Series([f"user{u}" for u in range(n_users)]), events)


def made(dataset: Dataset, kind: str) -> Split:
    split = leave_one_out(dataset) if kind == "leave-one-out" else global_cut(dataset)
    assert split.name == kind
    return split


@pytest.mark.parametrize("kind", ["global", "leave-one-out"])
@settings(max_examples=20, deadline=None)
@given(seed=seeds, moments=st.sampled_from([25, 40, 10_000]))
def test_parts_never_overlap(kind: str, seed: int, moments: int) -> None:
    dataset = dataset_of(seed, moments=moments)
    split = made(dataset, kind)
    stopping, tuning, test = (
        set(q.position.tolist()) for q in (split.stopping, split.tuning, split.test)
    )
    train = set(np.flatnonzero(split.in_train).tolist())
    assert not train & (stopping | tuning | test)
    assert not stopping & tuning
    assert not test & (stopping | tuning)
    assert set(split.validation.position.tolist()) == stopping | tuning
    assert len(split.train_events(dataset)) == len(train)


@pytest.mark.parametrize("kind", ["global", "leave-one-out"])
@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_no_user_is_in_both_validation_halves(kind: str, seed: int) -> None:
    dataset = dataset_of(seed)
    split = made(dataset, kind)
    halves = [set(dataset.events.user[q.position].tolist()) for q in (split.stopping, split.tuning)]
    assert not halves[0] & halves[1]
    assert all(halves)


@pytest.mark.parametrize("kind", ["global", "leave-one-out"])
@settings(max_examples=20, deadline=None)
@given(seed=seeds, max_history=st.sampled_from([1, 3, 200]))
def test_no_question_shows_its_answer_or_anything_later(
    kind: str, seed: int, max_history: int
) -> None:
    dataset = dataset_of(seed)
    events = dataset.events
    split = made(dataset, kind)
    for queries in (split.stopping, split.tuning, split.test):
        requests = Requests.at(dataset, queries.position, max_history=max_history)
        for i, position in enumerate(queries.position):
            a, b = requests.offsets[i], requests.offsets[i + 1]
            start = events.offsets[events.user[position]]
            known = slice(max(start, position - max_history), position)
            assert requests.item[a:b].tolist() == events.item[known].tolist()
            assert requests.domain[a:b].tolist() == events.domain[known].tolist()
        assert (requests.time <= requests.query_time[requests.rows]).all()


@pytest.mark.parametrize("kind", ["global", "leave-one-out"])
@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_what_comes_after_a_question_cannot_change_it(kind: str, seed: int) -> None:
    """The answer and all later events are replaced; every request stays as it was."""
    dataset = dataset_of(seed)
    position = made(dataset, kind).test.position
    user, where = np.unique(dataset.events.user[position], return_index=True)
    first = position[where]
    item = dataset.events.item.copy()
    for u, p in zip(user, first, strict=True):
        item[p : dataset.events.offsets[u + 1]] = 19 - item[p : dataset.events.offsets[u + 1]]
    e = dataset.events
    changed = Dataset(
        dataset.domains,
        dataset.user_ids,
        Events.from_columns(e.n_users, e.user, e.domain, item, e.time),
    )
    before, after = (Requests.at(d, first) for d in (dataset, changed))
    assert before.item.tolist() == after.item.tolist()
    assert before.offsets.tolist() == after.offsets.tolist()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, moments=st.sampled_from([25, 40, 10_000]))
def test_the_global_cut_is_one_moment_for_everybody(seed: int, moments: int) -> None:
    dataset = dataset_of(seed, moments=moments)
    split = global_cut(dataset)
    time = dataset.events.time
    first, second = split.cut_times
    assert (split.in_train == (time < first)).all()
    assert (time[split.validation.position] >= first).all()
    assert (time[split.validation.position] < second).all()
    assert (time[split.test.position] >= second).all()
    # Every later event with some history is asked about, exactly once.
    with_history = np.arange(len(time)) > dataset.events.offsets[dataset.events.user]
    asked = np.concatenate([split.validation.position, split.test.position])
    assert sorted(asked.tolist()) == np.flatnonzero((time >= first) & with_history).tolist()


def test_the_global_cut_falls_at_quantiles_of_events_not_of_time() -> None:
    late = np.sort(np.random.default_rng(0).random(4000) ** 0.1) * 1e6
    events = Events.from_columns(
        100,
        np.repeat(np.arange(100), 40),
        np.zeros(4000, np.int16),
        np.zeros(4000, np.int32),
        late.reshape(40, 100).T.ravel(),
    )
    dataset = Dataset(
        (Domain("only", pl.DataFrame({"item_id": ["a"]})),),
        pl.Series([f"user{u}" for u in range(100)]),
        events,
    )
    split = global_cut(dataset)
    assert split.in_train.mean() == pytest.approx(0.8, abs=0.001)
    assert len(split.test) / 4000 == pytest.approx(0.1, abs=0.001)
    other = make_split(dataset, "global", quantiles=(0.5, 0.75))
    assert other.in_train.mean() == pytest.approx(0.5, abs=0.001)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, min_history=st.integers(0, 4))
def test_leave_one_out_takes_two_events_of_each_user_with_enough(
    seed: int, min_history: int
) -> None:
    dataset = dataset_of(seed)
    offsets = dataset.events.offsets
    enough = np.diff(offsets) >= min_history + 2
    assume(enough.any())
    split = leave_one_out(dataset, min_history=min_history)
    assert split.test.position.tolist() == (offsets[1:][enough] - 1).tolist()
    assert split.validation.position.tolist() == (offsets[1:][enough] - 2).tolist()
    held_back = np.bincount(dataset.events.user[~split.in_train], minlength=dataset.n_users)
    assert held_back.tolist() == (2 * enough).tolist()


def test_events_at_one_moment_stay_together_across_users() -> None:
    dataset = dataset_of(moments=10)
    split = global_cut(dataset)
    for moment in np.unique(dataset.events.time):
        assert len(set(split.in_train[dataset.events.time == moment].tolist())) == 1


def test_questions_without_enough_history_are_dropped_not_trained_on() -> None:
    dataset = dataset_of(n_users=200)
    strict, loose = global_cut(dataset, min_history=3), global_cut(dataset, min_history=0)
    assert strict.in_train.tolist() == loose.in_train.tolist()
    position = strict.test.position
    earlier = position - dataset.events.offsets[dataset.events.user[position]]
    assert earlier.min() == 3
    assert len(loose.test) > len(strict.test)


def test_auto_takes_the_clock_where_there_is_one() -> None:
    assert make_split(dataset_of(), "auto").name == "global"
    assert make_split(dataset_of(clock=False), "auto").name == "leave-one-out"


def test_what_cannot_be_split_says_why() -> None:
    with pytest.raises(DataError, match="domain0, domain1 has none"):
        global_cut(dataset_of(clock=False))
    with pytest.raises(DataError, match="nothing for training"):
        global_cut(dataset_of(moments=1))
    early = (
        r"split\.quantiles: the global cut at 0 and 0.001 of the events leaves nothing for train"
    )
    with pytest.raises(DataError, match=early):
        global_cut(dataset_of(), quantiles=(0.0, 0.001))
    with pytest.raises(DataError, match="It takes 3 events of one user"):
        leave_one_out(dataset_of(longest=2))


def test_halves_follow_the_raw_id_and_are_about_equal() -> None:
    hashed = user_hash([f"user{u}" for u in range(4000)], "salt")
    assert ((hashed >= 0) & (hashed < 1)).all()
    assert np.histogram(hashed, bins=10, range=(0, 1))[0].min() > 320
    assert user_hash(["user7"], "salt")[0] == hashed[7]
    assert user_hash(["user7"], "other")[0] != hashed[7]
    dataset = dataset_of()
    split = leave_one_out(dataset)
    stopping = set(dataset.events.user[split.stopping.position].tolist())
    first = user_hash(dataset.user_ids.to_list(), "validation-half") < 0.5
    asked = set(dataset.events.user[split.validation.position].tolist())
    assert stopping == {u for u in asked if first[u]}


def test_queries_are_filtered_by_mask() -> None:
    queries = Queries(np.array([3, 5, 8]))
    assert queries.where(np.array([True, False, True])).position.tolist() == [3, 8]
    assert len(queries) == 3


def test_known_events_go_on_after_a_global_cut_but_not_in_leave_one_out() -> None:
    dataset = dataset_of(seed=3)
    cut, last = made(dataset, "global"), made(dataset, "leave-one-out")
    assert len(cut.known_events(dataset)) == len(dataset.events)
    assert len(last.known_events(dataset)) == last.in_train.sum() < len(dataset.events)


def test_what_was_not_learnt_and_has_no_time_is_not_known() -> None:
    dataset = dataset_of(seed=3)
    cut = made(dataset, "global")
    time = dataset.events.time.copy()
    unlearnt, learnt = np.flatnonzero(~cut.in_train)[0], np.flatnonzero(cut.in_train)[0]
    time[[unlearnt, learnt]] = np.nan
    partly = replace(dataset, events=replace(dataset.events, time=time))
    assert np.flatnonzero(~cut.known(partly)).tolist() == [unlearnt]
