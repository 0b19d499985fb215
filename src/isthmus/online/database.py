"""What the event log asks of a database: statements, one writer at a time, errors of one kind.

SQL is written once, with `?` for values; each database makes of it what its driver wants.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from isthmus.errors import LogUnavailable

Row = tuple[Any, ...]


class Statements(Protocol):
    """Runs SQL."""

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run one statement, and give the number of rows that it changed."""

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for every row."""

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a question."""


class Database(Protocol):
    """Where tables live; safe for use by many threads.

    Every method, and every statement within, may raise LogUnavailable where the database is busy,
    full or out of reach just now, and LogError where waiting will not help. The next call tries
    anew.

    Attributes:
        where: how it is called in messages.
        integer: the column type of 64-bit integers that can be a primary key.
        has_table: a question that has a row if the table of a name exists.
    """

    where: str
    integer: str
    has_table: str

    def reading(self) -> AbstractContextManager[Statements]:
        """Questions, each answered from what is committed."""

    def writing(self) -> AbstractContextManager[Statements]:
        """A transaction of the only writer of all processes.

        On disk when the block has ended, undone where it raises.
        """

    def purge(self) -> bool:
        """Have deleted rows leave the database's files; False where others stand in the way."""

    def close(self) -> None:
        """Let go of it."""


class Closing(Protocol):
    """A driver's connection."""

    def close(self) -> object:
        """Let go of it."""


Connection = TypeVar("Connection", bound=Closing)


class Pool(Generic[Connection]):
    """Connections that nobody uses at the moment, the latest used first.

    Args:
        connect: opens one more.
        alive: whether one that has been idle for a while can still be used.
        where: how the database is called in messages.
    """

    CHECK_AFTER_SECONDS = 1.0

    def __init__(
        self, connect: Callable[[], Connection], alive: Callable[[Connection], bool], where: str
    ) -> None:
        self._connect, self._alive, self._where = connect, alive, where
        self._idle: list[tuple[Connection, float]] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self) -> Connection:
        """One for the caller alone, to be given back unless an error was seen on it.

        Raises:
            LogUnavailable: the pool was closed.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise LogUnavailable("the event log was closed", where=self._where)
                if not self._idle:
                    break
                connection, since = self._idle.pop()
            fresh = time.monotonic() - since < self.CHECK_AFTER_SECONDS
            if fresh or self._alive(connection):
                return connection
            connection.close()
        return self._connect()

    def give(self, connection: Connection) -> None:
        """Give one back."""
        with self._lock:
            if not self._closed:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def clear(self) -> None:
        """Close what is idle: after an error of one, the others cannot be trusted."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def close(self) -> None:
        """Close what is idle, and hand out nothing any more."""
        with self._lock:
            self._closed = True
        self.clear()
