"""What the log holds: what people did, and what they were shown.

Both are chosen an `event_id` by whoever reports them, out of one id space, so that a report can be
sent again without being counted twice. The domain is named on every record: the same raw item id
in two domains is two items.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person did.

    Attributes:
        event_id: chosen by the reporter, unique in the log.
        user_id: raw id of the person.
        domain: name of the catalogue that `item_id` is from.
        item_id: raw id of the item.
        time: when, Unix seconds.
        kind: view, click, buy or whatever the shop calls it.
        rating: how much they liked it, on the shop's scale; None: not said.
        weight: in training.
        recommendation_id: of the answer that showed them the item; None: found by themselves.
    """

    event_id: str
    user_id: str
    domain: str
    item_id: str
    time: float
    kind: str = "event"
    rating: float | None = None
    weight: float = 1.0
    recommendation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Impression:
    """Something a person was shown.

    Attributes:
        event_id: chosen by the reporter, out of the same ids as those of events.
        user_id: raw id of the person.
        domain: name of the catalogue that `item_id` is from.
        item_id: raw id of the item.
        time: when, Unix seconds.
        recommendation_id: of the answer that it belongs to.
        rank: place in that answer, from 1.
        propensity: probability in (0, 1] that it stood there; None: not known.
    """

    event_id: str
    user_id: str
    domain: str
    item_id: str
    time: float
    recommendation_id: str
    rank: int
    propensity: float | None = None


Record = Event | Impression
"""What can be appended."""

Choice = tuple[str, str, float]
"""What an event was on: domain, raw item id, Unix seconds."""


class Glance(NamedTuple):
    """A record in its place, as those who count need it: what was chosen, when, and how.

    Attributes:
        offset: as in `Logged`.
        shown: 0: an event; 1: an impression.
        user_id, domain, item_id, time, kind, rating: as in `Event`.
    """

    offset: int
    shown: int
    user_id: str
    domain: str
    item_id: str
    time: float
    kind: str | None
    rating: float | None


@dataclass(frozen=True, slots=True)
class Logged:
    """A record in its place.

    Attributes:
        offset: rising, and never given twice; a reader who has seen an offset will not be shown a
            smaller one later.
        received: when the log took it, Unix seconds.
        record: the event or impression.
    """

    offset: int
    received: float
    record: Record


class Outcome(StrEnum):
    """What became of a record that was appended; `message` says it in a sentence."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    CONFLICT = "conflict"
    MALFORMED = "malformed"
    EMPTY_ID = "empty-id"
    LONG_ID = "long-id"
    BAD_NUMBER = "bad-number"
    FUTURE = "future"
    TOO_OLD = "too-old"
    UNKNOWN_KIND = "unknown-kind"
    ERASED = "erased"

    @property
    def acknowledged(self) -> bool:
        """Whether the log holds the record now."""
        return self in (Outcome.ACCEPTED, Outcome.REPEATED)

    @property
    def message(self) -> str:
        """What it means, and what to do about it."""
        return _MESSAGES[self]


_MESSAGES = {
    Outcome.ACCEPTED: "Written to disk.",
    Outcome.REPEATED: "The log has it already, and counts it once.",
    Outcome.CONFLICT: "The log has another record by this event_id. Choose an id of its own.",
    Outcome.MALFORMED: "A field has the wrong type, or characters that cannot be stored.",
    Outcome.EMPTY_ID: "An id, the domain or the kind is empty. Name it.",
    Outcome.LONG_ID: "An id, the domain or the kind is longer than the log allows. Shorten it.",
    Outcome.BAD_NUMBER: "A number is out of its range: time and rating must be finite, weight "
    "not negative, rank at least 1, propensity above 0 and at most 1.",
    Outcome.FUTURE: "Its time is further ahead than the clocks may differ. Send Unix seconds.",
    Outcome.TOO_OLD: "Its time is before 1970, or before what the log keeps. Send Unix seconds, or "
    "leave it out.",
    Outcome.UNKNOWN_KIND: "Its kind is not among those that the configuration names.",
    Outcome.ERASED: "The person was erased after this happened. It is not taken.",
}
