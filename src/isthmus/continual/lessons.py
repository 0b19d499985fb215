"""What an update learns from: new events behind their histories, and old ones against forgetting.

The replay buffer keeps nothing of its own. Which people it holds follows from a hash of their ids
and the number of the update, the lowest first: a sample without replacement like a reservoir's, the
same whatever the order of rows, and without anybody whose events are no longer there. Every domain
gets an equal part of it, so that a small one is not crowded out.

Source: replay of exemplars in Mi, Lin and Faltings, "ADER: Adaptively Distilled Exemplar Replay
towards Continual Learning for Session-based Recommendation", RecSys 2020; sampling by the lowest
hashes: Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Events
from isthmus.data.splits import user_hash


@dataclass(frozen=True)
class Lessons:
    """Histories to read, of which some events are learnt.

    Attributes:
        events: over the snapshot's user rows; an event of weight 0 is read but not learnt.
        replayed: bool [n] old events that are learnt again.
        fresh: bool [n] new ones.
    """

    events: Events
    replayed: NDArray[np.bool_]
    fresh: NDArray[np.bool_]

    @property
    def n_fresh(self) -> int:
        """New events that are learnt."""
        return int(self.fresh.sum())

    @property
    def n_replayed(self) -> int:
        """Old events that are learnt again."""
        return int(self.replayed.sum())


def choose_lessons(
    dataset: Dataset,
    fresh: NDArray[np.bool_],
    in_train: NDArray[np.bool_],
    reads: Sequence[int],
    *,
    replay: float,
    replay_most: int,
    max_length: int,
    salt: str,
) -> Lessons:
    """New events with as much history as a model reads, and windows of people to replay.

    Args:
        dataset: the snapshot.
        fresh: bool [n_events] what is new; other events are old.
        in_train: bool [n_events] what may be read and learnt.
        reads: domain indices.
        replay: old events beside each new one; infinite: all of them.
        replay_most: bound of it.
        max_length: latest events a model reads.
        salt: what the sample depends on beside the people.
    """
    taken = np.flatnonzero(in_train & np.isin(dataset.events.domain, reads))
    known = dataset.events.keep(_mask(len(in_train), taken))
    new = fresh[taken]
    everything = replay == np.inf
    keep = np.ones(len(known), bool)
    if not everything:
        keep = _windows(known, new, max_length)
    events, new = known.keep(keep), new[keep]
    target = np.ones(len(events), bool)
    target[events.offsets[:-1][np.diff(events.offsets) > 0]] = False
    fresh_target, old_target = target & new, target & ~new
    if everything:
        again = old_target
    else:
        most = min(replay * int(fresh_target.sum()), replay_most)
        people = _replayed_people(dataset, events, old_target, most, salt)
        again = old_target & people[events.user]
    learnt = fresh_target | again
    needed = np.zeros(events.n_users, bool)
    needed[events.user[learnt]] = True
    inside = needed[events.user]
    weight = np.where(learnt, events.weight, np.float32(0)).astype(np.float32)
    events = replace(events, weight=weight).keep(inside)
    return Lessons(events, again[inside], fresh_target[inside])


def _windows(events: Events, new: NDArray[np.bool_], max_length: int) -> NDArray[np.bool_]:
    """The latest events that a model reads of each person, and more where more are new."""
    place = np.arange(len(events))
    start, end = events.offsets[:-1], events.offsets[1:]
    first_new = end.copy()
    np.minimum.at(first_new, events.user[new], place[new])
    begin = np.maximum(start, np.minimum(first_new - 1, end - 1 - max_length))
    return np.asarray(place >= begin[events.user])


def _replayed_people(
    dataset: Dataset, events: Events, old: NDArray[np.bool_], most: float, salt: str
) -> NDArray[np.bool_]:
    """Who is replayed, bool [n_users]: in the order of their hashes until every domain has enough.

    Args:
        dataset: gives raw ids.
        events: the windows.
        old: bool [n] events that could be replayed.
        most: of them.
        salt: of the hash.
    """
    chosen = np.zeros(events.n_users, bool)
    domains = np.unique(events.domain[old])
    if not len(domains) or most < 1:
        return chosen
    order = np.argsort(user_hash(dataset.user_ids.to_list(), f"replay-{salt}"), kind="stable")
    for d in domains:
        count = np.bincount(events.user[old & (events.domain == d)], minlength=events.n_users)
        before = np.cumsum(count[order]) - count[order]
        chosen[order[(count[order] > 0) & (before < most / len(domains))]] = True
    return chosen


def _mask(n: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(n, bool)
    mask[rows] = True
    return mask
