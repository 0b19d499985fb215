"""Honest splits: which events a model may learn from and which it must predict.

A split never copies events. A question is a position in the dataset's event list: the event there
is the answer, and everything of the same user before it is the history.

* `global_cut`: one moment for all domains, at a quantile of events; each later event is predicted
  from everything before it.
* `leave_one_out`: per user, the last event of all domains together is the test answer and the one
  before it the validation answer.

Ties in time were broken when the dataset was built, at random under one fixed seed, so both
follow the order of the event list. "Published order" is `leave_one_out` on a dataset that was
built with the source's own `order` column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.config import SplitConfig
from isthmus.data.dataset import Dataset, Events
from isthmus.errors import DataError

SplitName = Literal["global", "leave-one-out"]


@dataclass(frozen=True)
class Queries:
    """Questions with known answers, as positions in `Dataset.events`.

    Attributes:
        position: int64 [n]; the event at each position is the answer, the same user's events
            before it are the history.
    """

    position: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.position)

    def where(self, mask: NDArray[np.bool_]) -> Queries:
        """The questions where `mask` [n] is true."""
        return Queries(self.position[mask])


@dataclass(frozen=True)
class Split:
    """One way to divide a dataset.

    Attributes:
        name: which rule made it.
        in_train: bool [n_events]; what any model may learn from.
        stopping: validation questions for early stopping.
        tuning: validation questions for blend and gate, of other users than `stopping`.
        test: questions to be asked once.
        cut_times: the moments of a global cut, empty otherwise.
    """

    name: SplitName
    in_train: NDArray[np.bool_]
    stopping: Queries
    tuning: Queries
    test: Queries
    cut_times: tuple[float, ...] = ()

    def train_events(self, dataset: Dataset) -> Events:
        """What models learn from, as a CSR over the same user rows."""
        return dataset.events.keep(self.in_train)

    def known(self, dataset: Dataset) -> NDArray[np.bool_]:
        """What may be looked up as of a question's time by a reader that keeps to earlier days.

        Under a global cut life goes on after training, and a question may use everything strictly
        before it; only what was learnt stays frozen. In leave-one-out, held-back answers of others
        stay out, and so does everywhere what was not learnt and has no time.

        Returns:
            bool [n_events], training events among them.
        """
        if self.name != "global":
            return self.in_train
        return self.in_train | ~np.isnan(dataset.events.time)

    def known_events(self, dataset: Dataset) -> Events:
        """The events of `known`."""
        return dataset.events.keep(self.known(dataset))

    @property
    def validation(self) -> Queries:
        """Both halves of the validation questions."""
        return Queries(np.sort(np.concatenate([self.stopping.position, self.tuning.position])))


def check_held_back(queries: Queries) -> None:
    """There must be something to ask.

    Raises:
        DataError: there is none.
    """
    if not len(queries):
        raise DataError(
            "no question is held back",
            where="split",
            hint="A version that an update made has counted all that it knew; how it was judged "
            "stands in 'isthmus models list'. Take the version that 'isthmus fit' made",
        )


def user_hash(user_ids: NDArray[np.str_] | list[str], salt: str) -> NDArray[np.float64]:
    """A number in [0, 1) per raw user id: stable across runs, machines and row orders."""
    from hashlib import blake2b

    digests = [blake2b(f"{salt}\0{u}".encode(), digest_size=8).digest() for u in user_ids]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.float64) / 2.0**64


def _halves(dataset: Dataset, validation: NDArray[np.int64]) -> tuple[Queries, Queries]:
    """Validation questions, halved by a hash of the user."""
    first = user_hash(dataset.user_ids.to_list(), "validation-half") < 0.5
    mask = first[dataset.events.user[validation]]
    return Queries(validation[mask]), Queries(validation[~mask])


def leave_one_out(dataset: Dataset, *, min_history: int = 1) -> Split:
    """The last event of each user is the test answer, the one before it the validation answer.

    Users with fewer than `min_history + 2` events stay in training whole.
    """
    offsets = dataset.events.offsets
    enough = np.diff(offsets) >= min_history + 2
    if not enough.any():
        raise DataError(
            "no user has enough events for leave-one-out",
            where="split",
            hint=f"It takes {min_history + 2} events of one user; gather more data",
        )
    last = offsets[1:][enough] - 1
    in_train = np.ones(len(dataset.events), bool)
    in_train[last] = in_train[last - 1] = False
    stopping, tuning = _halves(dataset, last - 1)
    return Split("leave-one-out", in_train, stopping, tuning, Queries(last))


def global_cut(
    dataset: Dataset, *, quantiles: tuple[float, float] = (0.8, 0.9), min_history: int = 1
) -> Split:
    """One cut in time for all domains, at quantiles of the events.

    Training is everything before the first moment, validation between the two, test after the
    second; all events at one moment fall on the same side. Questions with fewer than
    `min_history` earlier events of the user are dropped.

    Raises:
        DataError: some domain has no timestamps, or one side of the cut is empty.
    """
    time = dataset.events.time
    if np.isnan(time).any():
        without = sorted(
            {dataset.names[d] for d in np.unique(dataset.events.domain[np.isnan(time)])}
        )
        raise DataError(
            f"a global cut needs timestamps, and {', '.join(without)} has none",
            where="split.kind",
            hint="Set split.kind = 'leave-one-out', or map a time column",
        )
    first, second = np.quantile(time, quantiles, method="higher") if len(time) else (0.0, 0.0)
    in_train = time < first
    seen_before = np.arange(len(time)) - dataset.events.offsets[dataset.events.user]
    asked = seen_before >= min_history
    validation = np.flatnonzero(~in_train & (time < second) & asked)
    test = np.flatnonzero((time >= second) & asked)
    if not (in_train.any() and len(validation) and len(test)):
        sides = (in_train.any(), len(validation), len(test))
        names = ("training", "validation", "test")
        empty = next(name for name, side in zip(names, sides, strict=True) if not side)
        raise DataError(
            f"the global cut at {quantiles[0]:g} and {quantiles[1]:g} of the events leaves nothing "
            f"for {empty}",
            where="split.quantiles",
            hint="Move the cuts apart and away from the ends; where too many events share one "
            "moment, or too few people come back, set split.kind = 'leave-one-out'",
        )
    stopping, tuning = _halves(dataset, validation)
    cuts = (float(first), float(second))
    return Split("global", in_train, stopping, tuning, Queries(test), cuts)


def make_split(
    dataset: Dataset,
    kind: Literal["auto", "global", "leave-one-out"],
    *,
    quantiles: tuple[float, float] = (0.8, 0.9),
    min_history: int = 1,
) -> Split:
    """The named split; `auto` takes the global cut where every event has a time."""
    if kind == "auto":
        kind = "leave-one-out" if np.isnan(dataset.events.time).any() else "global"
    if kind == "global":
        return global_cut(dataset, quantiles=quantiles, min_history=min_history)
    return leave_one_out(dataset, min_history=min_history)


def configured_split(dataset: Dataset, config: SplitConfig) -> Split:
    """The split that a configuration asks for."""
    return make_split(
        dataset, config.kind, quantiles=config.quantiles, min_history=config.min_history
    )
