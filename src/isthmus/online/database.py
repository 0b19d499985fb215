"""What the event log asks of a database: transactions, and errors of one kind.

SQL is written once, with `?` for values; each database makes of it what its driver wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]


class Transaction(Protocol):
    """Statements that take effect together or not at all."""

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run one statement, and give the number of rows that it changed."""

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for every row."""

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a question."""


class Database(Protocol):
    """Where tables live; safe for use by many threads.

    Attributes:
        where: how it is called in messages.
        integer: the column type of 64-bit integers that can be a primary key.
        has_table: a question that has a row if the table of a name exists.
    """

    where: str
    integer: str
    has_table: str

    def transaction(self, *, write: bool = False) -> AbstractContextManager[Transaction]:
        """A transaction, committed to disk at the end, rolled back by an exception.

        Args:
            write: be the only writer, of all processes, until the end.

        Raises:
            LogUnavailable: busy, full or out of reach; also from within and at the end.
            LogError: it holds something else, or is damaged.
        """

    def tidy(self) -> None:
        """Leave nothing readable of deleted rows where that is in the database's power."""

    def close(self) -> None:
        """Let go of it."""
