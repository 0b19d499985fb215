"""SQLite under the event log: one file, write-ahead log, every commit flushed to disk.

Several processes of one machine may share the file: the one that writes holds SQLite's write lock
from before it takes an offset until after its commit, so offsets appear in order for every reader.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from isthmus.errors import LogError, LogUnavailable
from isthmus.online.database import Pool, Row
from isthmus.training.versions import flush

BUSY_SECONDS = 10.0
_WAL_BYTES_KEPT = 64 * 2**20
_SAFE = "What was acknowledged is safe; try again"
_REASONS = {
    sqlite3.SQLITE_FULL: ("the disk is full", f"Free some space. {_SAFE}"),
    sqlite3.SQLITE_BUSY: ("another process is writing to it", _SAFE),
    sqlite3.SQLITE_LOCKED: ("another process is writing to it", _SAFE),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written",
        f"Check the permissions of the file and its folder. {_SAFE}",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        f"Check that the file is there and may be written. {_SAFE}",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk reports an error",
        f"Check the disk and the space left on it. {_SAFE}",
    ),
    sqlite3.SQLITE_NOMEM: ("there is not enough memory", _SAFE),
}


class SqliteStatements:
    """See `Statements`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """See `Statements`."""
        return self._connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """See `Statements`."""
        self._connection.executemany(sql, rows)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """See `Statements`."""
        return self._connection.execute(sql, values).fetchall()


class SqliteDatabase:
    """See `Database`.

    Args:
        path: of the file, made where there is none; its folder must exist.

    Raises:
        LogError: no such folder, or the file holds something else.
        LogUnavailable: it cannot be opened just now.
    """

    integer = "INTEGER"
    has_table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"

    def __init__(self, path: Path) -> None:
        # Relative paths must not follow the process into another folder.
        self._path = path.absolute()
        self.where = str(path)
        if self._path.is_dir() or not self._path.parent.is_dir():
            raise LogError(
                "a folder, not an event log" if self._path.is_dir() else "its folder is missing",
                where=self.where,
                hint="Name a file, in a folder that is there, as online.log",
            )
        self._pool = Pool(self._connect, lambda _: True, self.where)
        self._turn = threading.Lock()
        with self._explained():
            # From here on a file that has gone is an error, not a new and empty log.
            self._make()
            self._writer = self._path.with_name(f"{self._path.name}-writer").open("a")
            with self._queue():
                self._pool.give(self._connect())
            flush(self._path.parent)
        self._file = self._identity()

    @contextmanager
    def reading(self) -> Iterator[SqliteStatements]:
        """See `Database`."""
        with self._connection() as connection:
            yield SqliteStatements(connection)

    @contextmanager
    def writing(self) -> Iterator[SqliteStatements]:
        """See `Database`."""
        with self._connection() as connection, self._queue():
            connection.execute("BEGIN IMMEDIATE")
            # What is written into a file that has been moved away would be lost to the next reader.
            if self._identity() != self._file:
                raise LogUnavailable(
                    "the file has gone or was replaced",
                    where=self.where,
                    hint="Put it back, or start again to use what is there now",
                )
            yield SqliteStatements(connection)
            connection.execute("COMMIT")

    def purge(self) -> bool:
        """Write the write-ahead log back and empty it; `secure_delete` overwrites the rest."""
        with self._connection() as connection:
            ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return not busy

    def close(self) -> None:
        """Close every connection; the last one tidies the write-ahead log away."""
        self._pool.close()
        self._writer.close()

    @contextmanager
    def _queue(self) -> Iterator[None]:
        """Wait for one's turn among threads and processes.

        SQLite's own lock has no queue: who waits for it sleeps and looks again, ever more seldom.
        The kernel wakes the next one at once, and lets a killed process hold nothing.
        """
        with self._turn:
            fcntl.flock(self._writer, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._writer, fcntl.LOCK_UN)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            connection = self._pool.take()
            try:
                yield connection
            except BaseException:
                # It may hold half a transaction, or a file that is no more.
                with suppress(sqlite3.Error):
                    connection.rollback()
                connection.close()
                self._pool.clear()
                raise
            self._pool.give(connection)

    def _make(self) -> None:
        """Make the file where there is none; what is something else is left as it is."""
        connection = self._open("rwc")
        try:
            named = connection.execute("SELECT name FROM sqlite_master").fetchall()
        finally:
            connection.close()
        if named and ("isthmus_version",) not in named:
            raise LogError(
                "a database of something else", where=self.where, hint="Name another file"
            )

    def _connect(self) -> sqlite3.Connection:
        connection = self._open("rw")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _open(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the driver says into what, where and what to do."""
        try:
            yield
        except OSError as error:
            raise LogUnavailable(
                f"{error.filename or 'the file'}: {error.strerror}",
                where=self.where,
                hint=f"Check the permissions of the folder and the space left. {_SAFE}",
            ) from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _REASONS:
                what, hint = _REASONS[code]
                raise LogUnavailable(what, where=self.where, hint=hint) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise LogError(
                    "no event log, or a damaged one",
                    where=self.where,
                    hint="Name another file, or restore it from a copy",
                ) from error
            raise LogError(f"SQLite refused: {error}", where=self.where) from error
