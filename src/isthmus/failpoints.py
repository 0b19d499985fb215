"""Places at which a crash test can have the process killed, as by a power cut.

`ISTHMUS_FAILPOINT=NAME` kills at the first time that NAME is reached, `NAME:7` at the seventh.
Without the variable, reaching a place costs one comparison.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "ISTHMUS_FAILPOINT"

LOG = (
    "log-taken",
    "log-begun",
    "log-written",
    "log-committed",
    "log-answered",
    "log-erased",
    "log-compacted",
)
"""Those of the event log: records taken from the queue; the transaction begun; rows written, not
committed; committed, nobody told; the first of a group told; rows deleted, not committed."""

CATALOGUE = ("catalogue-written", "catalogue-committed")
"""Those of what is registered: rows written, not committed; committed, nobody told."""

VERSIONS = ("version-begun", "version-written", "version-named", "version-live")
"""Those of a folder of versions: nothing written yet; all written, aside; under its own name, not
live; live, older versions still there."""

_name, _, _times = os.environ.get(VARIABLE, "").partition(":")
_left = int(_times or 1) if _name else 0


def reached(name: str) -> None:
    """Die here by SIGKILL, if this is the place and the time that was asked for."""
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
