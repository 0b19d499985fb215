"""One service per SQLite log.

The log itself can be shared: the processes of one service, the learner and the command line all
open it. A second service is another matter: it would train and publish models of its own beside
the first. So a service claims the file for as long as it lives, by a lock of the kernel, which a
killed process does not hold. In PostgreSQL several services are what it is there for.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.errors import LogError


@contextmanager
def sole_service(where: str | Path) -> Iterator[None]:
    """Be the one service of an event log, as long as the block runs.

    Args:
        where: as for `open_log`, by whatever name; nothing is claimed in PostgreSQL.

    Raises:
        LogError: another service uses the file, or the claim cannot be written beside it.
    """
    if "://" in str(where):
        yield
        return
    claim = Path(f"{Path(where).resolve()}.service")
    try:
        # Not "w": that would wipe the other's name before the lock is asked for.
        handle = claim.open("a+")
    except OSError as error:
        raise LogError(
            f"the claim on the event log cannot be written: {error.strerror}",
            where=str(claim),
            hint="Check that the folder is there and may be written",
        ) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise LogError(
                f"another service (process {handle.read().strip()}) uses this event log",
                where=str(where),
                hint="Stop it, name another file as online.log, or use PostgreSQL",
            ) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield
