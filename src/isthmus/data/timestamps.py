"""Any column of moments → Unix seconds, whatever it holds and however mixed.

Each value is judged by itself, so a column may mix Unix seconds, milliseconds, microseconds,
nanoseconds, ISO 8601 texts and plain dates. The magnitude tells the unit: seconds stay below 10¹¹
until the year 5138, and milliseconds of any year after 1973 lie above. A column of numbers that
all read as YYYYMMDD is taken as dates. Texts without a zone are taken as UTC.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

_UNITS = (
    ("Unix seconds", 1e11, 1.0),
    ("Unix milliseconds", 1e14, 1e3),
    ("Unix microseconds", 1e17, 1e6),
    ("Unix nanoseconds", 1e20, 1e9),
)
_LAYOUTS = (
    ("ISO dates", "%Y-%m-%d"),
    ("ISO date-times", "%Y-%m-%dT%H:%M:%S%.f"),
    ("ISO date-times with a zone", "%Y-%m-%dT%H:%M:%S%.f%#z"),
    ("ISO date-times", "%Y-%m-%dT%H:%M"),
    ("ISO date-times with a zone", "%Y-%m-%dT%H:%M%#z"),
)


@dataclass(frozen=True)
class Moments:
    """A column as Unix seconds.

    Attributes:
        seconds: Float64 [n], null where the value is missing or no moment.
        formats: how many values were read as what, largest first.
    """

    seconds: pl.Series
    formats: dict[str, int]


def to_seconds(column: pl.Series) -> Moments:
    """Unix seconds of each value; what cannot be read becomes null. Negative numbers cannot."""
    if column.dtype in (pl.Date, pl.Datetime):
        seconds = column.dt.timestamp("us").cast(pl.Float64) / 1e6
        kind = "dates" if column.dtype == pl.Date else "date-times"
        return Moments(seconds, _counted([(kind, len(seconds) - seconds.null_count())]))
    if column.dtype.is_numeric():
        return _from_numbers(column.cast(pl.Float64))
    text = column.cast(pl.String).str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False)
    found = _from_numbers(numbers)
    if found.seconds.null_count() == column.null_count():
        return found
    rest = pl.Series(found.seconds.is_null() & numbers.is_null() & text.is_not_null())
    seconds, formats = _from_texts(text.filter(rest))
    merged = found.seconds.scatter(rest.arg_true(), seconds)
    return Moments(merged, _counted([*found.formats.items(), *formats]))


def calendar(seconds: float) -> datetime:
    """Unix seconds as date and time, UTC; what lies outside the years 1 to 9999 as their edge."""
    return datetime.fromtimestamp(min(max(seconds, -62_135_596_800.0), 253_402_300_799.0), UTC)


def tomorrow() -> float:
    """A day from now in Unix seconds; whatever the time zone, nothing has happened after it."""
    return time.time() + 86_400


def _from_numbers(numbers: pl.Series) -> Moments:
    values = numbers.drop_nulls()
    if len(values) and bool(values.is_between(19000101, 21001231).all()):
        days = numbers.cast(pl.Int64).cast(pl.String).str.to_datetime("%Y%m%d", strict=False)
        if days.null_count() == numbers.null_count() and bool((values == values.floor()).all()):
            return Moments(
                days.dt.timestamp("us").cast(pl.Float64) / 1e6,
                {"dates as YYYYMMDD": len(values)},
            )
    frame = numbers.to_frame("number")
    number = pl.col("number")
    seconds: pl.Expr = pl.lit(None, dtype=pl.Float64)
    counts, floor = [], 0.0
    for name, ceiling, scale in _UNITS:
        inside = (number >= floor) & (number < ceiling)
        seconds = pl.when(inside).then(number / scale).otherwise(seconds)
        counts.append(inside.sum().alias(name))
        floor = ceiling
    row = frame.select(counts).row(0, named=True)
    return Moments(frame.select(seconds.alias("seconds")).to_series(), _counted(row.items()))


def _from_texts(text: pl.Series) -> tuple[pl.Series, list[tuple[str, int]]]:
    """Seconds of texts that are no numbers, and how many came from which layout."""
    tidy = text.str.replace(r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})", "$1-$2-$3").str.replace(
        r"^(\S+)\s+(\d)", "${1}T$2"
    )
    seconds = pl.Series("seconds", [None] * len(text), dtype=pl.Float64)
    formats = []
    for name, layout in _LAYOUTS:
        open_rows = seconds.is_null().arg_true()
        parsed = tidy.gather(open_rows).str.to_datetime(layout, strict=False, time_unit="us")
        moments = parsed.dt.timestamp("us").cast(pl.Float64) / 1e6
        read = moments.is_not_null()
        if read.any():
            seconds = seconds.scatter(open_rows.filter(read), moments.filter(read))
            formats.append((name, int(read.sum())))
        if not seconds.null_count():
            break
    return seconds, formats


def _counted(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Sum counts by name, leave out zeros, largest first."""
    total: dict[str, int] = {}
    for name, count in pairs:
        if count:
            total[name] = total.get(name, 0) + int(count)
    return dict(sorted(total.items(), key=lambda pair: -pair[1]))
