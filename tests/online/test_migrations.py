"""Older tables become today's, and newer ones are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from log_samples import NOW, Opener, event, impression

from isthmus.errors import LogError
from isthmus.online import migrations
from isthmus.online.catalogue import open_catalogue
from isthmus.online.database import Database
from isthmus.online.events import Outcome
from isthmus.online.log import open_log
from isthmus.online.migrations import VERSION, migrate


def database_at(place: str) -> Database:
    if "://" in place:
        from isthmus.online.postgres import PostgresDatabase

        return PostgresDatabase(place)
    from isthmus.online.sqlite import SqliteDatabase

    return SqliteDatabase(Path(place))


FIRST = (
    "event_id, shown, user_id, domain, item_id, time, kind, rating, weight, recommendation_id, "
    "rank, propensity"
)


UNVERSIONED = (
    "CREATE TABLE isthmus_catalogue (head {integer} NOT NULL)",
    """CREATE TABLE isthmus_items (
        domain TEXT NOT NULL, item_id TEXT NOT NULL, change {integer} NOT NULL,
        described INTEGER NOT NULL, title TEXT, category TEXT, text TEXT, attributes TEXT NOT NULL,
        hidden INTEGER NOT NULL, deleted INTEGER NOT NULL, PRIMARY KEY (domain, item_id))""",
    "CREATE INDEX isthmus_items_by_change ON isthmus_items (change)",
    """CREATE TABLE isthmus_people (
        user_id TEXT NOT NULL PRIMARY KEY, change {integer} NOT NULL, attributes TEXT NOT NULL,
        hidden INTEGER NOT NULL)""",
    "CREATE INDEX isthmus_people_by_change ON isthmus_people (change)",
)
LATEST_TABLE = "isthmus_questions"


def test_a_log_of_the_first_version_becomes_the_latest(place: str, opened: Opener) -> None:
    old = database_at(place)
    migrate(old, to=1)
    with old.writing() as write:
        write.many(
            f"INSERT INTO isthmus_records (number, received, {FIRST}) "
            f"VALUES (?, {NOW}, {', '.join('?' * 12)})",
            [
                (1, "e", 0, "ann", "books", "b1", NOW, "buy", 5.0, 1.0, None, None, None),
                (2, "i", 1, "ann", "books", "b1", NOW, None, None, None, "r1", 3, 0.5),
            ],
        )
        write.run("UPDATE isthmus_log SET head = 2")
        ((name,),) = write.rows("SELECT id FROM isthmus_log")
    old.close()
    log = opened(place)
    assert (log.id, log.head(), log.compacted(), log.erased()) == (name, 2, 0, [])
    held = [event("e", kind="buy", rating=5.0), impression("i", rank=3, propensity=0.5)]
    assert [logged.record for logged in log.read()] == held
    assert log.append([*held, event("new")]) == [Outcome.REPEATED] * 2 + [Outcome.ACCEPTED]
    assert log.erase("ann").offset == 4
    assert log.compact(before=NOW + 1).events == 0


def test_registrations_from_before_their_tables_had_a_version_stay(place: str) -> None:
    old = database_at(place)
    migrate(old, to=2)
    with old.writing() as write:
        for statement in UNVERSIONED:
            write.run(statement.format(integer=old.integer))
        write.run("INSERT INTO isthmus_catalogue (head) VALUES (2)")
        write.run("INSERT INTO isthmus_people VALUES ('ann', 2, '{}', 1)")
    old.close()
    catalogue = open_catalogue(place)
    assert (catalogue.head(), catalogue.hidden_people()) == (2, {"ann"})
    assert catalogue.hide_person("bob") == 3
    catalogue.close()


def test_a_log_has_the_tables_of_its_catalogue_as_well(place: str, opened: Opener) -> None:
    opened(place)
    database = database_at(place)
    with database.reading() as ask:
        assert ask.rows("SELECT head FROM isthmus_catalogue") == [(0,)]
        assert ask.rows("SELECT * FROM isthmus_people") == []
    database.close()


@pytest.mark.parametrize("first", range(1, VERSION))
def test_every_version_leads_to_the_same_tables(first: int, place: str, tmp_path: Path) -> None:
    database = database_at(place)
    migrate(database, to=first)
    migrate(database)
    migrate(database)
    with database.reading() as ask:
        assert ask.rows("SELECT version FROM isthmus_version") == [(VERSION,)]
        assert len(ask.rows("SELECT id FROM isthmus_log")) == 1
    database.close()


def test_a_migration_that_fails_changes_nothing(
    place: str, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = database_at(place)
    migrate(database, to=VERSION - 1)
    broken = (*migrations.MIGRATIONS[:-1], (*migrations.MIGRATIONS[-1], "SELECT nonsense"))
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", broken)
        with pytest.raises(LogError):
            migrate(database)
    with database.reading() as ask:
        assert ask.rows("SELECT version FROM isthmus_version") == [(VERSION - 1,)]
        assert ask.rows(database.has_table, (LATEST_TABLE,)) == []
    database.close()
    assert opened(place).append([event("e")]) == [Outcome.ACCEPTED]


def test_a_newer_log_is_refused(place: str, opened: Opener) -> None:
    opened(place)
    database = database_at(place)
    with database.writing() as write:
        write.run("UPDATE isthmus_version SET version = 99")
    database.close()
    with pytest.raises(LogError, match=r"version 99 .* Upgrade isthmus"):
        opened(place)


def test_many_may_open_a_new_log_at_once(place: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        logs = list(pool.map(lambda _: open_log(place), range(4)))
    assert len({log.id for log in logs}) == 1
    for log in logs:
        log.close()
