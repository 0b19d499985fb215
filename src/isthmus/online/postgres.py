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
from isthmus.online.database import Pool, Row

try:
    import psycopg
except ImportError:
    raise ConfigError(
        "an event log in PostgreSQL needs psycopg, which is not installed",
        hint="Install it with: pip install 'isthmus[postgres]'",
    ) from None

# "isthmus" in ASCII, as one number.
_WRITER = int.from_bytes(b"isthmus", "big")
_BEGIN = f"BEGIN; SELECT pg_advisory_xact_lock({_WRITER})"
# A server that has gone is noticed within seconds. The server itself may be set to acknowledge
# before the disk does, or to wait for ever.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "isthmus",
}
_SESSION = "SET synchronous_commit = on; SET lock_timeout = '10s'"
_PASSING = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)


class PostgresStatements:
    """See `Statements`."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """See `Statements`."""
        return self._connection.execute(_native(sql), values).rowcount

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """See `Statements`."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_native(sql), rows)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """See `Statements`."""
        return self._connection.execute(_native(sql), values).fetchall()


class PostgresDatabase:
    """See `Database`.

    Args:
        url: `postgresql://user@host/name`; whatever libpq takes. The tables go where the user's
            search_path points.

    Raises:
        ConfigError: not such a URL.
    """

    integer = "BIGINT"
    # Not to_regclass: a session may still remember that there was none.
    has_table = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?"

    def __init__(self, url: str) -> None:
        try:
            named: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error as error:
            raise ConfigError(
                f"no URL of a PostgreSQL database: {_first_line(error)}",
                where="online.log",
                hint="Write postgresql://USER@HOST/DATABASE",
            ) from None
        self._conninfo = psycopg.conninfo.make_conninfo(**{**_DEFAULTS, **named})
        named.pop("password", None)
        self.where = psycopg.conninfo.make_conninfo(**named) or "postgresql"
        self._pool = Pool(self._connect, _alive, self.where)

    @contextmanager
    def reading(self) -> Iterator[PostgresStatements]:
        """See `Database`."""
        with self._connection() as connection:
            yield PostgresStatements(connection)

    @contextmanager
    def writing(self) -> Iterator[PostgresStatements]:
        """See `Database`."""
        with self._connection() as connection:
            connection.execute(_BEGIN)
            yield PostgresStatements(connection)
            connection.execute("COMMIT")

    def purge(self) -> bool:
        """Vacuum, so that the room of deleted rows is used again; False, for it is not overwritten.

        Until then a row may be read in the server's files: in a page, in one that an older
        transaction still needs, or in the server's own write-ahead log.
        """
        with self._connection() as connection:
            for table in ("isthmus_records", "isthmus_people"):
                connection.execute(f"VACUUM {table}")
        return False

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Row]]:
        try:
            connection = self._pool.take()
            try:
                yield connection
            except BaseException:
                # Closing it ends its transaction.
                with suppress(psycopg.Error):
                    connection.close()
                self._pool.clear()
                raise
            self._pool.give(connection)
        except _PASSING as error:
            raise LogUnavailable(
                f"the database cannot be reached or written: {_first_line(error)}",
                where=self.where,
                hint="What was acknowledged is safe; try again, or see to the server",
            ) from error
        except psycopg.Error as error:
            raise LogError(
                f"the database refused: {_first_line(error)}", where=self.where
            ) from error

    def _connect(self) -> psycopg.Connection[Row]:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        connection.execute(_SESSION)
        return connection


def _alive(connection: psycopg.Connection[Row]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@lru_cache(maxsize=256)
def _native(sql: str) -> bytes:
    """The statement with psycopg's marks for values."""
    return sql.replace("?", "%s").encode()
