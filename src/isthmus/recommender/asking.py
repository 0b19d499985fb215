"""Who asks: raw user ids and histories given on the spot → one packed batch of requests.

Raw ids are checked here and nowhere further in. A user id that the dataset does not hold is a
person without a history, and stays marked as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.errors import RequestError
from isthmus.scoring import Request, Requests

History = Sequence[tuple[str, str]]
"""(domain, item id) pairs, oldest first."""


class Origin(IntEnum):
    """Where the history of a request comes from."""

    KNOWN = 0
    STRANGER = 1
    GIVEN = 2


@dataclass(frozen=True)
class Asked:
    """A batch of people.

    Attributes:
        labels: what each is called in an answer: the user id, or `history 1`.
        origin: int8 [batch] of `Origin`.
        whole: everything they ever did.
        visible: the latest events of it, which scorers read.
    """

    labels: list[str]
    origin: NDArray[np.int8]
    whole: Requests
    visible: Requests

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Asked:
        """The people from `start` to `stop`."""
        return self.select(np.arange(start, min(stop, len(self))))

    def select(self, rows: NDArray[np.int64]) -> Asked:
        """The people at `rows`, in that order."""
        return Asked(
            [self.labels[row] for row in rows],
            self.origin[rows],
            self.whole.select(rows),
            self.visible.select(rows),
        )


def ask(
    dataset: Dataset,
    *,
    users: Sequence[str] | None = None,
    histories: Sequence[History] | None = None,
    query_time: float | None = None,
    max_history: int = 200,
) -> Asked:
    """Pack users first, then histories.

    Args:
        dataset: holds the histories of known users, all their events.
        users: raw ids, known or not.
        histories: given on the spot.
        query_time: Unix seconds of the question; later events are left out of the histories.
        max_history: latest events that scorers read.

    Raises:
        RequestError: nobody is asked about, or a history names an unknown domain or item.
    """
    if users is None and histories is None:
        raise RequestError("nobody to recommend to", hint="Give users, or histories")
    if isinstance(users, str):
        raise RequestError("users is a single text", hint=f"Give a list: [{users!r}]")
    users, histories = list(users or ()), list(histories or ())
    index = dataset.user_index
    row = np.array([index.get(user, -1) for user in users], np.int64)
    given = [
        Request(history=[_item(dataset, pair, f"history {n}, entry {i}") for i, pair in entries])
        for n, history in enumerate(histories, 1)
        for entries in [enumerate(history, 1)]
    ]
    known, strangers = np.flatnonzero(row >= 0), np.flatnonzero(row < 0)
    whole = _joined(
        Requests.of_users(dataset, row[known], max_history=max(len(dataset.events), 1)),
        Requests.of([*[Request()] * len(strangers), *given]),
    )
    place = np.argsort(np.concatenate([known, strangers, len(users) + np.arange(len(given))]))
    origin = np.concatenate(
        [np.where(row >= 0, Origin.KNOWN, Origin.STRANGER), np.full(len(given), Origin.GIVEN)]
    )
    labels = [*users, *(f"history {n}" for n in range(1, len(given) + 1))]
    return _asked(labels, origin.astype(np.int8), whole.select(place), query_time, max_history)


def ask_rows(dataset: Dataset, rows: NDArray[np.int64], *, max_history: int) -> Asked:
    """The known users at `rows` [batch] of the dataset."""
    whole = Requests.of_users(dataset, rows, max_history=max(len(dataset.events), 1))
    labels = dataset.user_ids.gather(rows).to_list()
    return _asked(labels, np.full(len(rows), Origin.KNOWN, np.int8), whole, None, max_history)


def _asked(
    labels: list[str],
    origin: NDArray[np.int8],
    whole: Requests,
    query_time: float | None,
    max_history: int,
) -> Asked:
    if query_time is not None:
        # What happened after the moment of the question is not known at that moment.
        whole = whole.keep(~(whole.time > query_time))
        whole = replace(whole, query_time=np.full(len(whole), float(query_time)))
    return Asked(labels, origin, whole, whole.keep(whole.age < max_history))


def _item(dataset: Dataset, pair: tuple[str, str], where: str) -> tuple[int, int]:
    try:
        name, item_id = pair
    except (TypeError, ValueError):
        raise RequestError(
            f"{pair!r} is no (domain, item id) pair", where=where, hint="Give both, as text"
        ) from None
    try:
        domain = dataset.domain_index(name)
        return domain, dataset.domains[domain].index_of(item_id)
    except RequestError as error:
        raise RequestError(error.what, where=where, hint=error.hint) from None


def _joined(first: Requests, second: Requests) -> Requests:
    return Requests(
        offsets=np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        domain=np.concatenate([first.domain, second.domain]),
        item=np.concatenate([first.item, second.item]),
        time=np.concatenate([first.time, second.time]),
        query_time=np.concatenate([first.query_time, second.query_time]),
        user=np.concatenate([first.user, second.user]),
    )
