"""Top-k for everybody to one Parquet file, chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from isthmus.errors import DataError
from isthmus.training.progress import progress

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        ("basis", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def write_lists(
    path: Path,
    chunks: Iterable[pl.DataFrame],
    n_chunks: int,
    *,
    schema: pa.Schema = SCHEMA,
    metadata: Mapping[bytes, bytes] | None = None,
) -> int:
    """Write frames of `Recommender.recommend`'s columns; memory holds one of them at a time.

    The file appears whole or not at all: it is written aside, flushed to disk and renamed.

    Args:
        path: the Parquet file; its folder is made where it is missing.
        chunks: one frame per chunk of users.
        n_chunks: how many there will be, for the progress bar.
        schema: of the file; the frames' `request` is its first column, the others bear its names.
        metadata: key to value, of the file as a whole.

    Returns:
        Rows written.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    rows = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with progress("Exporting", n_chunks) as advance:
            written = schema.with_metadata(metadata) if metadata else schema
            with pq.ParquetWriter(aside, written, compression="zstd") as writer:
                for chunk in chunks:
                    columns = [chunk["request"], *(chunk[name] for name in schema.names[1:])]
                    arrays = [
                        column.to_arrow().cast(field.type)
                        for column, field in zip(columns, schema, strict=True)
                    ]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=written))
                    rows += len(chunk)
                    advance(f"{rows:,} rows")
            with aside.open("rb+") as handle:
                os.fsync(handle.fileno())
        aside.replace(path)
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            hint="Check that the disk has room and that you may write there",
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink()
    return rows
