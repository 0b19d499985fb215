"""Tables about people and knowledge: ids as text, numbers as numbers, no row without an id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from isthmus.config import CleaningConfig
from isthmus.data.cleaning import (
    CleaningReport,
    Origin,
    RowFilter,
    as_written,
    one_row_per_id,
    require_columns,
    text_ids,
)
from isthmus.data.coding import person_ids
from isthmus.data.frames import PeopleFrames
from isthmus.data.timestamps import to_seconds

_IDS = {
    "users": ("user_id",),
    "links": ("user_id", "other_id"),
    "groups": ("user_id", "group_id"),
    "triples": ("head", "relation", "tail"),
    "impressions": ("user_id", "domain", "item_id"),
}
_SPELLINGS = dict.fromkeys(("true", "t", "yes", "y"), True) | dict.fromkeys(
    ("false", "f", "no", "n"), False
)


def clean_people(
    people: PeopleFrames,
    config: CleaningConfig,
    report: CleaningReport,
    known: pl.Series,
    domains: Sequence[str],
) -> PeopleFrames:
    """The same tables with canonical types and ids of people; `mapping` is left as it is.

    Args:
        people: the tables.
        config: what to do with bad rows.
        report: filled with what was dropped or changed.
        known: ids of the people with events, across domains.
        domains: their names.

    Raises:
        DataError: a column is missing, or rows cannot be used and the configuration says stop.
    """
    tables: dict[str, Any] = {}
    for name in _IDS:
        frame = getattr(people, name)
        if frame is not None:
            tables[name] = _clean_table(name, frame, people, config, report, known, domains)
        if frame is not None and name == "users":
            known = pl.concat([known, tables[name]["user_id"]]).unique()
    return replace(people, **tables)


def _clean_table(
    name: str,
    frame: pl.DataFrame,
    people: PeopleFrames,
    config: CleaningConfig,
    report: CleaningReport,
    known: pl.Series,
    domains: Sequence[str],
) -> pl.DataFrame:
    origin = people.origins.get(name, Origin(name))
    require_columns(frame.columns, {column: column for column in _IDS[name]}, origin)
    rows = RowFilter(frame, origin, config, report)
    columns = []
    for column in _IDS[name]:
        ids = text_ids(frame[column], origin, column, report)
        rows.reject(ids.is_null(), "no id", column, "Fill in the ids")
        columns.append(ids.alias(column))
    if name == "impressions" and "time" in frame.columns:
        seconds = to_seconds(frame["time"]).seconds
        rows.reject(seconds.is_null(), "a time that cannot be read", "time", "Write Unix seconds")
        columns.append(seconds.alias("time"))
    if name == "impressions" and "propensity" in frame.columns:
        propensity = as_written(frame["propensity"]).cast(pl.Float64, strict=False)
        bad = ~propensity.is_between(0, 1, closed="right").fill_null(value=False)
        rows.reject(bad, "a propensity outside (0, 1]", "propensity", "Correct them")
        columns.append(propensity.alias("propensity"))
    if name == "impressions" and "clicked" in frame.columns:
        columns.append(_clicked(rows).alias("clicked"))
    frame = frame.with_columns(columns)
    if people.mapping is not None or not people.linked:
        own = frame["domain"] if name == "impressions" else None
        for column in (c for c in _IDS[name] if c in ("user_id", "other_id")):
            ids = _across_domains(frame[column], own, people, known, domains)
            frame = frame.with_columns(ids.alias(column))
            nobody = ~ids.is_in(known.implode()) & rows.keep
            form = "domain:user_id" if people.mapping is None else "the mapping's person_id"
            reason = f"with a {column} that nobody with events has; ids here are {form}"
            report.add(origin, "noted", int(nobody.sum()), reason)
    if name != "users":
        return rows.apply(frame)
    numbered = rows.apply(frame.with_row_index("__row"))
    return one_row_per_id(numbered, "user_id", origin, config, report).drop("__row")


def _clicked(rows: RowFilter) -> pl.Series:
    """Yes or no, however it is written; null where nothing is."""
    written = rows.frame["clicked"].cast(pl.String).str.strip_chars().str.to_lowercase()
    clicked = written.replace_strict(_SPELLINGS, default=None, return_dtype=pl.Boolean)
    number = written.cast(pl.Float64, strict=False).fill_nan(None)
    clicked = pl.select(pl.coalesce(clicked, number > 0)).to_series()
    unread = clicked.is_null() & ~written.is_in(["", "nan"])
    hint = "Write 1 or 0, true or false, yes or no"
    rows.reject(unread, "a click that is neither yes nor no", "clicked", hint)
    return clicked


def _across_domains(
    ids: pl.Series,
    own: pl.Series | None,
    people: PeopleFrames,
    known: pl.Series,
    domains: Sequence[str],
) -> pl.Series:
    """Who each id is across domains.

    An id is read as its own domain has it. Where it names none, an id that somebody has stays, and
    so does one that means several people.

    Args:
        ids: text [n].
        own: the domain of each id [n]; None: they name none.
        people: who is who.
        known: ids across domains.
        domains: names of all domains.
    """
    asked = ids.drop_nulls().unique()
    found = pl.concat(
        person_ids(asked, name, people).with_columns(domain=pl.lit(name)) for name in domains
    )
    somebody = found["person_id"].is_in(known.implode())
    as_written = found["user_id"].is_in(known.implode())
    if own is None:
        found = found.filter(somebody & ~as_written).select("user_id", "person_id").unique()
        found = found.filter(~found["user_id"].is_duplicated())
        frame = pl.DataFrame({"user_id": ids})
    else:
        found = found.filter(somebody | ~as_written)
        frame = pl.DataFrame({"user_id": ids, "domain": own})
    joined = frame.join(found, on=frame.columns, how="left", maintain_order="left")
    return joined.select(pl.coalesce("person_id", "user_id")).to_series()
