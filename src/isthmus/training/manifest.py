"""What seals a folder: a manifest with the size and checksum of every file in it.

`manifest.json` holds format, schema, kind, moment of writing, library versions and the files. Its
own checksum is the seal, which whoever names the folder keeps (`versions.py`).
"""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from isthmus.errors import CheckpointError
from isthmus.training.versions import MANIFEST, flush

SCHEMA = 1
_FORMAT = "isthmus"
_LIBRARIES = ("isthmus", "numpy", "polars", "safetensors", "torch", "transformers")


def seal(folder: Path, kind: str) -> str:
    """Write a folder's manifest and flush everything in it to disk.

    Args:
        folder: complete but for the manifest.
        kind: what it holds.

    Returns:
        The manifest's checksum.
    """
    inside = sorted(folder.rglob("*"))
    files = {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": checksum(file),
        }
        for file in inside
        if file.is_file()
    }
    manifest = folder / MANIFEST
    manifest.write_text(
        json.dumps(
            {
                "format": _FORMAT,
                "schema": SCHEMA,
                "kind": kind,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
                "libraries": _libraries(),
                "files": files,
            },
            indent=1,
        ),
        "utf-8",
    )
    for entry in [*inside, manifest, folder]:
        flush(entry)
    return checksum(manifest)


def read_manifest(folder: Path, sealed: str, *, where: str) -> dict[str, Any]:
    """The manifest, verified by its seal.

    Args:
        folder: that it lies in.
        sealed: checksum that it must have.
        where: what an error names.

    Raises:
        CheckpointError: it is missing or damaged, or of a schema newer than this library's.
    """
    _verify(folder / MANIFEST, sealed)
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    if manifest["schema"] > SCHEMA:
        raise CheckpointError(
            f"written by a newer Isthmus ({manifest['libraries'].get('isthmus', 'unknown')}, "
            f"schema {manifest['schema']}; this one reads up to {SCHEMA})",
            where=where,
            hint="Upgrade isthmus, or write the folder again with this version",
        )
    return manifest


def verify_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise CheckpointError unless every file of the manifest is there and is what was written."""
    for name, entry in manifest["files"].items():
        _verify(folder / name, entry["sha256"], entry["bytes"])


def checksum(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _verify(file: Path, sha256: str, size: int | None = None) -> None:
    """Raise CheckpointError unless the file is there and is what was written."""
    hint = "Restore the folder from a copy, or train again"
    if not file.is_file():
        raise CheckpointError("the file is missing", where=str(file), hint=hint)
    found = file.stat().st_size
    if size is not None and found != size:
        raise CheckpointError(
            f"the file is damaged: {found:,} bytes where {size:,} were written",
            where=str(file),
            hint=hint,
        )
    if checksum(file) != sha256:
        raise CheckpointError(
            "the file is damaged: its checksum is not what was written", where=str(file), hint=hint
        )


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
