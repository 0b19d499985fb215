"""A dataset as it would be had less happened in one domain: fewer people in it, or a younger one.

`users` keeps a fixed share of the people: the target events of all others are gone, so that they
are new to the target however much they did there. `time` keeps the latest share of the target's
training events, as if the domain had opened later. The other domains stay as they are. A smaller
share is always a part of a larger one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split, user_hash

By = Literal["users", "time"]


@dataclass(frozen=True)
class Thinned:
    """What is left for models, and how they are asked.

    Attributes:
        dataset: the smaller snapshot; people, items and domains keep their numbers.
        split: of `dataset`; validation questions that nobody would have are gone.
        hidden: bool [n_events] of the whole dataset, the events that are gone.
        asked: split of the whole dataset with every test question, and as training events those
            that are left.
        n_events: training events left in the target.
        note: how events were placed in time where the target has no clock.
    """

    dataset: Dataset
    split: Split
    hidden: NDArray[np.bool_]
    asked: Split
    n_events: int
    note: str | None = None


def thin(dataset: Dataset, split: Split, target: int, share: float, by: By) -> Thinned:
    """Leave a share of one domain's behaviour; every test question stays.

    Args:
        dataset: the whole.
        split: of `dataset`.
        target: index of the domain that is thinned.
        share: of its people or of its training events, in (0, 1].
        by: see the module; `time` places events without a clock by their relative position in
            their own person's target history.
    """
    own = dataset.events.domain == target
    kept = np.ones(dataset.n_users, bool)
    opened = note = None
    if by == "users":
        kept = user_hash(dataset.user_ids.to_list(), "curve-users") < share
        hidden = own & ~kept[dataset.events.user]
    else:
        hidden, opened, note = _early(dataset, split, target, share)
    position = np.cumsum(~hidden) - 1
    smaller = replace(
        dataset,
        events=dataset.events.keep(~hidden),
        impressions=_impressions(dataset, target, kept, opened),
    )

    def left(questions: Queries) -> Queries:
        at = questions.position
        had = at > dataset.events.offsets[dataset.events.user[at]]
        has = position[at] > smaller.events.offsets[dataset.events.user[at]]
        return questions.where(~hidden[at] & (has | ~had))

    def moved(questions: Queries) -> Queries:
        return Queries(position[questions.position])

    stopping, tuning = left(split.stopping), left(split.tuning)
    still = split.test.where(~hidden[split.test.position])
    return Thinned(
        dataset=smaller,
        split=replace(
            split,
            in_train=split.in_train[~hidden],
            stopping=moved(stopping),
            tuning=moved(tuning),
            test=moved(still),
        ),
        hidden=hidden,
        asked=replace(split, in_train=split.in_train & ~hidden, stopping=stopping, tuning=tuning),
        n_events=int((split.in_train & own & ~hidden).sum()),
        note=note,
    )


def _early(
    dataset: Dataset, split: Split, target: int, share: float
) -> tuple[NDArray[np.bool_], float | None, str | None]:
    """Target events before the latest `share` of training, when those begin, and a note."""
    events = dataset.events
    at = np.flatnonzero(split.in_train & (events.domain == target))
    user = events.user[at]
    clocked = not np.isnan(events.time[at]).any()
    moment = events.time[at] if clocked else _relative(user)
    # Whole people's events of one moment go together; whose go first is drawn by their raw id.
    drawn = user_hash(dataset.user_ids.to_list(), "curve-time")
    order = np.lexsort((at, drawn[user], moment))
    gone = len(at) - int(np.ceil(share * len(at) - 1e-9))
    hidden = np.zeros(len(events), bool)
    hidden[at[order[:gone]]] = True
    if not gone:
        return hidden, None, None
    if not clocked:
        name = dataset.names[target]
        note = (
            f"{name} has no clock: its latest events are those that stand last, by relative "
            "position, in each person's own history there."
        )
        return hidden, None, note
    opened = float(moment[order[gone]])
    asked = split.validation.position
    hidden[asked] = (events.domain[asked] == target) & (events.time[asked] < opened)
    return hidden, opened, None


def _relative(user: NDArray[np.int64]) -> NDArray[np.float64]:
    """Place of each event in its person's run of events, between 0 and 1; `user` [n] is sorted."""
    first = np.flatnonzero(np.diff(user, prepend=-1))
    lengths = np.diff(np.append(first, len(user)))
    rank = np.arange(len(user)) - np.repeat(first, lengths)
    return np.asarray((rank + 0.5) / np.repeat(lengths, lengths))


def _impressions(
    dataset: Dataset, target: int, kept: NDArray[np.bool_], opened: float | None
) -> pl.DataFrame | None:
    """What was shown, without what would not have been."""
    shown = dataset.impressions
    if shown is None:
        return None
    gone = pl.col("user_id").is_in(dataset.user_ids.filter(pl.Series(~kept)).implode())
    if opened is not None and "time" in shown.columns:
        gone |= pl.col("time") < opened
    return shown.filter(~((pl.col("domain") == dataset.names[target]) & gone))
