"""Whether a table fits into memory, asked before it is read: a killed process can say nothing.

The need is a lower bound, so that nothing is refused that would have fitted; a table near the bound
may still not.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

BYTES_PER_VALUE = 32
"""Least memory that reading and cleaning take for one value of one event: about 50 were measured,
with three columns and three million events, from CSV and from Parquet."""

_LIMITS = (
    # Control groups of version 2 and 1: what a container may use, and what it does.
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def free_bytes() -> int | None:
    """Memory that this process may still take; None where the system does not say."""
    known = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        known.append(int(available.split()[1]) * 1024)
    for limit, used in _LIMITS:
        # "max" stands for no limit.
        with suppress(OSError, ValueError):
            known.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(min(known), 0) if known else None


def least_need(rows: int, columns: int) -> int:
    """Bytes below which a table of events cannot be read and cleaned."""
    return rows * columns * BYTES_PER_VALUE


def share_that_fits(need: int, free: int) -> float:
    """A share of a table, one digit, that leaves most of the memory to what comes after reading."""
    share = free / need / 4
    for digits in range(1, 9):
        rounded = round(int(share * 10.0**digits) * 0.1**digits, digits)
        if rounded:
            return rounded
    return 1e-8
