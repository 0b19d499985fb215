"""What became of every version that a folder has held, those included whose files are gone.

    FOLDER/ledger.jsonl     one JSON object a line, only ever appended to

A line either enters a version or, where it has no `kind`, says that one was made live later.
Whoever appends holds the folder's lock. A kill can leave half a line at the end; it is skipped by
readers and closed by the next line. Nothing in it names a person.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LEDGER = "ledger.jsonl"


def read_ledger(path: Path) -> dict[str, dict[str, Any]]:
    """Every version that was entered in the folder at `path`, by name, in the order of entry.

    Each has `version`, `written`, `live` (whether it ever was), and what its writer noted.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        lines = (path / LEDGER).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            name = entry["version"]
        except (ValueError, KeyError, TypeError):
            continue
        if "kind" in entry:
            # A name is given again where what had it was taken out before it was ever live.
            found.pop(name, None)
            found[name] = entry
        elif name in found:
            found[name] = found[name] | entry
    return found


def enter(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Append lines, on disk when this returns.

    Raises:
        OSError: they cannot be written.
    """
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    if not text:
        return
    descriptor = os.open(path / LEDGER, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        torn = size and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write((b"\n" if torn else b"") + text.encode())
        os.fsync(file.fileno())
