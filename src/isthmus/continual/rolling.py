"""A split that moves on: all that is known is learnt but the newest events, which judge.

What was held back once is learnt the next time, when newer events are there to judge by: test, then
train (prequential; Gama, Sebastião and Rodrigues, "On evaluating stream learning algorithms",
Machine Learning 2013).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Events
from isthmus.data.splits import Queries, Split, user_hash

LEAST_JUDGES = 40
"""Questions found without a recommendation, below which those that answered one judge as well."""


def rolling_split(
    dataset: Dataset,
    learnt: NDArray[np.bool_],
    *,
    share: float,
    most: int,
    salt: str,
    guided: NDArray[np.int64] | None = None,
) -> Split:
    """Hold back the newest of what was not learnt so far.

    An event that answers a recommendation says as much of who recommended as of the person: the
    item stood at the top of a list of the serving model, so that model ranks it high. Such events
    are learnt, and do not judge or weigh, as long as there are others.

    Held-back events of one half of the people judge (`test`). Those of the other half (`tuning`)
    weigh the parts where everything is fitted anew; an update weighs by more of these people's
    (`weighing_questions`). Which half somebody is in changes with the salt. Events at one
    moment fall on one side. Where nothing that is new has a time, the last new event of a share of
    people is held back.

    Args:
        dataset: the snapshot.
        learnt: bool [n_events], what the model has been trained on; never held back.
        share: of the new events.
        most: of the new events.
        salt: what the halves depend on beside the people.
        guided: int64 [n] positions of events that answer a recommendation; None: none does.
    """
    events = dataset.events
    new = np.flatnonzero(~learnt)
    timed = new[~np.isnan(events.time[new])]
    draw = user_hash(dataset.user_ids.to_list(), f"half-{salt}")
    wanted = min(most, max(1, round(share * len(new)))) if len(new) else 0
    cut: tuple[float, ...] = ()
    if wanted and len(timed) > wanted:
        moment = np.sort(events.time[timed])[len(timed) - wanted]
        held = timed[events.time[timed] >= moment]
        if len(held) > 2 * wanted and (events.time[timed] > moment).any():
            held = timed[events.time[timed] > moment]
            moment = events.time[held].min()
        cut = (float(moment), float(moment))
    else:
        held = np.empty(0, np.int64)
    if wanted and not 0 < len(held) < len(new):
        held, cut = _last_of_some(dataset, new, share, salt), ()
    in_train = np.ones(len(events), bool)
    in_train[held] = False
    asked = _unguided(held[held > events.offsets[events.user[held]]], guided)
    tuning = draw[events.user[asked]] < 0.5
    return Split(
        name="global" if cut else "leave-one-out",
        in_train=in_train,
        stopping=Queries(np.empty(0, np.int64)),
        tuning=Queries(asked[tuning]),
        test=Queries(asked[~tuning]),
        cut_times=cut,
    )


def weighing_questions(
    dataset: Dataset,
    learnt: NDArray[np.bool_],
    *,
    most: int,
    salt: str,
    guided: NDArray[np.int64] | None = None,
) -> Queries:
    """What is new, asked of a version that has not learnt it: how its parts serve between updates.

    Those of the half of the people who do not judge under the same salt; without answers to
    recommendations, where enough is left; of many the newest.

    Args:
        dataset: the snapshot.
        learnt: bool [n_events], what the version has been trained on.
        most: questions.
        salt: as of `rolling_split`.
        guided: as of `rolling_split`.
    """
    events = dataset.events
    new = np.flatnonzero(~learnt)
    draw = user_hash(dataset.user_ids.to_list(), f"half-{salt}")
    asked = new[(new > events.offsets[events.user[new]]) & (draw[events.user[new]] < 0.5)]
    asked = _unguided(asked, guided)
    latest = np.argsort(events.time[asked], kind="stable")[-most:]
    return Queries(np.sort(asked[latest]))


def _unguided(asked: NDArray[np.int64], guided: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Without answers to recommendations, as long as enough is left."""
    if guided is None:
        return asked
    alone = asked[~np.isin(asked, guided)]
    return alone if len(alone) >= LEAST_JUDGES else asked


def learnt_of(dataset: Dataset, split: Split) -> Dataset:
    """The snapshot with what the split lets be learnt, and nothing later."""
    return replace(dataset, events=split.train_events(dataset))


def everything(events: Events) -> Split:
    """A split that holds nothing back."""
    none = Queries(np.empty(0, np.int64))
    return Split("global", np.ones(len(events), bool), none, none, none)


def _last_of_some(
    dataset: Dataset, new: NDArray[np.int64], share: float, salt: str
) -> NDArray[np.int64]:
    """The last new event of people drawn by a hash, rising."""
    user = dataset.events.user[new]
    last = new[np.append(user[1:] != user[:-1], True)]
    draw = user_hash(dataset.user_ids.to_list(), f"held-{salt}")
    drawn = np.flatnonzero(draw[dataset.events.user[last]] < share)
    return np.asarray(last[drawn])
