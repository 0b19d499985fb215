"""What a run ran on: versions and memory."""

from __future__ import annotations

import platform
import resource
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("isthmus", "torch", "numpy", "scipy", "polars", "transformers", "onnxruntime")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that figures can depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def begin_peak() -> None:
    """Let `peak_rss_mb` begin anew; where the system cannot, it goes on from the start."""
    # https://docs.kernel.org/filesystems/proc.html, clear_refs
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_mb() -> float:
    """Peak resident memory in MiB since `begin_peak`; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
