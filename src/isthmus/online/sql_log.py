"""The event log over a SQL database: the same statements for SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from isthmus.online.database import Database, Row, Transaction
from isthmus.online.events import Event, Impression, Logged, Outcome, Record
from isthmus.online.group_commit import GroupCommit
from isthmus.online.intake import Limits, refusal
from isthmus.online.log import CompactionReport, Erasure, ErasureReceipt
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
_HISTORY = (
    f"SELECT {_FIELDS} FROM isthmus_records WHERE user_id = ? AND shown = 0 "
    "ORDER BY time DESC, number DESC LIMIT ?"
)


class SqlLog:
    """See `EventLog`."""

    def __init__(self, database: Database, limits: Limits) -> None:
        migrate(database)
        self._database, self._limits = database, limits
        with database.transaction() as transaction:
            ((name, secret),) = transaction.rows("SELECT id, secret FROM isthmus_log")
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
        with self._database.transaction() as transaction:
            rows = transaction.rows(_READ, (after, limit))
        return [Logged(row[0], row[1], _record(row[2:])) for row in rows]

    def history(self, user_id: str, *, limit: int = 200) -> list[Event]:
        """See `EventLog`."""
        with self._database.transaction() as transaction:
            rows = transaction.rows(_HISTORY, (user_id, limit))
        return [_event(row) for row in reversed(rows)]

    def head(self) -> int:
        """See `EventLog`."""
        return self._state("head")

    def compacted(self) -> int:
        """See `EventLog`."""
        return self._state("compacted")

    def pseudonym(self, user_id: str) -> str:
        """See `EventLog`."""
        return self._keyed(user_id)

    def erase(self, user_id: str) -> ErasureReceipt:
        """See `EventLog`."""
        person, now = self.pseudonym(user_id), time.time()
        with self._database.transaction(write=True) as transaction:
            offset = _head(transaction) + 1
            events, impressions = (
                transaction.run(
                    "DELETE FROM isthmus_records WHERE user_id = ? AND shown = ?", (user_id, shown)
                )
                for shown in (0, 1)
            )
            transaction.run(
                "INSERT INTO isthmus_erasures (number, time, person, events, impressions) "
                "VALUES (?, ?, ?, ?, ?)",
                (offset, now, person, events, impressions),
            )
            transaction.run("UPDATE isthmus_log SET head = ?, last_erasure = ?", (offset, offset))
        self._database.tidy()
        told = (self._id, offset, now, person, events, impressions)
        return ErasureReceipt(*told, digest=self._keyed(repr(told)))

    def erased(self, after: int = 0) -> list[Erasure]:
        """See `EventLog`."""
        with self._database.transaction() as transaction:
            return _erasures(transaction, after)

    def compact(self, *, before: float, consumed: int | None = None) -> CompactionReport:
        """See `EventLog`."""
        with self._database.transaction(write=True) as transaction:
            upto = _head(transaction) if consumed is None else consumed
            events, impressions = (
                transaction.run(
                    "DELETE FROM isthmus_records WHERE time < ? AND number <= ? AND shown = ?",
                    (before, upto, shown),
                )
                for shown in (0, 1)
            )
            ((kept,),) = transaction.rows(
                "SELECT COUNT(*) FROM isthmus_records WHERE time < ?", (before,)
            )
            transaction.run(
                "UPDATE isthmus_log SET floor = CASE WHEN floor > ? THEN floor ELSE ? END, "
                "compacted = CASE WHEN compacted > ? THEN compacted ELSE ? END",
                (before, before, upto, upto),
            )
        self._database.tidy()
        return CompactionReport(before, events, impressions, kept)

    def close(self) -> None:
        """See `EventLog`."""
        self._writer.close()
        self._database.close()

    def _state(self, column: str) -> int:
        with self._database.transaction() as transaction:
            ((value,),) = transaction.rows(f"SELECT {column} FROM isthmus_log")
        return int(value)

    def _keyed(self, text: str) -> str:
        return hashlib.blake2b(text.encode("utf-8"), key=self._key, digest_size=16).hexdigest()

    def _commit(self, items: list[Record | Outcome]) -> list[Outcome]:
        """Write what can be written in one transaction; what was refused already passes through."""
        with self._database.transaction(write=True) as transaction:
            ((head, floor, last_erasure),) = transaction.rows(
                "SELECT head, floor, last_erasure FROM isthmus_log"
            )
            marks = self._marks_up_to(transaction, last_erasure)
            known = _contents(
                transaction, [r.event_id for r in items if not isinstance(r, Outcome)]
            )
            outcomes, fresh = [], []
            for record in items:
                if isinstance(record, Outcome):
                    outcomes.append(record)
                    continue
                content = _row(record)
                outcome = self._outcome(record, content, known.get(record.event_id), floor, marks)
                outcomes.append(outcome)
                if outcome is Outcome.ACCEPTED:
                    known[record.event_id] = content
                    fresh.append(content)
            now = time.time()
            transaction.many(
                _INSERT, ((head + n, now, *content) for n, content in enumerate(fresh, 1))
            )
            transaction.run("UPDATE isthmus_log SET head = ?", (head + len(fresh),))
        return outcomes

    def _outcome(
        self,
        record: Record,
        content: Row,
        known: Row | None,
        floor: float | None,
        marks: dict[str, float],
    ) -> Outcome:
        if known is not None:
            return Outcome.REPEATED if known == content else Outcome.CONFLICT
        if floor is not None and record.time < floor:
            return Outcome.TOO_OLD
        if marks and record.time <= marks.get(self.pseudonym(record.user_id), float("-inf")):
            return Outcome.ERASED
        return Outcome.ACCEPTED

    def _marks_up_to(self, transaction: Transaction, last: int) -> dict[str, float]:
        """When each erased person was last erased, by pseudonym."""
        seen, marks = self._marks
        if last > seen:
            marks = marks | {e.person: e.time for e in _erasures(transaction, seen)}
            self._marks = last, marks
        return marks


def _head(transaction: Transaction) -> int:
    ((head,),) = transaction.rows("SELECT head FROM isthmus_log")
    return int(head)


def _erasures(transaction: Transaction, after: int) -> list[Erasure]:
    rows = transaction.rows(
        "SELECT number, time, person FROM isthmus_erasures WHERE number > ? ORDER BY number",
        (after,),
    )
    return [Erasure(*row) for row in rows]


def _contents(transaction: Transaction, ids: Iterable[str]) -> dict[str, Row]:
    """What the log holds by these ids."""
    found: dict[str, Row] = {}
    asked = list(dict.fromkeys(ids))
    for start in range(0, len(asked), 500):
        some = asked[start : start + 500]
        marks = ", ".join("?" * len(some))
        rows = transaction.rows(
            f"SELECT {_FIELDS} FROM isthmus_records WHERE event_id IN ({marks})", some
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
