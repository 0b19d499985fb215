"""Disk full, server gone, file replaced: a clear error, nothing acknowledged lost, and back by
itself."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from log_samples import Opener, event

from isthmus.errors import ConfigError, LogError, LogUnavailable
from isthmus.online import sqlite
from isthmus.online.database import Pool
from isthmus.online.events import Outcome
from isthmus.online.log import EventLog
from postgres_cluster import Cluster

A = Outcome.ACCEPTED
LONG = "x" * 250


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def until_it_fails(log: EventLog, most: int = 3000) -> tuple[list[str], LogUnavailable]:
    """Append until that is refused: what was acknowledged, and the error."""
    acknowledged: list[str] = []
    for i in range(most):
        try:
            assert log.append([event(f"e{i}", item_id=LONG)]) == [A]
        except LogUnavailable as error:
            return acknowledged, error
        acknowledged.append(f"e{i}")
    raise AssertionError("nothing failed")


def ids(log: EventLog) -> list[str]:
    return [logged.record.event_id for logged in log.read()]


def works_again(log: EventLog, acknowledged: list[str]) -> None:
    assert ids(log) == acknowledged
    assert log.append([event("after")]) == [A]
    assert ids(log) == [*acknowledged, "after"]
    assert [logged.offset for logged in log.read()] == list(range(1, len(acknowledged) + 2))


def test_a_full_sqlite_disk(file: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, pages = sqlite.SqliteDatabase._connect, 30

    def small(self: sqlite.SqliteDatabase) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sqlite.SqliteDatabase, "_connect", small)
    log = opened(file)
    acknowledged, error = until_it_fails(log)
    assert "the disk is full" in str(error)
    assert error.retry_after > 0
    assert len(acknowledged) > 10
    pages = 1_000_000
    works_again(log, acknowledged)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_sqlite_file_that_the_system_lets_grow_no_further(file: Path, opened: Opener) -> None:
    log = opened(file)
    with no_file_above(300_000):
        acknowledged, error = until_it_fails(log)
        assert "disk" in str(error)
        assert "safe" in str(error)
    works_again(log, acknowledged)


def test_a_sqlite_file_that_was_moved_away_takes_nothing_until_it_is_back(
    file: Path, opened: Opener
) -> None:
    log = opened(file)
    log.append([event("e1")])
    aside = file.with_name("aside.db")
    file.rename(aside)
    for _ in range(2):
        with pytest.raises(LogUnavailable):
            log.append([event("e2")])
    assert not file.exists()
    aside.rename(file)
    works_again(log, ["e1"])


def test_a_sqlite_file_that_another_process_keeps_busy(
    file: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    log = opened(file)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailable, match="another process is writing"):
        log.append([event("e1")])
    assert ids(log) == []
    other.rollback()
    other.close()
    works_again(log, [])


def test_every_sqlite_connection_flushes_each_commit(file: Path) -> None:
    database = sqlite.SqliteDatabase(file)
    with database.reading() as one, database.writing() as two:
        for statements in (one, two):
            assert statements.rows("PRAGMA synchronous") == [(2,)]
            assert statements.rows("PRAGMA journal_mode") == [("wal",)]
    database.close()


def test_what_is_no_sqlite_log_is_left_alone(file: Path, opened: Opener) -> None:
    file.write_text("once upon a time" * 100)
    with pytest.raises(LogError, match="no event log"):
        opened(file)
    assert file.read_text().startswith("once upon")
    file.unlink()
    foreign = sqlite3.connect(file)
    foreign.execute("CREATE TABLE cats (name TEXT)")
    foreign.commit()
    foreign.close()
    before = file.read_bytes()
    with pytest.raises(LogError, match="something else"):
        opened(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    with pytest.raises(LogError, match="a folder"):
        opened(file.parent)
    with pytest.raises(LogError, match="missing"):
        opened(file.parent / "no" / "events.db")


def test_erased_rows_are_not_left_in_the_sqlite_files(file: Path, opened: Opener) -> None:
    log = opened(file)
    log.append([event("secret-event", "secret-person"), event("e2")])
    assert b"secret-person" in file.read_bytes() + file.with_name("events.db-wal").read_bytes()
    assert log.erase("secret-person").purged
    log.append([event("e3")])
    for left in file.parent.iterdir():
        assert b"secret-" not in left.read_bytes()


def test_an_erasure_holds_where_a_reader_keeps_the_old_pages(
    file: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    log = opened(file)
    log.append([event("e1")])
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM isthmus_records").fetchall()
    receipt = log.erase("ann")
    assert receipt.events == 1
    assert not receipt.purged
    assert ids(log) == []
    reader.close()


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.fresh()


def lose_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'isthmus'"
        )


def test_a_lost_connection_is_one_error_and_then_forgotten(url: str, opened: Opener) -> None:
    log = opened(url)
    log.append([event("e1")])
    lose_connections(url)
    with pytest.raises(LogUnavailable, match="cannot be reached"):
        log.append([event("e2")])
    works_again(log, ["e1"])


def test_connections_that_went_while_idle_are_not_even_noticed(
    url: str, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "CHECK_AFTER_SECONDS", 0.0)
    log = opened(url)
    log.append([event("e1")])
    lose_connections(url)
    works_again(log, ["e1"])


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_dies_and_comes_back(
    how: str, cluster: Cluster, url: str, opened: Opener
) -> None:
    log = opened(url)
    log.append([event("e1")])
    getattr(cluster, how)()
    try:
        for _ in range(2):
            with pytest.raises(LogUnavailable):
                log.append([event("e2")])
        with pytest.raises(LogUnavailable):
            log.history("ann")
        with pytest.raises(LogUnavailable):
            opened(url)
    finally:
        cluster.start()
    works_again(log, ["e1"])


@pytest.mark.parametrize("condition", ["disk_full", "io_error", "read_only_sql_transaction"])
def test_a_server_without_space(condition: str, url: str, opened: Opener) -> None:
    log = opened(url)
    log.append([event("e1")])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '{condition}'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER fail BEFORE INSERT ON isthmus_records EXECUTE FUNCTION fail()"
        )
        with pytest.raises(LogUnavailable, match="no space"):
            log.append([event("e2")])
        connection.execute("DROP TRIGGER fail ON isthmus_records")
    works_again(log, ["e1"])


def test_a_server_set_to_acknowledge_early_is_overruled(url: str) -> None:
    from isthmus.online.postgres import PostgresDatabase

    database = PostgresDatabase(f"{url}%20-csynchronous_commit%3Doff")
    with database.writing() as write:
        assert write.rows("SHOW synchronous_commit") == [("on",)]
    database.close()


def test_bad_urls_are_explained_and_passwords_not_repeated(opened: Opener) -> None:
    with pytest.raises(ConfigError, match="no URL of a PostgreSQL database"):
        opened("postgresql://[nowhere")
    with pytest.raises(LogUnavailable, match="cannot be reached") as error:
        opened("postgresql://me:secret@/none?host=/nowhere")
    assert "secret" not in str(error.value)
