"""Rows that cannot be used as they are: found, explained, and stopped at or dropped and counted.

`clean_events` and `clean_items` take frames with canonical column names and give frames with
canonical types. Whatever they drop or change goes into a `CleaningReport`. Row numbers in messages
count the rows of data from 1, without a header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from isthmus.config import CleaningConfig
from isthmus.data.texts import clean_texts
from isthmus.data.timestamps import calendar, to_seconds, tomorrow
from isthmus.errors import DataError, did_you_mean

Action = Literal["dropped", "changed", "noted"]
HIDDEN_TEXT = "__text_"
"""How columns begin that are part of `text` and nothing else."""


@dataclass(frozen=True)
class Origin:
    """Where a table came from, so that messages speak of the user's own files and columns.

    Attributes:
        file: file name, or what the table is called in memory.
        domain: the domain it belongs to, None for tables shared by all.
        columns: canonical name → the name in the file, where they differ.
        key: configuration section that maps the columns, such as `domains.food.events`.
    """

    file: str
    domain: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None

    def where(self, column: str) -> str:
        """`file, column 'name'`."""
        return f"{self.file}, column {self.columns.get(column, column)!r}"


@dataclass(frozen=True)
class Entry:
    """One line of the report: `rows` rows of a file were dropped, changed or noted, and why."""

    domain: str | None
    file: str
    action: Action
    rows: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.domain}: {self.file}" if self.domain else self.file
        if not self.rows:
            return f"{place}: {self.reason}"
        plural = "row" if self.rows == 1 else "rows"
        verb = "" if self.action == "noted" else f" {self.action}"
        return f"{place}: {self.rows:,} {plural}{verb}, {self.reason}"


@dataclass
class CleaningReport:
    """Everything that cleaning dropped, changed or found worth a line, in the order it happened.

    Attributes:
        entries: the lines.
        rows_read: events read per domain, before anything was dropped.
        rows_kept: events kept per domain.
        rating_scales: lowest and highest rating per domain that has ratings.
        duplicates: events per domain that repeat another in user, item and time.
        ahead: how many events are dated more than a day from now and the latest day as ISO date,
            per domain that has any.
        shared: per domain whose catalogue cannot be told apart by `only`, the catalogue's file.
    """

    entries: list[Entry] = field(default_factory=list)
    rows_read: dict[str, int] = field(default_factory=dict)
    rows_kept: dict[str, int] = field(default_factory=dict)
    rating_scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    ahead: dict[str, tuple[int, str]] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)

    def add(self, origin: Origin, action: Action, rows: int, reason: str) -> None:
        """Record one finding; none about no rows."""
        if rows:
            self.entries.append(Entry(origin.domain, origin.file, action, int(rows), reason))

    def say(self, origin: Origin, sentence: str) -> None:
        """Record a sentence about a whole file."""
        self.entries.append(Entry(origin.domain, origin.file, "noted", 0, sentence))

    def total(self, action: Action, domain: str | None = None) -> int:
        """Rows dropped, changed or noted, of one domain or of all tables."""
        return sum(
            e.rows for e in self.entries if e.action == action and domain in (None, e.domain)
        )

    def lines(self) -> list[str]:
        """One readable sentence per finding."""
        return [str(entry) for entry in self.entries]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "entries": [vars(entry) for entry in self.entries],
            "rows_read": self.rows_read,
            "rows_kept": self.rows_kept,
            "rating_scales": {name: list(scale) for name, scale in self.rating_scales.items()},
            "duplicates": self.duplicates,
            "ahead": {name: list(found) for name, found in self.ahead.items()},
            "shared": self.shared,
        }


class RowFilter:
    """Collects what is wrong with the rows of one table, then drops them all at once.

    A row is counted once, for the first reason found.
    """

    def __init__(
        self, frame: pl.DataFrame, origin: Origin, config: CleaningConfig, report: CleaningReport
    ) -> None:
        self.frame, self.origin, self.config, self.report = frame, origin, config, report
        self.keep = pl.repeat(value=True, n=frame.height, dtype=pl.Boolean, eager=True)

    def reject(self, bad: pl.Series, what: str, column: str, hint: str) -> None:
        """Rows that cannot be used: an error, or dropped and counted, as the config says."""
        bad = bad.fill_null(value=False) & self.keep
        count = int(bad.sum())
        if not count:
            return
        first = int(bad.arg_true()[0])
        if self.config.bad_rows == "stop":
            values = self.frame[column] if column in self.frame.columns else None
            shown = "" if values is None or values[first] is None else f", {values[first]!r}"
            raise DataError(
                f"{count:,} of {len(bad):,} rows have {what}, first in row {first + 1:,}{shown}",
                where=self.origin.where(column),
                hint=f"{hint}, or set cleaning.bad_rows = 'drop' to drop and count such rows",
            )
        self.drop(bad, f"{what} in column {self.origin.columns.get(column, column)!r}")

    def drop(self, unwanted: pl.Series, reason: str) -> None:
        """Rows that the configuration asks to leave out."""
        unwanted = unwanted.fill_null(value=False) & self.keep
        self.report.add(self.origin, "dropped", int(unwanted.sum()), reason)
        self.keep = self.keep & ~unwanted

    def apply(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of a frame of the same height that are still wanted."""
        return frame if bool(self.keep.all()) else frame.filter(self.keep)


def require_columns(present: Iterable[str], wanted: Mapping[str, str], origin: Origin) -> None:
    """DataError naming the first column of the user's that is not there, and the near ones.

    Args:
        present: columns of the file.
        wanted: canonical name → name in the file.
        origin: for the message.
    """
    present = list(present)
    for canonical, name in wanted.items():
        if name not in present:
            near = did_you_mean(name, present)
            key = f"{origin.key}.{canonical.removesuffix('_id')}" if origin.key else None
            todo = f"Set {key} to the right one" if key else "Rename the column in the file"
            raise DataError(
                f"no column {name!r}; the columns are {', '.join(map(repr, present))}",
                where=origin.file,
                hint=f"{near} {todo}" if near.startswith("Did") else todo,
            )


def text_ids(column: pl.Series, origin: Origin, name: str, report: CleaningReport) -> pl.Series:
    """Ids as text: integers without '.0', leading zeros kept, blanks null.

    A column of floating-point numbers, or of texts that all end in '.0', is what spreadsheets and
    data frames make of integers beside a missing value; it is read as the integers.
    """
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        exact = bool((whole.cast(column.dtype) == column).fill_null(value=True).all())
        ids = (whole if exact else column).cast(pl.String)
        report.add(origin, "noted", len(ids), f"numbers in {name!r} read as text ids")
        return ids
    if isinstance(column.dtype, pl.List | pl.Struct | pl.Array):
        raise DataError(
            f"ids must be numbers or texts, found {column.dtype}",
            where=origin.where(name),
            hint="One row per event: split lists into rows first",
        )
    if column.dtype != pl.String:
        return column.cast(pl.String)
    ids = column.str.strip_chars()
    if ids.head(1000).drop_nulls().str.ends_with(".0").all() and ids.null_count() < len(ids):
        floats = ids.str.contains(r"^\d+\.0$")
        if bool(floats.all()):
            ids = ids.str.strip_suffix(".0")
            report.add(origin, "changed", int(floats.sum()), f"'.0' taken off ids in {name!r}")
    return ids.set(ids == "", None) if bool((ids == "").any()) else ids


def clean_events(
    frame: pl.DataFrame,
    origin: Origin,
    config: CleaningConfig,
    report: CleaningReport,
    *,
    keep_kinds: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Events with ids as text, times as Unix seconds and ratings, weights and orders as numbers.

    Args:
        frame: columns `user_id`, `item_id` and optionally `time`, `order`, `rating`, `kind`,
            `weight`, of any type.
        origin: for messages.
        config: what to do with bad rows.
        report: filled with what was dropped or changed.
        keep_kinds: event types to keep, None for all.

    Raises:
        DataError: bad rows where the configuration says stop.
    """
    require_columns(frame.columns, {"user_id": "user_id", "item_id": "item_id"}, origin)
    rows = RowFilter(frame, origin, config, report)
    columns = {}
    for name in ("user_id", "item_id"):
        columns[name] = text_ids(frame[name], origin, name, report)
        rows.reject(columns[name].is_null(), "no id", name, "Fill in the ids")
    if "time" in frame.columns:
        columns["time"] = _times(rows)
    if "order" in frame.columns:
        order = as_written(frame["order"]).cast(pl.Float64, strict=False).fill_nan(None)
        rows.reject(order.is_null(), "no number for the order", "order", "Fill in the order")
        columns["order"] = order
    if "rating" in frame.columns:
        columns["rating"] = _ratings(rows)
    if "weight" in frame.columns:
        given = as_written(frame["weight"])
        weight = given.cast(pl.Float64, strict=False)
        bad = (given.is_not_null() & weight.is_null()) | ~weight.is_finite() | (weight < 0)
        rows.reject(bad, "a weight that is no number from 0 up", "weight", "Correct the weights")
        columns["weight"] = weight.fill_null(1.0).cast(pl.Float32)
    if "kind" in frame.columns:
        columns["kind"] = frame["kind"].cast(pl.String).fill_null("event")
        if keep_kinds is not None:
            unwanted = ~columns["kind"].is_in(list(keep_kinds))
            rows.drop(unwanted, f"of other kinds than {', '.join(keep_kinds)}")
    clean = rows.apply(pl.DataFrame(columns))
    if origin.domain and "rating" in columns:
        low, high = clean["rating"].min(), clean["rating"].max()
        if isinstance(low, float) and isinstance(high, float):
            report.rating_scales[origin.domain] = config.rating_scale or (low, high)
    if "time" in columns:
        _say_ahead(clean["time"], origin, report)
    return clean


def as_written(values: pl.Series) -> pl.Series:
    """Values to be read as numbers: texts and categories without blanks around; null if blank."""
    if values.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return values
    text = values.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def _say_ahead(seconds: pl.Series, origin: Origin, report: CleaningReport) -> None:
    """Note events that cannot have happened yet; they are kept."""
    ahead = seconds.filter(seconds > tomorrow())
    if not len(ahead):
        return
    latest = calendar(float(ahead.to_numpy().max())).date().isoformat()
    report.add(origin, "noted", len(ahead), f"dated more than a day from now, latest {latest}")
    if origin.domain:
        report.ahead[origin.domain] = (len(ahead), latest)


def _times(rows: RowFilter) -> pl.Series:
    moments = to_seconds(rows.frame["time"])
    rows.reject(
        moments.seconds.is_null(),
        "a time that cannot be read",
        "time",
        "Write Unix seconds, milliseconds or ISO dates such as 2024-05-31T12:00:00",
    )
    column = rows.origin.columns.get("time", "time")
    if len(moments.formats) > 1:
        mix = ", ".join(f"{count:,} as {name}" for name, count in moments.formats.items())
        reason = f"times of mixed form in {column!r} converted to Unix seconds: {mix}"
        rows.report.add(rows.origin, "changed", sum(moments.formats.values()), reason)
    elif moments.formats and "Unix seconds" not in moments.formats:
        (name, count), *_ = moments.formats.items()
        reason = f"times in {column!r} converted from {name} to Unix seconds"
        rows.report.add(rows.origin, "changed", count, reason)
    return moments.seconds


def _ratings(rows: RowFilter) -> pl.Series:
    """Ratings as float32; a missing one is null, since events without ratings are usual."""
    given = as_written(rows.frame["rating"])
    rating = given.cast(pl.Float32, strict=False)
    hint = "Correct the ratings"
    rows.reject(
        given.is_not_null() & rating.is_null(), "a rating that is no number", "rating", hint
    )
    rows.reject(rating.is_nan() | rating.is_infinite(), "a rating of NaN", "rating", hint)
    if rows.config.rating_scale is None:
        hint = "Correct them, or set cleaning.rating_scale if they are meant"
        rows.reject(rating < 0, "a negative rating", "rating", hint)
    else:
        low, high = rows.config.rating_scale
        outside = (rating < low) | (rating > high)
        rows.reject(outside, f"a rating outside {low:g} to {high:g}", "rating", hint)
    if rows.config.min_rating is not None:
        least = rows.config.min_rating
        rows.drop(rating < least, f"rated below {least:g} (cleaning.min_rating)")
    missing = rating.is_null() & rows.keep
    rows.report.add(rows.origin, "noted", int(missing.sum()), "without a rating, kept as events")
    return rating


def clean_items(
    frame: pl.DataFrame,
    origin: Origin,
    config: CleaningConfig,
    report: CleaningReport,
    *,
    text_columns: Sequence[str] = (),
) -> pl.DataFrame:
    """A catalogue with one row per item: columns `item_id`, `text`, `title`, `category`, others.

    The last column, `__row`, is the row's place in `frame`.

    Args:
        frame: column `item_id` and any others.
        origin: for messages.
        config: what to do with bad rows and with rows of one id that disagree.
        report: filled with what was dropped or changed.
        text_columns: what `text` joins by ' | '; empty: the column `text` where there is one, else
            title and category. Missing parts are left out; where all are missing, text is null.

    Raises:
        DataError: rows without id, or rows of one id that disagree, where the config says stop.
    """
    require_columns(frame.columns, {"item_id": "item_id"}, origin)
    require_columns(frame.columns, {name: name for name in text_columns}, origin)
    rows = RowFilter(frame, origin, config, report)
    ids = text_ids(frame["item_id"], origin, "item_id", report)
    rows.reject(ids.is_null(), "no id", "item_id", "Fill in the ids")
    parts = list(text_columns) or (
        ["text"] if "text" in frame.columns else [c for c in ("title", "category") if c in frame]
    )
    for name in dict.fromkeys([*parts, *(c for c in ("title", "category") if c in frame.columns)]):
        cleaned = clean_texts(frame[name], config.max_text_chars)
        source = origin.columns.get(name, name)
        report.add(origin, "changed", cleaned.markup, f"markup taken out of {source!r}")
        long = f"{source!r} cut to {config.max_text_chars:,} characters (cleaning.max_text_chars)"
        report.add(origin, "changed", cleaned.cut, long)
        frame = frame.with_columns(cleaned.values.alias(name))
    text = pl.concat_str(parts, separator=" | ", ignore_nulls=True) if parts else pl.lit("")
    nothing = pl.lit(None, dtype=pl.String)
    frame = frame.with_columns(
        ids.alias("item_id"),
        pl.when(text == "").then(nothing).otherwise(text).alias("text"),
        *(nothing.alias(name) for name in ("title", "category") if name not in frame.columns),
    )
    first = ["item_id", "text", "title", "category"]
    frame = frame.select(*first, pl.exclude(*first, f"^{HIDDEN_TEXT}.*$")).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("__row")
    )
    return one_row_per_id(rows.apply(frame), "item_id", origin, config, report)


def one_row_per_id(
    frame: pl.DataFrame,
    column: str,
    origin: Origin,
    config: CleaningConfig,
    report: CleaningReport,
) -> pl.DataFrame:
    """Collapse equal rows; where rows of one id disagree, stop or keep one, as the config says."""
    n_ids = frame[column].n_unique()
    if n_ids == frame.height:
        return frame
    visible = [c for c in frame.columns if not c.startswith("__")]
    distinct = frame.unique(visible, keep="first", maintain_order=True)
    report.add(origin, "dropped", frame.height - distinct.height, f"same {column} and content")
    conflicts = distinct.height - n_ids
    if not conflicts:
        return distinct
    if config.item_conflicts == "stop":
        repeated = distinct.filter(distinct[column].is_duplicated())
        example = repeated[column][0]
        rows = repeated.filter(repeated[column] == example)["__row"]
        raise DataError(
            f"{conflicts:,} rows repeat an id with different content, for example {example!r} "
            f"in rows {rows[0] + 1:,} and {rows[1] + 1:,}",
            where=origin.where(column),
            hint="Keep one row per id, or set cleaning.item_conflicts = 'first' or 'last'",
        )
    kept = config.item_conflicts
    report.add(origin, "dropped", conflicts, f"same {column}, other content; the {kept} kept")
    return distinct.unique([column], keep=kept, maintain_order=True)
