"""New events are learnt behind their histories; what is replayed follows from who people are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from continual_world import BOOKS, GEAR, whole

from isthmus.continual.lessons import Lessons, choose_lessons
from isthmus.data.dataset import Dataset
from isthmus.data.forgetting import forget

LENGTH = 20


def lessons(
    dataset: Dataset, *, replay: float = 1.0, most: int = 10_000, salt: str = "1"
) -> Lessons:
    time = dataset.events.time
    fresh = time >= np.quantile(whole().events.time, 0.85)
    return choose_lessons(
        dataset,
        fresh,
        np.ones(len(time), bool),
        [BOOKS, GEAR],
        replay=replay,
        replay_most=most,
        max_length=LENGTH,
        salt=salt,
    )


def replayed_people(dataset: Dataset, found: Lessons) -> set[str]:
    rows = np.unique(found.events.user[found.replayed])
    return set(dataset.user_ids.gather(rows).to_list())


def test_every_new_event_with_something_before_it_is_learnt_and_read_with_its_history() -> None:
    found = lessons(whole(), replay=0)
    events, time = whole().events, whole().events.time
    fresh = time >= np.quantile(time, 0.85)
    behind = np.arange(len(events)) > events.offsets[events.user]
    assert found.n_fresh == (fresh & behind).sum()
    assert not found.n_replayed
    # Only what is new has a weight; what is read beside it is the latest before it.
    assert np.array_equal(found.events.weight > 0, found.fresh)
    for user in np.unique(found.events.user)[:40]:
        mine = slice(found.events.offsets[user], found.events.offsets[user + 1])
        theirs = slice(events.offsets[user], events.offsets[user + 1])
        n = len(found.events.item[mine])
        assert np.array_equal(found.events.item[mine], events.item[theirs][-n:])
        assert n >= min(len(events.item[theirs]), LENGTH + 1)


def test_replay_is_bounded_and_no_domain_is_crowded_out() -> None:
    found = lessons(whole(), replay=0.4)
    assert 0 < found.n_replayed <= 0.4 * found.n_fresh + 2 * LENGTH * 2
    by_domain = np.bincount(found.events.domain[found.replayed])
    assert by_domain.min() >= 0.2 * found.n_fresh * 0.9
    assert lessons(whole(), replay=5, most=30).n_replayed <= 30 + 2 * LENGTH * 2


def test_an_erased_person_is_never_replayed_and_the_others_stay() -> None:
    before = lessons(whole(), replay=0.4)
    chosen = replayed_people(whole(), before)
    gone = sorted(chosen)[:5]
    left = forget(whole(), gone).dataset
    after = replayed_people(left, lessons(left, replay=0.4))
    assert not after & {*gone}
    # The next in line take their places; whoever was chosen before still is.
    assert {*chosen} - {*gone} <= after


def test_the_choice_follows_from_ids_not_from_rows() -> None:
    events = whole().events
    turned = np.argsort(-events.user, kind="stable")
    ids = whole().user_ids.reverse()
    other = replace(
        whole(),
        user_ids=ids,
        events=type(events).from_columns(
            events.n_users,
            (events.n_users - 1 - events.user)[turned],
            events.domain[turned],
            events.item[turned],
            events.time[turned],
        ),
    )
    assert replayed_people(other, lessons(other)) == replayed_people(whole(), lessons(whole()))
    other_salt = replayed_people(whole(), lessons(whole(), salt="2", replay=0.3))
    assert other_salt != replayed_people(whole(), lessons(whole(), replay=0.3))


def test_a_full_fine_tune_learns_everything() -> None:
    found = lessons(whole(), replay=np.inf)
    offsets = whole().events.offsets
    assert found.n_fresh + found.n_replayed == (np.diff(offsets) - 1).clip(0).sum()
