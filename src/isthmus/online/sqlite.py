"""SQLite under the event log: one file, write-ahead log, every commit flushed to disk.

Several processes of one machine may share the file: the one that writes holds SQLite's write lock
from before it takes an offset until after its commit, so offsets appear in order for every reader.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from isthmus.errors import LogError, LogUnavailable
from isthmus.online.database import Row

_BUSY_SECONDS = 10.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REASONS = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Free some space; what was acknowledged is safe"),
    sqlite3.SQLITE_BUSY: ("another process is writing", "Try again in a moment"),
    sqlite3.SQLITE_LOCKED: ("another process is writing", "Try again in a moment"),
    sqlite3.SQLITE_READONLY: ("it may not be written", "Check the permissions of file and folder"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Check the path and its permissions"),
    sqlite3.SQLITE_IOERR: ("the disk reports an error", "Check the disk and the space left on it"),
}


class SqliteTransaction:
    """Statements on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """See `Transaction`."""
        return self._connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """See `Transaction`."""
        self._connection.executemany(sql, rows)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """See `Transaction`."""
        return self._connection.execute(sql, values).fetchall()


class SqliteDatabase:
    """See `Database`. The file is made where there is none; its folder must exist."""

    integer = "INTEGER"
    has_table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._idle: list[sqlite3.Connection] = []
        with self.transaction() as transaction:
            named = transaction.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        if named and ("isthmus_version",) not in named:
            self.close()
            raise LogError(
                "a database of something else", where=self.where, hint="Name another file"
            )

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[SqliteTransaction]:
        """See `Database`."""
        try:
            connection = self._take()
            try:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield SqliteTransaction(connection)
                connection.execute("COMMIT")
            except BaseException:
                # A connection that has seen an error is not used again: it may hold half a
                # transaction, or a file that has been replaced.
                with suppress(sqlite3.Error):
                    connection.rollback()
                connection.close()
                raise
            self._idle.append(connection)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def tidy(self) -> None:
        """Write the log back into the file, where `secure_delete` has overwritten what went."""
        connection = self._take()
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise self._explained(error) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Close every connection; the last one tidies the write-ahead log away."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> sqlite3.Connection:
        with suppress(IndexError):
            return self._idle.pop()
        connection = sqlite3.connect(
            self.where, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _explained(self, error: sqlite3.Error) -> LogError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            return LogError(
                "no event log, or a damaged one",
                where=self.where,
                hint="Name another file, or restore it from a copy",
            )
        what, hint = _REASONS.get(code, (str(error), "Try again in a moment"))
        return LogUnavailable(what, where=self.where, hint=hint)
