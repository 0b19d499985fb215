"""One domain's cleaned tables → whole numbers: the raw ids end here.

People and items are numbered in the order of their raw ids, so that no number depends on the place
of a row in a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.config import CleaningConfig
from isthmus.data.cleaning import (
    CleaningReport,
    Origin,
    clean_events,
    clean_items,
    require_columns,
    text_ids,
)
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.texts import clean_texts
from isthmus.errors import DataError

Array = NDArray[np.generic]


@dataclass(frozen=True)
class CodedDomain:
    """A domain in numbers.

    Attributes:
        name: the domain's name.
        people: ids of its people, sorted.
        user: int32 [n] row in `people` of each event.
        item: int32 [n] row in `items` of each event.
        columns: further columns of the events by canonical name, each [n]; `kind` is an index into
            `kinds`.
        kinds: names of the event types, sorted.
        items: the catalogue, sorted by `item_id`.
        vectors: modalities, float32 [n_items, dim].
        corpus: free texts.
    """

    name: str
    people: pl.Series
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    columns: Mapping[str, Array]
    kinds: tuple[str, ...]
    items: pl.DataFrame
    vectors: Mapping[str, NDArray[np.float32]]
    corpus: tuple[str, ...]

    @property
    def active(self) -> pl.Series:
        """Ids of people with events, sorted."""
        return self.people.gather(np.flatnonzero(np.bincount(self.user)))

    def keep_events(self, mask: NDArray[np.bool_]) -> CodedDomain:
        """The events where `mask` [n] is true."""
        return replace(
            self,
            user=self.user[mask],
            item=self.item[mask],
            columns={name: column[mask] for name, column in self.columns.items()},
        )

    def take_items(self, rows: NDArray[np.int64]) -> CodedDomain:
        """The catalogue's rows in the given order; events of other items must be gone already."""
        number = np.full(self.items.height, -1, np.int32)
        number[rows] = np.arange(len(rows), dtype=np.int32)
        return replace(
            self,
            item=number[self.item],
            items=self.items[rows],
            vectors={name: matrix[rows] for name, matrix in self.vectors.items()},
        )


def code_domain(
    name: str,
    frames: DomainFrames,
    people: PeopleFrames,
    config: CleaningConfig,
    report: CleaningReport,
) -> CodedDomain:
    """Clean one domain's tables and number its people and items.

    Raises:
        DataError: a column is missing, rows cannot be used and the configuration says stop, or no
            event's item is in the catalogue.
    """
    events_origin = frames.events_origin or Origin("events", name)
    items_origin = frames.items_origin or Origin("items", name)
    if frames.events is None and frames.items is None:
        raise DataError(
            "neither interactions nor items",
            where=f"domains.{name}",
            hint="Name at least one file, or take the domain out",
        )
    raw = frames.events
    if raw is None:
        raw = pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
    else:
        _say_mixed_ids(raw, frames.items, events_origin, items_origin, report)
    report.rows_read[name] = raw.height
    events = clean_events(raw, events_origin, config, report, keep_kinds=frames.keep_kinds)
    known = None
    if frames.items is not None:
        known = clean_items(
            frames.items, items_origin, config, report, text_columns=list(frames.text)
        )
    items, events = _catalogue(known, events, events_origin, items_origin, config, report)
    ids = person_ids(events["user_id"], name, people)
    persons = ids["person_id"].unique().sort()
    lookup = ids.with_columns(_codes(ids["person_id"], persons).alias("code"))
    user = events.select("user_id").join(lookup, on="user_id", how="left", maintain_order="left")
    numbers = ("time", "order", "rating", "weight")
    coded: dict[str, pl.Series] = {c: events[c] for c in numbers if c in events.columns}
    kinds: tuple[str, ...] = ("event",)
    if "kind" in events.columns:
        names = events["kind"].unique().sort()
        kinds = tuple(names) or kinds
        coded["kind"] = _codes(events["kind"], names).cast(pl.Int16)
    item = _codes(events["item_id"], items["item_id"])
    rows = items["__row"].fill_null(-1).to_numpy()
    domain = CodedDomain(
        name=name,
        people=persons,
        user=user["code"].to_numpy(),
        item=item.to_numpy(),
        columns={column: _floats(values) for column, values in coded.items()},
        kinds=kinds,
        items=items.drop("__row"),
        vectors={key: _aligned(m, rows, frames, key) for key, m in frames.vectors.items()},
        corpus=_corpus(frames.corpus, config),
    )
    return _without_repeats(domain, events_origin, config, report)


def _corpus(texts: Sequence[str], config: CleaningConfig) -> tuple[str, ...]:
    column = pl.Series(list(texts), dtype=pl.String)
    return tuple(clean_texts(column, config.max_text_chars).values.drop_nulls())


def _codes(values: pl.Series, vocabulary: pl.Series) -> pl.Series:
    """Row in the vocabulary of each value, int32, null where it is not there."""
    known = pl.DataFrame({"value": vocabulary, "code": np.arange(len(vocabulary), dtype=np.int32)})
    return values.to_frame("value").join(known, on="value", how="left", maintain_order="left")[
        "code"
    ]


def _floats(values: pl.Series) -> Array:
    """Numpy values; a null becomes NaN."""
    return (
        values.fill_null(float("nan")).to_numpy()
        if values.dtype.is_float()
        else (values.to_numpy())
    )


def _say_mixed_ids(
    events: pl.DataFrame,
    items: pl.DataFrame | None,
    events_origin: Origin,
    items_origin: Origin,
    report: CleaningReport,
) -> None:
    if items is None or "item_id" not in events.columns or "item_id" not in items.columns:
        return
    if events["item_id"].dtype.is_numeric() != items["item_id"].dtype.is_numeric():
        numeric = events_origin if events["item_id"].dtype.is_numeric() else items_origin
        other = items_origin if numeric is events_origin else events_origin
        reason = f"item ids are numbers here and texts in {other.file}; compared as texts"
        rows = events.height if numeric is events_origin else items.height
        report.add(numeric, "changed", rows, reason)


def _catalogue(
    known: pl.DataFrame | None,
    events: pl.DataFrame,
    events_origin: Origin,
    items_origin: Origin,
    config: CleaningConfig,
    report: CleaningReport,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The catalogue sorted by id with the column `__row`, and the events on its items."""
    seen = events["item_id"].unique().to_frame()
    if known is None:
        empty = {"text": pl.String, "title": pl.String, "category": pl.String, "__row": pl.Int64}
        items = seen.with_columns(pl.lit(None, dtype=t).alias(c) for c, t in empty.items())
        return items.sort("item_id"), events
    unknown = seen.join(known.select("item_id"), on="item_id", how="anti")
    if len(seen) and known.height and unknown.height == seen.height:
        raise DataError(
            f"no item of the events is in the catalogue; items there are like "
            f"{known['item_id'][0]!r}, in the events like {seen['item_id'].min()!r}",
            where=f"{events_origin.where('item_id')}, and {items_origin.where('item_id')}",
            hint="Map the right id columns; ids that lost their leading zeros must get them back",
        )
    if unknown.height:
        on_unknown = events["item_id"].is_in(unknown["item_id"].implode())
        count = int(on_unknown.sum())
        reason = f"on {unknown.height:,} items that {items_origin.file} does not have"
        if config.unknown_items == "drop":
            report.add(events_origin, "dropped", count, reason)
            events = events.filter(~on_unknown)
        else:
            report.add(events_origin, "noted", count, f"{reason}; kept by id only")
            known = pl.concat([known, unknown], how="diagonal")
    return known.sort("item_id"), events


def person_ids(user_ids: pl.Series, domain: str, people: PeopleFrames) -> pl.DataFrame:
    """Columns `user_id` (distinct) and `person_id`: who that is across domains.

    Raises:
        DataError: the mapping lacks a column, or gives one user several people.
    """
    ids = user_ids.unique().to_frame("user_id")
    own = pl.col("user_id") if people.linked else pl.lit(f"{domain}:") + pl.col("user_id")
    if people.mapping is None:
        return ids.with_columns(own.alias("person_id"))
    origin = people.origins.get("mapping", Origin("mapping"))
    wanted = ("domain", "user_id", "person_id")
    require_columns(people.mapping.columns, {c: c for c in wanted}, origin)
    ignored = CleaningReport()
    mapping = people.mapping.select(
        text_ids(people.mapping[column], origin, column, ignored).alias(column) for column in wanted
    )
    mapping = mapping.filter(pl.col("domain") == domain).select("user_id", "person_id").unique()
    twice = mapping.filter(mapping["user_id"].is_duplicated())
    if twice.height:
        raise DataError(
            f"user {twice['user_id'].min()!r} of {domain!r} is mapped to several people",
            where=origin.file,
            hint="Keep one row per domain and user",
        )
    joined = ids.join(mapping, on="user_id", how="left")
    return joined.with_columns(pl.coalesce("person_id", own).alias("person_id"))


def _aligned(
    matrix: NDArray[np.float32], rows: NDArray[np.int64], frames: DomainFrames, key: str
) -> NDArray[np.float32]:
    """Vectors in catalogue order; NaN rows for items that the items table does not have."""
    height = 0 if frames.items is None else frames.items.height
    if matrix.ndim != 2 or len(matrix) != height:
        raise DataError(
            f"vectors {key!r} have shape {matrix.shape} for {height:,} items",
            hint="Give one row per row of the items table",
        )
    out = np.full((len(rows), matrix.shape[1]), np.nan, np.float32)
    out[rows >= 0] = matrix[rows[rows >= 0]]
    return out


def _without_repeats(
    domain: CodedDomain, origin: Origin, config: CleaningConfig, report: CleaningReport
) -> CodedDomain:
    """Count events equal in person, item and moment, and keep one of them where asked to."""
    moment = domain.columns.get("time", domain.columns.get("order"))
    pair = domain.user.astype(np.int64) * max(domain.items.height, 1) + domain.item
    key = pl.DataFrame({"pair": pair} | ({} if moment is None else {"moment": moment}))
    # Few pairs occur twice, so that the moments of few rows need comparing.
    rows = key["pair"].is_duplicated().arg_true()
    whole = pl.struct(pl.all())
    distinct = (
        whole.is_last_distinct() if config.duplicates == "last" else whole.is_first_distinct()
    )
    repeated = rows.filter(~key[rows].select(distinct).to_series())
    repeats = len(repeated)
    report.duplicates[domain.name] = repeats
    what = "the same person, item and moment as another"
    if config.duplicates == "keep":
        report.add(origin, "noted", repeats, what)
        return domain
    report.add(origin, "dropped", repeats, f"{what}; the {config.duplicates} kept")
    keep = np.ones(len(pair), bool)
    keep[repeated.to_numpy()] = False
    return domain.keep_events(keep) if repeats else domain
