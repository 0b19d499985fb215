"""PostgreSQL under the event log, through psycopg 3: for several machines, or many processes.

Writers, of all processes, take turns by an advisory lock held until after the commit, so offsets
appear in order for every reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from isthmus.errors import ConfigError, LogError, LogUnavailable
from isthmus.online.database import Row

try:
    import psycopg
except ImportError:
    raise ConfigError(
        "an event log in PostgreSQL needs psycopg, which is not installed",
        hint="Install it with: pip install 'isthmus[postgres]'",
    ) from None

# "isthmus" in ASCII, as one number.
_WRITER = int.from_bytes(b"isthmus", "big")
_CONNECT_SECONDS = 5


class PostgresTransaction:
    """Statements on one connection."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """See `Transaction`."""
        return self._connection.execute(_native(sql), values).rowcount

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """See `Transaction`."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_native(sql), rows)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """See `Transaction`."""
        return self._connection.execute(_native(sql), values).fetchall()


class PostgresDatabase:
    """See `Database`.

    Args:
        url: `postgresql://user@host/name`; whatever libpq takes.
    """

    integer = "BIGINT"
    has_table = "SELECT 1 WHERE to_regclass(?) IS NOT NULL"

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            named: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error as error:
            raise ConfigError(
                f"no URL of a PostgreSQL database: {error}",
                hint="Write postgresql://USER@HOST/DATABASE",
            ) from None
        named.pop("password", None)
        self.where = psycopg.conninfo.make_conninfo(**named)
        self._idle: list[psycopg.Connection[Row]] = []

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[PostgresTransaction]:
        """See `Database`."""
        try:
            connection = self._take()
            try:
                if write:
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_WRITER,))
                yield PostgresTransaction(connection)
                connection.commit()
            except BaseException:
                with suppress(psycopg.Error):
                    connection.close()
                raise
            self._idle.append(connection)
        except psycopg.Error as error:
            raise self._explained(error) from error

    def tidy(self) -> None:
        """Vacuum the records, so that deleted rows leave their pages."""
        try:
            with psycopg.connect(
                self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS
            ) as connection:
                connection.execute("VACUUM isthmus_records")
        except psycopg.Error as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Close every connection."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> psycopg.Connection[Row]:
        while self._idle:
            with suppress(IndexError):
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
        connection = psycopg.connect(self._url, connect_timeout=_CONNECT_SECONDS)
        # A server may be set to acknowledge before the disk does.
        connection.execute("SET synchronous_commit = on")
        connection.commit()
        return connection

    def _explained(self, error: psycopg.Error) -> LogError:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, psycopg.OperationalError):
            return LogUnavailable(
                f"the database cannot be reached or written: {what}",
                where=self.where,
                hint="Check the server; what was acknowledged is safe",
            )
        return LogError(f"the database refused: {what}", where=self.where)


@lru_cache(maxsize=256)
def _native(sql: str) -> bytes:
    """The statement with psycopg's marks for values."""
    return sql.replace("?", "%s").encode()
