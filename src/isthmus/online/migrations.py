"""The tables of an event log and of its catalogue, and how older ones become today's.

A log remembers the version of its tables. Opening it runs the migrations it lacks, each in one
transaction with its number, under the writer's lock.
"""

from __future__ import annotations

import secrets
import uuid

from isthmus.errors import LogError
from isthmus.online.database import Database, Statements

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # 1: records, events and impressions in one id space
        """CREATE TABLE isthmus_log (
            id TEXT NOT NULL, secret TEXT NOT NULL, head {integer} NOT NULL)""",
        """CREATE TABLE isthmus_records (
            number {integer} PRIMARY KEY, event_id TEXT NOT NULL UNIQUE,
            received DOUBLE PRECISION NOT NULL, shown INTEGER NOT NULL,
            user_id TEXT NOT NULL, domain TEXT NOT NULL, item_id TEXT NOT NULL,
            time DOUBLE PRECISION NOT NULL, kind TEXT, rating DOUBLE PRECISION,
            weight DOUBLE PRECISION, recommendation_id TEXT, rank INTEGER,
            propensity DOUBLE PRECISION)""",
        """CREATE INDEX isthmus_records_of_person
            ON isthmus_records (user_id, shown, time, number)""",
    ),
    (  # 2: people can be erased, old records compacted away
        """CREATE TABLE isthmus_erasures (
            number {integer} PRIMARY KEY, time DOUBLE PRECISION NOT NULL,
            refused_until DOUBLE PRECISION NOT NULL, person TEXT NOT NULL,
            events {integer} NOT NULL, impressions {integer} NOT NULL)""",
        "ALTER TABLE isthmus_log ADD COLUMN last_erasure {integer} NOT NULL DEFAULT 0",
        "ALTER TABLE isthmus_log ADD COLUMN floor DOUBLE PRECISION",
        "ALTER TABLE isthmus_log ADD COLUMN compacted {integer} NOT NULL DEFAULT 0",
    ),
    (  # 3: the catalogue; until then it made its tables itself, so they may be there
        "CREATE TABLE IF NOT EXISTS isthmus_catalogue (head {integer} NOT NULL)",
        """CREATE TABLE IF NOT EXISTS isthmus_items (
            domain TEXT NOT NULL, item_id TEXT NOT NULL, change {integer} NOT NULL,
            described INTEGER NOT NULL, title TEXT, category TEXT, text TEXT,
            attributes TEXT NOT NULL, hidden INTEGER NOT NULL, deleted INTEGER NOT NULL,
            PRIMARY KEY (domain, item_id))""",
        "CREATE INDEX IF NOT EXISTS isthmus_items_by_change ON isthmus_items (change)",
        """CREATE TABLE IF NOT EXISTS isthmus_people (
            user_id TEXT NOT NULL PRIMARY KEY, change {integer} NOT NULL,
            attributes TEXT NOT NULL, hidden INTEGER NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS isthmus_people_by_change ON isthmus_people (change)",
        """INSERT INTO isthmus_catalogue (head)
            SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM isthmus_catalogue)""",
    ),
    (  # 4: how people ask, for warming up with
        """CREATE TABLE isthmus_questions (
            question TEXT NOT NULL PRIMARY KEY, asked DOUBLE PRECISION NOT NULL)""",
    ),
)
VERSION = len(MIGRATIONS)


def migrate(database: Database, *, to: int = VERSION) -> None:
    """Make the tables, or bring older ones up to a version.

    Raises:
        LogError: the tables are newer than this library.
        LogUnavailable: the database cannot be reached or written just now.
    """
    with database.reading() as ask:
        found = _version(database, ask)
    if found > VERSION:
        raise LogError(
            f"written with version {found} of the tables, and this library reads up to {VERSION}",
            where=database.where,
            hint="Upgrade isthmus",
        )
    for version in range(found + 1, to + 1):
        with database.writing() as write:
            # Another process may have been first.
            if _version(database, write) >= version:
                continue
            write.run("CREATE TABLE IF NOT EXISTS isthmus_version (version INTEGER NOT NULL)")
            for statement in MIGRATIONS[version - 1]:
                write.run(statement.format(integer=database.integer))
            if version == 1:
                write.run(
                    "INSERT INTO isthmus_log (id, secret, head) VALUES (?, ?, 0)",
                    (uuid.uuid4().hex, secrets.token_hex(32)),
                )
            write.run("DELETE FROM isthmus_version")
            write.run("INSERT INTO isthmus_version (version) VALUES (?)", (version,))


def _version(database: Database, ask: Statements) -> int:
    if not ask.rows(database.has_table, ("isthmus_version",)):
        return 0
    rows = ask.rows("SELECT version FROM isthmus_version")
    return int(rows[0][0]) if rows else 0
