"""A `Dataset` as files in a folder: Parquet for tables, safetensors for arrays, JSON for the rest.

Files: `dataset.json` (names, kinds, notes, schema version), `events.safetensors`, `users.parquet`,
per domain `items-0.parquet`, `vectors-0.safetensors`, `corpus-0.parquet`, and one Parquet file per
optional table. Large arrays are memory-mapped when read, so that a snapshot that does not fit in
memory still opens at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save_file

from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.errors import CheckpointError

SCHEMA = 1
MAP_FROM_BYTES = 64 * 2**20

_TABLES = ("user_attributes", "links", "groups", "triples", "impressions")
_EVENTS = ("offsets", "domain", "item", "time", "kind", "rating", "weight")
_DTYPES = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "F64": "<f8", "F32": "<f4", "F16": "<f2"}


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Write a snapshot into a folder, which is made where it is not there.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(dataset, folder)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CheckpointError(
            f"cannot be written: {error}",
            where=str(folder),
            hint="Check that the disk has room and that you may write there",
        ) from None


def load_dataset(folder: Path, *, map_from_bytes: int = MAP_FROM_BYTES) -> Dataset:
    """Read a snapshot.

    Args:
        folder: what `save_dataset` wrote.
        map_from_bytes: arrays' files from this size on are memory-mapped, read only.

    Raises:
        CheckpointError: not such a folder, a file of it is missing or damaged, or a newer schema.
    """
    folder = Path(folder)
    try:
        meta = json.loads((folder / "dataset.json").read_text("utf-8"))
        if meta["schema"] > SCHEMA:
            raise CheckpointError(
                f"written with schema {meta['schema']}, and this version reads up to {SCHEMA}",
                where=str(folder),
                hint="Update isthmus",
            )
        return _read(folder, meta, map_from_bytes)
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise CheckpointError(
            f"no readable dataset: {type(error).__name__}: {error}",
            where=str(folder),
            hint="The folder is damaged or was not written by isthmus; build it again",
        ) from None


def _write(dataset: Dataset, folder: Path) -> None:
    meta: dict[str, Any] = {
        "schema": SCHEMA,
        "kinds": list(dataset.kinds),
        "notes": list(dataset.notes),
        "tables": [name for name in _TABLES if getattr(dataset, name) is not None],
        "domains": [
            {"name": d.name, "vectors": bool(d.vectors), "corpus": bool(d.corpus)}
            for d in dataset.domains
        ],
    }
    dataset.user_ids.alias("user_id").to_frame().write_parquet(folder / "users.parquet")
    arrays = {name: np.ascontiguousarray(getattr(dataset.events, name)) for name in _EVENTS}
    save_file(arrays, folder / "events.safetensors")
    for i, domain in enumerate(dataset.domains):
        domain.items.write_parquet(folder / f"items-{i}.parquet")
        if domain.vectors:
            vectors = {key: np.ascontiguousarray(m) for key, m in domain.vectors.items()}
            save_file(vectors, folder / f"vectors-{i}.safetensors")
        if domain.corpus:
            corpus = pl.DataFrame({"text": domain.corpus}, schema={"text": pl.String})
            corpus.write_parquet(folder / f"corpus-{i}.parquet")
    for name in meta["tables"]:
        getattr(dataset, name).write_parquet(folder / f"{name}.parquet")
    (folder / "dataset.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1), "utf-8")


def _read(folder: Path, meta: Mapping[str, Any], map_from_bytes: int) -> Dataset:
    def table(name: str) -> pl.DataFrame:
        return pl.read_parquet(folder / f"{name}.parquet")

    def arrays(name: str) -> dict[str, NDArray[Any]]:
        return read_arrays(folder / f"{name}.safetensors", map_from_bytes=map_from_bytes)

    return Dataset(
        domains=tuple(
            Domain(
                name=d["name"],
                items=table(f"items-{i}"),
                vectors=arrays(f"vectors-{i}") if d["vectors"] else {},
                corpus=tuple(table(f"corpus-{i}")["text"]) if d["corpus"] else (),
            )
            for i, d in enumerate(meta["domains"])
        ),
        user_ids=table("users")["user_id"],
        events=Events(**arrays("events")),
        kinds=tuple(meta["kinds"]),
        notes=tuple(meta["notes"]),
        **{name: table(name) for name in meta["tables"]},
    )


def read_arrays(path: Path, *, map_from_bytes: int = MAP_FROM_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file; views of one read-only memory map where it is large.

    The format is eight bytes of header length, a JSON header, then the data
    (https://huggingface.co/docs/safetensors).

    Raises:
        ValueError: the file is cut off or not of that format.
    """
    size = path.stat().st_size
    data: NDArray[np.uint8]
    if size >= map_from_bytes:
        data = np.memmap(path, np.uint8, mode="r")
    else:
        data = np.fromfile(path, np.uint8)
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    if size < 8 or start > size:
        raise ValueError(f"{path.name} is cut off or no safetensors file")
    header = json.loads(data[8:start].tobytes())
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        if end > size:
            raise ValueError(f"{path.name} is cut off")
        arrays[name] = data[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays
