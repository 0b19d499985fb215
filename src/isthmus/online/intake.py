"""Which records a log takes: what can be told from the record alone and the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.online.events import Event, Impression, Outcome, Record

_LARGEST_RANK = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what is taken.

    Attributes:
        max_skew: seconds that a record may be ahead of the log's clock.
        max_age: seconds that it may lie behind it; None: any.
        max_id_chars: of every id, of the domain and of the kind.
        kinds: of events; None: any.
    """

    max_skew: float = 300.0
    max_age: float | None = None
    max_id_chars: int = 256
    kinds: frozenset[str] | None = None


def refusal(record: Record, limits: Limits, now: float) -> Outcome | None:
    """Why a record cannot be taken, or None where nothing speaks against it.

    Args:
        record: as it came; its fields may be of any type.
        limits: what is taken.
        now: the log's clock, Unix seconds.
    """
    if not isinstance(record, Event | Impression):
        return Outcome.MALFORMED
    return (
        _text_refusal(record, limits)
        or _number_refusal(record)
        or _time_refusal(record.time, limits, now)
        or _kind_refusal(record, limits)
    )


def _text_refusal(record: Record, limits: Limits) -> Outcome | None:
    texts = [record.event_id, record.user_id, record.domain, record.item_id]
    if isinstance(record, Event):
        texts.append(record.kind)
    if isinstance(record, Impression) or record.recommendation_id is not None:
        texts.append(record.recommendation_id)  # type: ignore[arg-type]
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


def _number_refusal(record: Record) -> Outcome | None:
    if isinstance(record, Event):
        required, optional = [record.time, record.weight], record.rating
        fits = record.weight >= 0 if _is_number(record.weight) else False
    else:
        required, optional = [record.time, record.rank], record.propensity
        fits = _is_number(record.rank) and 1 <= record.rank <= _LARGEST_RANK
        if not isinstance(record.rank, int):
            return Outcome.MALFORMED
        if optional is not None and _is_number(optional):
            fits = fits and 0 < optional <= 1
    numbers = [*required, *(() if optional is None else (optional,))]
    if not all(map(_is_number, numbers)):
        return Outcome.MALFORMED
    return None if fits and all(map(math.isfinite, numbers)) else Outcome.BAD_NUMBER


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _time_refusal(time: float, limits: Limits, now: float) -> Outcome | None:
    if time > now + limits.max_skew:
        return Outcome.FUTURE
    if limits.max_age is not None and time < now - limits.max_age:
        return Outcome.TOO_OLD
    return None


def _kind_refusal(record: Record, limits: Limits) -> Outcome | None:
    if isinstance(record, Event) and limits.kinds is not None and record.kind not in limits.kinds:
        return Outcome.UNKNOWN_KIND
    return None
