"""A model that has learnt from a log serves beside that log, and beside no other."""

from __future__ import annotations

from isthmus.errors import LogError
from isthmus.online.log import EventLog
from isthmus.recommender.storage import LogPosition


def check_belongs(position: LogPosition | None, log: EventLog, folder: str) -> None:
    """Raise LogError if a model has learnt from another log, or from more of it than there is."""
    if position is None:
        return
    if position.id != log.id:
        raise LogError(
            f"the model has learnt from another event log ({position.id})",
            where=folder,
            hint="Name the log that belongs to it, or fit the model anew",
        )
    if position.offset > (head := log.head()):
        raise LogError(
            f"the model has learnt from the event log up to {position.offset:,}, and it ends at "
            f"{head:,}: it was put back to an older state",
            where=folder,
            hint="Restore a newer copy of the log, or go back to a model from before that",
        )
