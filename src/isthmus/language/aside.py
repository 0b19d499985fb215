"""Files that appear whole or not at all: written beside their place, then renamed.

For caches only: what cannot be written is skipped, since a cache may be absent.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_aside(path: Path, content: bytes) -> bool:
    """Write a file atomically, with its folders; false where that is not possible."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True) if aside.parent.is_dir() else None
        return False
    return True
