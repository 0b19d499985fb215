"""A world as files: what a user of the library would have on disk, and the configuration for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import polars as pl
import tomlkit

from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.errors import DataError


def write_tables(
    folder: Path,
    names: Sequence[str],
    domains: Mapping[str, DomainFrames],
    people: PeopleFrames,
    kind: Literal["parquet", "csv"],
) -> Path:
    """Write every table of a world into a folder; gives the path of its `isthmus.toml`.

    The last domain named is the target.

    Raises:
        DataError: the folder cannot be written.
    """
    config: dict[str, object] = {"name": "world", "target": names[-1]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sections = {}
        for name in names:
            tables = {"interactions": domains[name].events, "items": domains[name].items}
            sections[name] = {
                role: _write(folder, f"{name}-{role}", table, kind)
                for role, table in tables.items()
                if table is not None
            } | {
                "events": {"time": "time", "rating": "rating"},
                "catalogue": {"title": "title", "category": "category"},
            }
        config["domains"] = sections
        config["people"] = {
            role: _write(folder, role, table, kind)
            for role in ("users", "links", "groups", "triples", "impressions")
            for table in [getattr(people, role)]
        }
        path = folder / "isthmus.toml"
        path.write_text(tomlkit.dumps(config), "utf-8")
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror or error}",
            where=str(folder),
            hint="Choose a folder that you may write to, with room on the disk",
        ) from None
    return path


def _write(folder: Path, name: str, table: pl.DataFrame, kind: Literal["parquet", "csv"]) -> str:
    """Write one table; gives its file name."""
    if kind == "parquet":
        table.write_parquet(folder / f"{name}.parquet")
    else:
        table.write_csv(folder / f"{name}.csv")
    return f"{name}.{kind}"
