"""The event log: what anybody may ask of it, and how to open one.

Append-only and durable: what `append` has acknowledged is on disk. Beside appending, people can be
erased and old records compacted away; both leave a trace that readers can follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isthmus.config import Config
from isthmus.online.events import Choice, Event, Glance, Logged, Outcome, Record
from isthmus.online.intake import Limits


@dataclass(frozen=True, slots=True)
class Erasure:
    """The mark that a deleted person leaves.

    Attributes:
        offset: its place among the records; what the person does later has larger offsets.
        time: when, Unix seconds.
        person: pseudonym of the person, `EventLog.pseudonym(user_id)`.
    """

    offset: int
    time: float
    person: str


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What was deleted of a person.

    Attributes:
        log_id: of the log.
        offset: of the mark, see `Erasure`.
        time: when, Unix seconds.
        person: pseudonym of the person.
        events: how many were deleted.
        impressions: how many were deleted.
        purged: whether nothing of them is left in the database's own files; where not, they
            cannot be asked for, but may be on disk until a later purge, or until the database uses
            the room again. PostgreSQL overwrites nothing, so there it is always False.
        digest: keyed hash of all of the above but `purged`, which the log can make again.
    """

    log_id: str
    offset: int
    time: float
    person: str
    events: int
    impressions: int
    purged: bool
    digest: str


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What retention took away.

    Attributes:
        before: event time before which records went and are refused from now on, Unix seconds.
        events: how many went.
        impressions: how many went.
        kept_unread: how many are old enough but after the offset that readers have consumed.
        purged: as in `ErasureReceipt`.
    """

    before: float
    events: int
    impressions: int
    kept_unread: int
    purged: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """What a log holds at the moment.

    Attributes:
        events: how many.
        impressions: how many.
        oldest: event time of the earliest record, Unix seconds; None where there is none.
        newest: event time of the latest.
        erasures: how many marks erased people have left.
    """

    events: int
    impressions: int
    oldest: float | None
    newest: float | None
    erasures: int


class EventLog(Protocol):
    """A durable, ordered log of events and impressions; safe for use by many threads."""

    @property
    def id(self) -> str:
        """Random name given when the log was made; a model remembers it."""

    def append(self, records: Sequence[Record]) -> list[Outcome]:
        """Put records on disk, and say what became of each.

        Concurrent appends share one write to disk. A record that cannot be taken does not keep
        the others out.

        Returns:
            One outcome per record, in order; on return every accepted one is on disk.

        Raises:
            LogUnavailable: none of them is acknowledged; send them again, by the same ids.
        """

    def submit(self, records: Sequence[Record]) -> Future[list[Outcome]]:
        """`append` without waiting, for callers that serve others meanwhile."""

    def read(self, after: int = 0, limit: int = 10_000) -> list[Logged]:
        """Records with offsets above `after`, rising, at most `limit`."""

    def glance(self, after: int = 0, limit: int = 10_000) -> list[Glance]:
        """These records as those who count need them, in a third of the time."""

    def history(self, user_id: str, *, limit: int = 200) -> list[Event]:
        """The latest events of a person over all domains, oldest first, by time then offset."""

    def choices(
        self, user_id: str, *, limit: int = 200, config: Config | None = None
    ) -> list[Choice]:
        """What these events were on, in a quarter of the time: every answer asks for it.

        Args:
            user_id: who.
            limit: how many of the latest.
            config: which kinds and ratings count; of others nothing is told. None: all.
        """

    def find(self, event_id: str) -> Record | None:
        """The record that was reported by an id; None: there is none."""

    def head(self) -> int:
        """The latest offset given to a record or a mark; 0 for a new log."""

    def contents(self) -> Contents:
        """Counts over the whole log; takes a while on a large one."""

    def compacted(self) -> int:
        """Offset up to which records may be gone by retention; 0: none."""

    def pseudonym(self, user_id: str) -> str:
        """A keyed hash of a raw id, of no use without the log."""

    def erase(self, user_id: str) -> ErasureReceipt:
        """Delete whatever a person did or was shown, and leave a mark.

        Records of theirs from before the erasure that arrive later are refused.
        """

    def purge(self) -> bool:
        """Have deleted rows leave the database's files; `ErasureReceipt.purged` says what it gives.

        False also where the database cannot be reached just now.
        """

    def erased(self, after: int = 0) -> list[Erasure]:
        """Marks with offsets above `after`, rising: who must vanish from derived state."""

    def compact(self, *, before: float, consumed: int | None = None) -> CompactionReport:
        """Delete records from before a time; what was begun and cut short, the next call finishes.

        Args:
            before: event time, Unix seconds; older records are refused from now on.
            consumed: offset that every reader has passed; later records stay. None: all may go.

        Raises:
            RequestError: `before` lies in the future, and what happens now would be refused.
        """

    def close(self) -> None:
        """Finish what was submitted, and let go of the file or server."""


def between(log: EventLog, after: int = 0, upto: int | None = None) -> Iterator[Logged]:
    """Records with offsets above `after` and at most `upto` (None: any), rising, few at a time."""
    while some := log.read(after):
        for logged in some:
            if upto is not None and logged.offset > upto:
                return
            yield logged
        after = some[-1].offset


def open_log(where: str | Path, *, limits: Limits | None = None) -> EventLog:
    """Open an event log, made where there is none.

    Args:
        where: a file for SQLite, or a `postgresql://…` URL.
        limits: which records are taken.

    Raises:
        LogUnavailable: it cannot be reached just now.
        LogError: the file holds something else, or the log is newer than this library.
    """
    from isthmus.online.sql_log import SqlLog

    if "://" in str(where):
        from isthmus.online.postgres import PostgresDatabase

        return SqlLog(PostgresDatabase(str(where)), limits or Limits())
    from isthmus.online.sqlite import SqliteDatabase

    return SqlLog(SqliteDatabase(Path(where)), limits or Limits())
