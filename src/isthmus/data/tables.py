"""Files named by a configuration → frames with canonical column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.config import DomainConfig, PeopleConfig
from isthmus.data.cleaning import HIDDEN_TEXT, CleaningReport, Origin, require_columns
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.memory import free_bytes, least_need, share_that_fits
from isthmus.data.ordering import text_hash
from isthmus.data.readers import Table, open_table
from isthmus.errors import DataError

_PEOPLE = ("mapping", "users", "links", "groups", "triples", "impressions")


def read_domain(name: str, config: DomainConfig, report: CleaningReport) -> DomainFrames:
    """One domain's files, read as the configuration maps them.

    Raises:
        DataError: a file or column is missing or unreadable.
    """
    events = items = events_origin = items_origin = None
    vectors: Mapping[str, NDArray[np.float32]] = {}
    if config.interactions is not None:
        events, events_origin = _events(name, config.interactions, config, report)
    if config.items is not None:
        items, vectors, items_origin = _items(name, config.items, config, report)
    renamed = {source: new for new, source in items_origin.columns.items()} if items_origin else {}
    return DomainFrames(
        events=events,
        items=items,
        text=[renamed.get(column, column) for column in config.catalogue.text],
        vectors=vectors,
        corpus=[line for path in config.corpus for line in _lines(path)],
        keep_kinds=config.keep_kinds,
        events_origin=events_origin,
        items_origin=items_origin,
    )


def read_people(config: PeopleConfig, report: CleaningReport) -> PeopleFrames:
    """The tables about people and knowledge that the configuration names."""
    frames, origins = {}, {}
    for name in _PEOPLE:
        path = getattr(config, name)
        if path is not None:
            table = open_table(path)
            origins[name] = Origin(path.name)
            frames[name] = (
                _typed(table.read(), skip=("user_id", "person_id"))
                if (name == "users" and table.as_text)
                else table.read()
            )
            _say(table, origins[name], report)
    return PeopleFrames(linked=config.linked, origins=origins, **frames)


def _events(
    name: str, path: Path, config: DomainConfig, report: CleaningReport
) -> tuple[pl.DataFrame, Origin]:
    columns = config.events
    wanted = {"user_id": columns.user, "item_id": columns.item}
    for canonical in ("time", "order", "rating", "kind", "weight"):
        source = getattr(columns, canonical)
        if source is not None:
            wanted[canonical] = source
    origin = Origin(path.name, name, wanted, key=f"domains.{name}.events")
    table = open_table(path)
    require_columns(table.columns, wanted, origin)
    _say(table, origin, report)
    sources = list(dict.fromkeys(wanted.values()))
    require_columns(table.columns, {column: column for column in config.only}, origin)
    share = config.sample_users
    _must_fit(name, table, len(sources), config)
    keep = None if share == 1 else in_sample(columns.user, share)
    frame = table.read(sources, only=config.only, keep=keep)
    if share < 1:
        report.say(origin, sampled(frame.height, table.count(config.only), share))
    return frame.select(pl.col(source).alias(new) for new, source in wanted.items()), origin


def in_sample(user: str, share: float) -> pl.Expr:
    """Whether the person in column `user` belongs to a fixed share of all people.

    By a hash of the raw id as text, so that a person is in or out wherever the id occurs; an event
    without an id stays, for cleaning to complain of.
    """
    kept = np.uint64(min(int(share * 2.0**64), 2**64 - 1))

    def drawn(ids: pl.Series) -> pl.Series:
        distinct = ids.drop_nulls().unique()
        inside = distinct.filter(pl.Series(text_hash(distinct, "sample-users") < kept))
        nobody = ids.is_null() | (ids == "").fill_null(value=False)
        return nobody | ids.is_in(inside.implode()).fill_null(value=False)

    text = pl.col(user).cast(pl.String).str.strip_chars().str.replace(r"^(\d+)\.0$", "${1}")
    return text.map_batches(drawn, return_dtype=pl.Boolean, is_elementwise=True)


def sampled(read: int, total: int, share: float) -> str:
    """What a sample has left, as a sentence."""
    return (
        f"{read:,} of {total:,} events were read, those of {share:.3g} of the people (sample_users)"
    )


def _must_fit(name: str, table: Table, columns: int, config: DomainConfig) -> None:
    """DataError where the events kept cannot fit into memory, with a share that does."""
    free, rows = free_bytes(), table.least_rows
    share = config.sample_users
    if free is not None and config.only and least_need(rows, columns) * share > free:
        rows = table.count(config.only)
    need = least_need(rows, columns)
    if free is None or need * share <= free:
        return
    fits = share_that_fits(need, free)
    raise DataError(
        f"its {rows:,} events take at least {need * share / 2**30:.1f} GB of memory, "
        f"and {free / 2**30:.1f} GB are free",
        where=str(table.path),
        hint=f"Set domains.{name}.sample_users = {fits:g} to read a share of the people",
    )


def _items(
    name: str, path: Path, config: DomainConfig, report: CleaningReport
) -> tuple[pl.DataFrame, dict[str, NDArray[np.float32]], Origin]:
    columns = config.catalogue
    table = open_table(path)
    wanted = {"item_id": columns.item}
    for canonical in ("title", "category"):
        source = getattr(columns, canonical) or (canonical if canonical in table.columns else None)
        if source is not None:
            wanted[canonical] = source
    # A text column may be called as another one is to be called here; it is carried beside that.
    own = {f"{HIDDEN_TEXT}{c}": c for c in columns.text if c in wanted.keys() - wanted.values()}
    origin = Origin(path.name, name, wanted | own, key=f"domains.{name}.catalogue")
    require_columns(table.columns, wanted, origin)
    require_columns(table.columns, {c: c for c in columns.text}, origin)
    require_columns(table.columns, {c: c for c in columns.vectors.values()}, origin)
    _say(table, origin, report)
    frame = _chosen(name, table, config.only, origin, report)
    vectors = {
        key: _matrix(frame[source], origin, source) for key, source in columns.vectors.items()
    }
    used = {*wanted.values(), *columns.vectors.values(), *wanted}
    others = frame.select(c for c in frame.columns if c not in used)
    if table.as_text:
        others = _typed(others, skip=columns.text)
    mapped = frame.select(pl.col(source).alias(new) for new, source in (wanted | own).items())
    return pl.concat([mapped, others], how="horizontal"), vectors, origin


def _chosen(
    name: str,
    table: Table,
    only: Mapping[str, Sequence[str]],
    origin: Origin,
    report: CleaningReport,
) -> pl.DataFrame:
    """The catalogue's rows that `only` chooses; all where it chooses none or has no such column."""
    if not only:
        return table.read()
    columns = {c: v for c, v in only.items() if c in table.columns}
    frame = table.read(only=columns)
    named = ", ".join(map(repr, columns or only))
    if columns and frame.height:
        total = table.count()
        report.say(origin, f"{frame.height:,} of {total:,} rows were taken, by {named} (only)")
        return frame
    report.shared[name] = origin.file
    if columns:
        frame = table.read()
        why = f"no row has a value of only in {named}"
    else:
        why = f"no column {named} (only)"
    report.say(origin, f"{why}: all {frame.height:,} rows were taken")
    return frame


def _say(table: Table, origin: Origin, report: CleaningReport) -> None:
    for note in table.notes:
        report.say(origin, note)


def _typed(frame: pl.DataFrame, *, skip: tuple[str, ...] | list[str]) -> pl.DataFrame:
    """Attributes from a delimited file as numbers where every value is one; '007' stays text."""
    typed = []
    for column in frame.get_columns():
        values = column.drop_nulls()
        coded = values.str.contains(r"^\s*[+-]?0\d").any() if len(values) else True
        if column.name not in skip and not coded:
            for dtype in (pl.Int64, pl.Float64):
                numbers = column.str.strip_chars().cast(dtype, strict=False)
                if numbers.null_count() == column.null_count():
                    column = numbers
                    break
        typed.append(column)
    return pl.DataFrame(typed)


def _matrix(column: pl.Series, origin: Origin, source: str) -> NDArray[np.float32]:
    """A list column of floats as float32 [rows, dim]; NaN rows where it is null or empty."""
    where = f"{origin.file}, column {source!r}"
    try:
        if column.dtype == pl.String:
            column = column.str.json_decode(pl.List(pl.Float32))
        lists = column.cast(pl.List(pl.Float32))
    except pl.exceptions.PolarsError:
        raise DataError(
            f"vectors must be lists of numbers, found {column.dtype}",
            where=where,
            hint="Store one list of floats per row",
        ) from None
    lengths = lists.list.len().fill_null(0)
    dims = lengths.filter(lengths > 0).unique()
    if len(dims) != 1:
        found = ", ".join(map(str, dims.sort().to_list()[:5])) or "nothing"
        raise DataError(
            f"vectors must all be of one length, found {found}",
            where=where,
            hint="Leave the list out where an item has none",
        )
    out = np.full((len(lists), int(dims[0])), np.nan, np.float32)
    filled = (lengths > 0).to_numpy()
    flat = lists.filter(lengths > 0).explode().fill_null(float("nan")).to_numpy()
    out[filled] = flat.reshape(-1, int(dims[0]))
    return out


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot be read: {error}", where=str(path), hint="Give a text file in UTF-8"
        ) from None
