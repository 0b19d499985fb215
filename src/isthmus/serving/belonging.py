"""A model that has learnt from a log serves beside that log, and beside no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.errors import LogError
from isthmus.online.log import EventLog


class NotOfThisLog(LogError):
    """A model cannot serve beside a log."""


def learnt_of(meta: Mapping[str, Any]) -> tuple[str, int] | None:
    """The log that a saved version says it has learnt from, and up to which offset; None: none."""
    log = meta.get("log")
    return (log["id"], log["offset"]) if log else None


def check_belongs(learnt: tuple[str, int] | None, log: EventLog, folder: str) -> None:
    """Raise NotOfThisLog if a model and a log do not belong together; see `replay.place_in`.

    It has learnt from another log, or from more of it than there is, or records that it has not
    seen have been compacted away.

    Args:
        learnt: id of the log, and the offset up to which; None: from none.
        log: beside which it is to serve.
        folder: of the model.
    """
    if learnt is None:
        return
    log_id, offset = learnt
    if log_id != log.id:
        raise NotOfThisLog(
            f"the model has learnt from another event log ({log_id})",
            where=folder,
            hint="Name the log that belongs to it, or fit the model anew",
        )
    if offset > (head := log.head()):
        raise NotOfThisLog(
            f"the model has learnt from the event log up to {offset:,}, and it ends at "
            f"{head:,}: it was put back to an older state",
            where=folder,
            hint="Restore a newer copy of the log, or go back to a model from before that",
        )
    if offset < (compacted := log.compacted()):
        raise NotOfThisLog(
            f"the model has learnt from the event log up to {offset:,}, and records up to "
            f"{compacted:,} have been compacted away",
            where=folder,
            hint="Serve a later version of the model, or fit again",
        )
