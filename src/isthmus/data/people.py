"""Tables about people and knowledge: ids as text, numbers as numbers, no row without an id."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from isthmus.config import CleaningConfig
from isthmus.data.cleaning import (
    CleaningReport,
    Origin,
    RowFilter,
    one_row_per_id,
    require_columns,
    text_ids,
)
from isthmus.data.frames import PeopleFrames
from isthmus.data.timestamps import to_seconds

_IDS = {
    "users": ("user_id",),
    "links": ("user_id", "other_id"),
    "groups": ("user_id", "group_id"),
    "triples": ("head", "relation", "tail"),
    "impressions": ("user_id", "domain", "item_id"),
}


def clean_people(
    people: PeopleFrames, config: CleaningConfig, report: CleaningReport
) -> PeopleFrames:
    """The same tables with canonical types; `mapping` is left as it is.

    Raises:
        DataError: a column is missing, or rows cannot be used and the configuration says stop.
    """
    tables: dict[str, Any] = {
        name: _clean_table(name, frame, people, config, report)
        for name in _IDS
        if (frame := getattr(people, name)) is not None
    }
    return replace(people, **tables)


def _clean_table(
    name: str,
    frame: pl.DataFrame,
    people: PeopleFrames,
    config: CleaningConfig,
    report: CleaningReport,
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
        propensity = frame["propensity"].cast(pl.Float64, strict=False)
        bad = ~propensity.is_between(0, 1, closed="right").fill_null(value=False)
        rows.reject(bad, "a propensity outside (0, 1]", "propensity", "Correct them")
        columns.append(propensity.alias("propensity"))
    if name == "impressions" and "clicked" in frame.columns:
        clicked = frame["clicked"]
        if clicked.dtype == pl.String:
            clicked = clicked.str.to_lowercase().is_in(["1", "true", "yes"])
        columns.append(clicked.cast(pl.Boolean).alias("clicked"))
    frame = frame.with_columns(columns)
    if name != "users":
        return rows.apply(frame)
    numbered = rows.apply(frame.with_row_index("__row"))
    return one_row_per_id(numbered, "user_id", origin, config, report).drop("__row")
