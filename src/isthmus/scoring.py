"""The contract between those who score items and those who ask.

The evaluator, the blend, the explainer and the service know only these three things: a batch of
`Requests` goes in, `Scores` come out, and whoever does that is a `Scorer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """One question: what would this person want next?

    Attributes:
        history: (domain index, local item index) pairs, oldest first; may be empty.
        times: Unix seconds of each history event, or None where unknown.
        query_time: Unix seconds of the question; None means just after the last event.
        user: row of a known user in the dataset, -1 for somebody new.
        context: anything else a scorer may use, such as rules for one person.
    """

    history: Sequence[tuple[int, int]] = ()
    times: Sequence[float] | None = None
    query_time: float | None = None
    user: int = -1
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Requests:
    """A packed batch of requests: histories end to end, no padding.

    Attributes:
        offsets: int64 [batch + 1]; history of request b is `offsets[b]:offsets[b + 1]`.
        domain: int16 [total] domain index of each history event.
        item: int32 [total] local item index within its domain.
        time: float64 [total] Unix seconds, NaN where unknown.
        query_time: float64 [batch] Unix seconds, NaN where unknown.
        user: int64 [batch] user row, -1 for somebody new.
        context: per-request extras, empty or of length batch.
    """

    offsets: NDArray[np.int64]
    domain: NDArray[np.int16]
    item: NDArray[np.int32]
    time: NDArray[np.float64]
    query_time: NDArray[np.float64]
    user: NDArray[np.int64]
    context: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of history events of each request, int64 [batch]."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Which request each history event belongs to, int64 [total]."""
        return np.arange(len(self)).repeat(self.lengths)

    @cached_property
    def age(self) -> NDArray[np.int64]:
        """Events between each history event and the query, int64 [total]; 0 is the latest."""
        return self.offsets[1:].repeat(self.lengths) - 1 - np.arange(len(self.item))

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Requests:
        """Pack single requests into one batch."""
        lengths = [len(r.history) for r in requests]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        pairs = np.array([p for r in requests for p in r.history], dtype=np.int64).reshape(-1, 2)
        times = [
            t
            for r in requests
            for t in (r.times if r.times is not None else [np.nan] * len(r.history))
        ]
        return cls(
            offsets=offsets,
            domain=pairs[:, 0].astype(np.int16),
            item=pairs[:, 1].astype(np.int32),
            time=np.array(times, dtype=np.float64),
            query_time=np.array(
                [np.nan if r.query_time is None else r.query_time for r in requests], np.float64
            ),
            user=np.array([r.user for r in requests], dtype=np.int64),
            context=[r.context for r in requests] if any(r.context for r in requests) else (),
        )

    @classmethod
    def at(
        cls,
        dataset: Dataset,
        position: NDArray[np.int64],
        *,
        max_history: int = 200,
        hidden: NDArray[np.bool_] | None = None,
    ) -> Requests:
        """The questions whose answers stand at `position` [batch] in `dataset.events`.

        History is what the same user did before, at most the last `max_history` events, without
        those where `hidden` [n_events] is true.
        """
        events = dataset.events
        user = events.user[position]
        start = np.maximum(events.offsets[user], position - max_history)
        if hidden is None:
            return cls._slices(dataset, start, position, user, events.time[position])
        whole = cls._slices(
            dataset, events.offsets[user], position, user, events.time[position], hidden
        )
        return whole.keep(whole.age < max_history)

    @classmethod
    def until(
        cls,
        dataset: Dataset,
        user: NDArray[np.int64],
        end: NDArray[np.int64],
        *,
        query_time: NDArray[np.float64],
        max_history: int = 200,
    ) -> Requests:
        """What each known user [batch] would want after the events before position `end` [batch].

        Unlike in `at`, nothing need stand at that position.
        """
        start = np.maximum(dataset.events.offsets[user], end - max_history)
        return cls._slices(dataset, start, end, user, query_time)

    @classmethod
    def of_users(
        cls, dataset: Dataset, user: NDArray[np.int64], *, max_history: int = 200
    ) -> Requests:
        """What each known user [batch] would want after everything they have done."""
        end = dataset.events.offsets[user + 1]
        start = np.maximum(dataset.events.offsets[user], end - max_history)
        return cls._slices(dataset, start, end, user, np.full(len(user), np.nan))

    @classmethod
    def _slices(
        cls,
        dataset: Dataset,
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        user: NDArray[np.int64],
        query_time: NDArray[np.float64],
        hidden: NDArray[np.bool_] | None = None,
    ) -> Requests:
        lengths = end - start
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        index = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
        events = dataset.events
        packed = cls(
            offsets=offsets,
            domain=events.domain[index],
            item=events.item[index],
            time=events.time[index],
            query_time=query_time,
            user=user.astype(np.int64),
        )
        return packed if hidden is None else packed.keep(~hidden[index])

    def select(self, rows: NDArray[np.int64]) -> Requests:
        """The requests at `rows`, in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Requests(
            offsets=offsets,
            domain=self.domain[events],
            item=self.item[events],
            time=self.time[events],
            query_time=self.query_time[rows],
            user=self.user[rows],
            context=[self.context[int(r)] for r in rows] if self.context else (),
        )

    def keep(self, mask: NDArray[np.bool_]) -> Requests:
        """The same requests with only the history events where `mask` [total] is true."""
        if mask.all():
            return self
        counts = np.bincount(self.rows[mask], minlength=len(self))
        return Requests(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            domain=self.domain[mask],
            item=self.item[mask],
            time=self.time[mask],
            query_time=self.query_time,
            user=self.user,
            context=self.context,
        )

    def only(self, domain: int) -> Requests:
        """The same requests with only the history events of one domain."""
        return self.among((domain,))

    def among(self, domains: tuple[int, ...]) -> Requests:
        """The same requests with only the history events of some domains."""
        if domains in self._parts:
            return self._parts[domains]
        found = self.keep((self.domain[:, None] == domains).any(1))
        if found is not self:  # which would keep itself alive
            self._parts[domains] = found
        return found

    @cached_property
    def _parts(self) -> dict[tuple[int, ...], Requests]:
        return {}

    def as_newcomers(self, domain: int) -> Requests:
        """The requests of people of whom nothing is known in `domain`, not even who they are."""
        nobody = np.full(len(self), -1, np.int64)
        return replace(self.keep(self.domain != domain), user=nobody)


@dataclass(frozen=True)
class Scores:
    """What a scorer answers.

    Attributes:
        total: float32 [batch, n_items]; higher is better; only the order within a row matters.
            An item that must not be offered is -inf.
        parts: named contributions of the same shape; for a blend they add up to `total`.
    """

    total: Float
    parts: Mapping[str, Float] = field(default_factory=dict)


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores the items of one domain for a batch of requests."""

    name: str

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """Score items of `domain`.

        Args:
            requests: the packed batch.
            domain: index of the target domain.
            items: local item indices, [n] shared by all requests or [batch, n] of their own;
                None scores the whole catalogue, [batch, catalogue size].
        """
        ...


def pick(total: Float, items: NDArray[np.int64] | None) -> Float:
    """Restrict whole-catalogue scores [batch, catalogue] to `items` ([n] or [batch, n])."""
    if items is None:
        return total
    if items.ndim == 1:
        return np.ascontiguousarray(total[:, items])
    return np.take_along_axis(total, items, axis=1)
