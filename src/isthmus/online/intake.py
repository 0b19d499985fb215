"""Which records a log takes: what can be told from the record alone and the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.config import OnlineConfig
from isthmus.online.events import Event, Impression, Outcome, Record

DAY = 86_400.0
EARLIEST = 0.0
"""Unix seconds before which nothing is taken: nothing that a log is for happened before 1970."""
_LARGEST_RANK = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what is taken.

    Attributes:
        max_skew: seconds that a record may be ahead of the log's clock.
        max_age: seconds that it may lie behind it; None: any.
        max_id_chars: of every id, of the domain and of the kind.
        kinds: of events; None: any.
        earliest: Unix seconds before which no record is taken, however old records may be.
    """

    max_skew: float = 300.0
    max_age: float | None = None
    max_id_chars: int = 256
    kinds: frozenset[str] | None = None
    earliest: float = EARLIEST

    @classmethod
    def of(cls, config: OnlineConfig) -> Limits:
        """The configured bounds."""
        return cls(
            max_skew=config.max_skew_seconds,
            max_age=None if config.max_age_days is None else config.max_age_days * DAY,
            max_id_chars=config.max_id_chars,
            kinds=None if config.kinds is None else frozenset(config.kinds),
        )


def refusal(record: object, limits: Limits, now: float) -> Outcome | None:
    """Why a record cannot be taken, or None where nothing speaks against it.

    Args:
        record: as it came; its fields may be of any type.
        limits: what is taken.
        now: the log's clock, Unix seconds.
    """
    if not isinstance(record, Event | Impression):
        return Outcome.MALFORMED
    return (
        _of_texts(record, limits)
        or _of_numbers(record)
        or _of_time(record.time, limits, now)
        or _of_kind(record, limits)
    )


def _of_texts(record: Record, limits: Limits) -> Outcome | None:
    texts: list[object] = [record.event_id, record.user_id, record.domain, record.item_id]
    if isinstance(record, Event):
        texts.append(record.kind)
    if isinstance(record, Impression) or record.recommendation_id is not None:
        texts.append(record.recommendation_id)
    for text in texts:
        if not isinstance(text, str):
            return Outcome.MALFORMED
        if not text.strip():
            return Outcome.EMPTY_ID
        if len(text) > limits.max_id_chars:
            return Outcome.LONG_ID
        # PostgreSQL's text has no NUL, and UTF-8 no half of a surrogate pair.
        if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
            return Outcome.MALFORMED
    return None


def _of_numbers(record: Record) -> Outcome | None:
    numbers: list[object] = [record.time]
    if isinstance(record, Event):
        optional, in_range = record.rating, _at_least(record.weight, 0)
        numbers.append(record.weight)
    else:
        optional = record.propensity
        in_range = _at_least(record.rank, 1) and not _at_least(record.rank, _LARGEST_RANK + 1)
        in_range &= optional is None or (_at_least(optional, 0) and 0 < optional <= 1)
        numbers.append(record.rank)
        if isinstance(record.rank, float):
            return Outcome.MALFORMED
    if optional is not None:
        numbers.append(optional)
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        return Outcome.MALFORMED
    return None if in_range and all(map(_finite, numbers)) else Outcome.BAD_NUMBER


def _at_least(number: object, least: float) -> bool:
    return isinstance(number, int | float) and number >= least


def _finite(number: object) -> bool:
    try:
        return math.isfinite(number)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond every float
        return False


def _of_time(time: float, limits: Limits, now: float) -> Outcome | None:
    if time > now + limits.max_skew:
        return Outcome.FUTURE
    if time < limits.earliest:
        return Outcome.TOO_OLD
    if limits.max_age is not None and time < now - limits.max_age:
        return Outcome.TOO_OLD
    return None


def _of_kind(record: Record, limits: Limits) -> Outcome | None:
    if isinstance(record, Event) and limits.kinds is not None and record.kind not in limits.kinds:
        return Outcome.UNKNOWN_KIND
    return None
