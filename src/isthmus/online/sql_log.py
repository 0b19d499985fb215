"""The event log over a SQL database: the same statements for SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from isthmus.config import Config
from isthmus.errors import LogUnavailable, RequestError
from isthmus.failpoints import reached
from isthmus.online.database import Database, Row, Statements
from isthmus.online.events import Choice, Event, Glance, Impression, Logged, Outcome, Record
from isthmus.online.group_commit import GroupCommit
from isthmus.online.intake import Limits, refusal
from isthmus.online.kept import kept_in_sql
from isthmus.online.log import CompactionReport, Contents, Erasure, ErasureReceipt
from isthmus.online.migrations import migrate

_FIELDS = (
    "event_id, shown, user_id, domain, item_id, time, kind, rating, weight, recommendation_id, "
    "rank, propensity"
)
_INSERT = (
    f"INSERT INTO isthmus_records (number, received, {_FIELDS}) VALUES ({', '.join('?' * 14)})"
)
_READ = (
    f"SELECT number, received, {_FIELDS} FROM isthmus_records WHERE number > ? "
    "ORDER BY number LIMIT ?"
)
_GLANCE = _READ.replace(
    f"received, {_FIELDS}", "shown, user_id, domain, item_id, time, kind, rating"
)
_OF_PERSON = " FROM isthmus_records WHERE user_id = ? AND shown = 0"
_LATEST = " ORDER BY time DESC, number DESC LIMIT ?"
_HISTORY = f"SELECT {_FIELDS}{_OF_PERSON}{_LATEST}"
_CHOICES = f"SELECT domain, item_id, time{_OF_PERSON}"
_MOST_ASKED = 512
_MOST_COMPACTED = 20_000


class SqlLog:
    """See `EventLog`.

    Args:
        database: that holds a log, or will.
        limits: which records are taken.

    Raises:
        LogError: the log is newer than this library.
        LogUnavailable: the database cannot be reached just now.
    """

    def __init__(self, database: Database, limits: Limits) -> None:
        migrate(database)
        self._database, self._limits = database, limits
        with database.reading() as ask:
            ((name, secret),) = ask.rows("SELECT id, secret FROM isthmus_log")
        self._id, self._key = str(name), bytes.fromhex(secret)
        self._writer = GroupCommit(self._commit)
        self._marks: tuple[int, dict[str, float]] = (0, {})

    @property
    def id(self) -> str:
        """See `EventLog`."""
        return self._id

    def append(self, records: Sequence[Record]) -> list[Outcome]:
        """See `EventLog`."""
        return self.submit(records).result()

    def submit(self, records: Sequence[Record]) -> Future[list[Outcome]]:
        """See `EventLog`."""
        now = time.time()
        return self._writer.submit([refusal(r, self._limits, now) or r for r in records])

    def read(self, after: int = 0, limit: int = 10_000) -> list[Logged]:
        """See `EventLog`."""
        with self._database.reading() as ask:
            rows = ask.rows(_READ, (after, limit))
        return [Logged(row[0], row[1], _record(row[2:])) for row in rows]

    def glance(self, after: int = 0, limit: int = 10_000) -> list[Glance]:
        """See `EventLog`."""
        with self._database.reading() as ask:
            return list(map(Glance._make, ask.rows(_GLANCE, (after, limit))))

    def history(self, user_id: str, *, limit: int = 200) -> list[Event]:
        """See `EventLog`."""
        with self._database.reading() as ask:
            rows = ask.rows(_HISTORY, (user_id, limit))
        return [_event(row) for row in reversed(rows)]

    def choices(
        self, user_id: str, *, limit: int = 200, config: Config | None = None
    ) -> list[Choice]:
        """See `EventLog`."""
        kept, values = kept_in_sql(config) if config else ("", [])
        with self._database.reading() as ask:
            return ask.rows(f"{_CHOICES}{kept}{_LATEST}", (user_id, *values, limit))[::-1]

    def find(self, event_id: str) -> Record | None:
        """See `EventLog`."""
        with self._database.reading() as ask:
            row = _contents(ask, [event_id]).get(event_id)
        return None if row is None else _record(row)

    def head(self) -> int:
        """See `EventLog`."""
        return self._state("head")

    def contents(self) -> Contents:
        """See `EventLog`."""
        with self._database.reading() as ask:
            counted = ask.rows("SELECT shown, COUNT(*) FROM isthmus_records GROUP BY shown")
            ((oldest, newest),) = ask.rows("SELECT MIN(time), MAX(time) FROM isthmus_records")
            ((erasures,),) = ask.rows("SELECT COUNT(*) FROM isthmus_erasures")
        counts: dict[int, int] = dict(counted)
        return Contents(counts.get(0, 0), counts.get(1, 0), oldest, newest, erasures)

    def compacted(self) -> int:
        """See `EventLog`."""
        return self._state("compacted")

    def pseudonym(self, user_id: str) -> str:
        """See `EventLog`."""
        return hashlib.blake2b(user_id.encode(), key=self._key, digest_size=16).hexdigest()

    def erase(self, user_id: str) -> ErasureReceipt:
        """See `EventLog`."""
        person, now = self.pseudonym(user_id), time.time()
        with self._database.writing() as write:
            ((head,),) = write.rows("SELECT head FROM isthmus_log")
            # A clock ahead of ours must not let a repeat of what is deleted pass for new.
            ((newest,),) = write.rows(
                "SELECT MAX(time) FROM isthmus_records WHERE user_id = ?", (user_id,)
            )
            events, impressions = _delete(write, "user_id = ?", user_id)
            write.run(
                "INSERT INTO isthmus_erasures "
                "(number, time, refused_until, person, events, impressions) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (head + 1, now, max(now, newest or now), person, events, impressions),
            )
            write.run("UPDATE isthmus_log SET head = ?, last_erasure = ?", (head + 1, head + 1))
            reached("log-erased")
        reached("log-committed")
        told = (self._id, head + 1, now, person, events, impressions)
        digest = self.pseudonym(json.dumps(told))
        return ErasureReceipt(*told, purged=self.purge(), digest=digest)

    def erased(self, after: int = 0) -> list[Erasure]:
        """See `EventLog`."""
        with self._database.reading() as ask:
            rows = ask.rows(
                "SELECT number, time, person FROM isthmus_erasures WHERE number > ? "
                "ORDER BY number",
                (after,),
            )
        return [Erasure(*row) for row in rows]

    def compact(self, *, before: float, consumed: int | None = None) -> CompactionReport:
        """See `EventLog`."""
        if not before <= time.time():
            raise RequestError(
                "records can be deleted from before a moment that has passed",
                where=f"before = {before}",
                hint="Give Unix seconds",
            )
        with self._database.writing() as write:
            ((head, floor),) = write.rows("SELECT head, floor FROM isthmus_log")
            write.run(
                "UPDATE isthmus_log SET floor = ?",
                (before if floor is None else max(before, floor),),
            )
        upto = head if consumed is None else consumed
        start: int | None = 0
        events = impressions = 0
        while start is not None:
            start, *gone = self._compact_some(before, start, upto)
            events, impressions = events + gone[0], impressions + gone[1]
        with self._database.reading() as ask:
            ((kept,),) = ask.rows("SELECT COUNT(*) FROM isthmus_records WHERE time < ?", (before,))
        return CompactionReport(before, events, impressions, kept, purged=self.purge())

    def _compact_some(self, before: float, after: int, upto: int) -> tuple[int | None, int, int]:
        """Compact the next records; few at a time, so that appends need not wait for all of it.

        Returns:
            Where to go on (None: at the end), events and impressions deleted.
        """
        with self._database.writing() as write:
            ((end,),) = write.rows(
                "SELECT MAX(number) FROM (SELECT number FROM isthmus_records "
                "WHERE number > ? AND number <= ? ORDER BY number LIMIT ?) AS next",
                (after, upto, _MOST_COMPACTED),
            )
            if end is None:
                return None, 0, 0
            chosen = "number > ? AND number <= ? AND time < ?"
            ((last,),) = write.rows(
                f"SELECT MAX(number) FROM isthmus_records WHERE {chosen}", (after, end, before)
            )
            events, impressions = _delete(write, chosen, after, end, before)
            if last is not None:
                write.run("UPDATE isthmus_log SET compacted = ? WHERE compacted < ?", (last, last))
            reached("log-compacted")
        reached("log-committed")
        return end, events, impressions

    def close(self) -> None:
        """See `EventLog`."""
        self._writer.close()
        self._database.close()

    def _state(self, column: str) -> int:
        with self._database.reading() as ask:
            ((value,),) = ask.rows(f"SELECT {column} FROM isthmus_log")
        return int(value)

    def purge(self) -> bool:
        """See `EventLog`."""
        try:
            return self._database.purge()
        except LogUnavailable:
            return False

    def _commit(self, items: list[Record | Outcome]) -> list[Outcome]:
        """Write what can be written in one transaction; what was refused already passes through."""
        with self._database.writing() as write:
            reached("log-begun")
            ((head, floor, last_erasure),) = write.rows(
                "SELECT head, floor, last_erasure FROM isthmus_log"
            )
            erased = self._erased_by_then(write, last_erasure)
            known = _contents(write, [r.event_id for r in items if not isinstance(r, Outcome)])
            outcomes: list[Outcome] = []
            fresh: list[Row] = []
            for record in items:
                if isinstance(record, Outcome):
                    outcomes.append(record)
                    continue
                content = _row(record)
                held = known.setdefault(record.event_id, content)
                if held is not content:
                    outcomes.append(Outcome.REPEATED if held == content else Outcome.CONFLICT)
                    continue
                outcome = self._outcome(record, floor, erased)
                outcomes.append(outcome)
                if outcome is Outcome.ACCEPTED:
                    fresh.append(content)
                else:
                    del known[record.event_id]
            if fresh:
                now = time.time()
                write.many(_INSERT, [(head + n, now, *row) for n, row in enumerate(fresh, 1)])
                write.run("UPDATE isthmus_log SET head = ?", (head + len(fresh),))
            reached("log-written")
        reached("log-committed")
        return outcomes

    def _outcome(self, record: Record, floor: float | None, erased: dict[str, float]) -> Outcome:
        """What becomes of a record that the log does not hold."""
        if floor is not None and record.time < floor:
            return Outcome.TOO_OLD
        if erased and record.time <= erased.get(self.pseudonym(record.user_id), -math.inf):
            return Outcome.ERASED
        return Outcome.ACCEPTED

    def _erased_by_then(self, ask: Statements, last: int) -> dict[str, float]:
        """Up to which event time erased people are refused, by pseudonym; `last`: latest mark."""
        seen, times = self._marks
        if last > seen:
            fresh = ask.rows(
                "SELECT person, refused_until FROM isthmus_erasures WHERE number > ? "
                "ORDER BY number",
                (seen,),
            )
            times = times.copy()
            for person, until in fresh:
                times[person] = max(until, times.get(person, until))
            self._marks = last, times
        return times


def _delete(write: Statements, condition: str, *values: object) -> tuple[int, int]:
    """Delete records, and say how many events and how many impressions went."""
    events, impressions = (
        write.run(f"DELETE FROM isthmus_records WHERE {condition} AND shown = ?", (*values, shown))
        for shown in (0, 1)
    )
    return events, impressions


def _contents(ask: Statements, ids: Iterable[str]) -> dict[str, Row]:
    """What the log holds by these ids."""
    found: dict[str, Row] = {}
    asked = list(dict.fromkeys(ids))
    for start in range(0, len(asked), _MOST_ASKED):
        some = asked[start : start + _MOST_ASKED]
        # Few lengths, so that few statements have to be planned.
        length = 1 << (len(some) - 1).bit_length()
        some += some[-1:] * (length - len(some))
        rows = ask.rows(
            f"SELECT {_FIELDS} FROM isthmus_records WHERE event_id IN ({', '.join('?' * length)})",
            some,
        )
        found |= {row[0]: row for row in rows}
    return found


def _row(record: Record) -> Row:
    """A record as the columns `_FIELDS`."""
    who = (record.user_id, record.domain, record.item_id, float(record.time))
    answer = record.recommendation_id
    if isinstance(record, Event):
        about = (record.kind, _float(record.rating), float(record.weight), answer, None, None)
        return (record.event_id, 0, *who, *about)
    shown = (None, None, None, answer, record.rank, _float(record.propensity))
    return (record.event_id, 1, *who, *shown)


def _float(number: float | None) -> float | None:
    return None if number is None else float(number)


def _record(row: Row) -> Record:
    """`_row`, back."""
    if row[1]:
        event_id, _, *who_what_when = row[:6]
        return Impression(event_id, *who_what_when, *row[9:])
    return _event(row)


def _event(row: Row) -> Event:
    return Event(row[0], *row[2:10])
