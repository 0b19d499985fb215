"""What a run leaves behind: one typed `RunRecord`, and the folder it is written to.

    config.toml      the resolved configuration; runs again as it is
    metrics.parquet  every figure in long form, see `evaluation.result.RECORD_SCHEMA`
    metrics.json     the headline figures, for programs
    run.json         everything else a report shows, with the checksum of metrics.parquet

Each file is written aside, flushed and renamed; `run.json` comes last and vouches for the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import tomlkit
from pydantic import ValidationError

from isthmus.errors import CheckpointError
from isthmus.experiment.schema import RunRecord

SCHEMA = 1


def write_run(folder: Path, record: RunRecord) -> None:
    """Write a run's files; a reader sees each whole or not at all.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    table = BytesIO()
    record.metrics.write_parquet(table, compression="zstd")
    run = {
        "schema": SCHEMA,
        "metrics_sha256": hashlib.sha256(table.getvalue()).hexdigest(),
        **record.model_dump(mode="json"),
    }
    write_whole(folder / "config.toml", tomlkit.dumps(record.config).encode())
    write_whole(folder / "metrics.json", _json(summary(record)))
    write_whole(folder / "metrics.parquet", table.getvalue())
    write_whole(folder / "run.json", _json(run))


def read_run(folder: Path) -> RunRecord:
    """Read what `write_run` wrote.

    Raises:
        CheckpointError: no run there, a damaged or mixed folder, or a newer version's.
    """
    again = "Repeat the run, or restore the folder from a copy"
    try:
        run = json.loads((folder / "run.json").read_bytes())
        table = (folder / "metrics.parquet").read_bytes()
        config = tomllib.loads((folder / "config.toml").read_text("utf-8"))
        schema, checksum = run.pop("schema"), run.pop("metrics_sha256")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no run here: {Path(error.filename).name} is missing", where=str(folder), hint=again
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"cannot be read: {error.strerror}", where=str(error.filename), hint=again
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"damaged: {error}", where=str(folder), hint=again) from None
    if schema != SCHEMA:
        raise CheckpointError(
            f"written with record schema {schema}, this version reads {SCHEMA}",
            where=str(folder),
            hint="Read it with the version of Isthmus that wrote it",
        )
    if hashlib.sha256(table).hexdigest() != checksum:
        raise CheckpointError(
            "metrics.parquet is not the one that run.json was written with",
            where=str(folder),
            hint=again,
        )
    try:
        return RunRecord(**run, metrics=pl.read_parquet(BytesIO(table)), config=config)
    except (ValidationError, TypeError) as error:
        raise CheckpointError(f"damaged: {error}", where=str(folder), hint=again) from None


def summary(record: RunRecord) -> dict[str, Any]:
    """The content of `metrics.json`: headline figures of everybody, differences, cost, curve."""
    systems: dict[str, dict[str, dict[str, Any]]] = {}
    differences: list[dict[str, Any]] = []
    for row in record.headline().iter_rows(named=True):
        figure = {"value": row["value"], "ci95": [row["ci_low"], row["ci_high"]]}
        if row["against"] is not None:
            named = ("system", "against", "target", "slice", "metric", "n", "p_holm")
            uplift = {
                "relative": row["relative"],
                "relative_ci95": [row["rel_low"], row["rel_high"]],
            }
            differences.append({key: row[key] for key in named} | figure | uplift)
        elif row["slice"] == "all":
            domain = systems.setdefault(row["system"], {}).setdefault(row["target"], {})
            domain[row["metric"]] = figure
    cost = {"seconds": record.cost.seconds, "peak_rss_mb": record.cost.peak_rss_mb}
    found = {"systems": systems, "differences": differences, "cost": cost}
    if record.points:
        found["curve"] = [point.model_dump(mode="json") for point in record.points]
    return found


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, flush it to disk and rename it into place.

    Raises:
        CheckpointError: the folder cannot be written or the disk is full.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise CheckpointError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            hint="Free some space, or choose another folder",
        ) from None


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False).encode()
