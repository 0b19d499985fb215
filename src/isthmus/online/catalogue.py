"""What is registered while a service runs: items that arrive, change or go, and people's wishes.

Kept durably in the event log's database. Every change has a number that rises, so that whoever
serves can ask what has changed since, and what it knew before stays right. To be told the same once
more is no change: a caller without an answer may ask again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.data.dataset import WITHDRAWN
from isthmus.failpoints import reached
from isthmus.online.database import Database, Row, Statements
from isthmus.online.migrations import migrate

Value = str | float | bool

OWN = ("item_id", "text", "title", "category", WITHDRAWN)
"""What every item has a place of its own for; no attribute is called so."""

_ITEM = "domain, item_id, described, title, category, text, attributes, hidden, deleted, change"
_DESCRIBED = ("described", "title", "category", "text", "attributes", "deleted")


def _differs(table: str, *columns: str) -> str:
    """SQL: whether any column is to become something else; where none is, nothing has changed."""
    return " OR ".join(
        f"{table}.{c} <> excluded.{c} OR ({table}.{c} IS NULL) <> (excluded.{c} IS NULL)"
        for c in columns
    )


_DESCRIBE = f"""INSERT INTO isthmus_items
    (domain, item_id, change, described, title, category, text, attributes, hidden, deleted)
    VALUES (?, ?, ?, 1, ?, ?, ?, ?, 0, 0)
    ON CONFLICT (domain, item_id) DO UPDATE SET change = excluded.change, described = 1,
    title = excluded.title, category = excluded.category, text = excluded.text,
    attributes = excluded.attributes, deleted = 0
    WHERE {_differs("isthmus_items", *_DESCRIBED)}"""
_MARK = """INSERT INTO isthmus_items
    (domain, item_id, change, described, attributes, hidden, deleted)
    VALUES (?, ?, ?, 0, '{{}}', ?, ?)
    ON CONFLICT (domain, item_id) DO UPDATE
    SET change = excluded.change, {column} = excluded.{column}
    WHERE {differs}"""


@dataclass(frozen=True, slots=True)
class Item:
    """What is registered of an item.

    Attributes:
        domain: name of its catalogue.
        item_id: raw id.
        title: as people read it.
        category: a path, levels joined by " > ".
        text: what the language model reads; None: the title.
        attributes: anything else that filters may ask for.
        described: whether the four above were given here; else only the marks below were, and
            what the model knows of the item stands.
        hidden: not to be offered for now.
        deleted: not to be offered, nor to be reported on.
        change: number of the latest change.
    """

    domain: str
    item_id: str
    title: str | None = None
    category: str | None = None
    text: str | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)
    described: bool = True
    hidden: bool = False
    deleted: bool = False
    change: int = 0


@dataclass(frozen=True, slots=True)
class Person:
    """What is registered of a person.

    Attributes:
        user_id: raw id.
        attributes: anything worth keeping.
        hidden: they want nothing of theirs recorded or used.
        change: number of the latest change.
    """

    user_id: str
    attributes: Mapping[str, Value] = field(default_factory=dict)
    hidden: bool = False
    change: int = 0


class Catalogue:
    """Registered items and people; safe for use by many threads and processes; a `Holder`.

    Methods raise LogUnavailable where the database is busy, full or out of reach; then nothing has
    changed.

    Args:
        database: that of the event log; its tables are made where there are none.
    """

    name = "registrations"

    def __init__(self, database: Database) -> None:
        migrate(database)
        self._database = database

    def head(self) -> int:
        """Number of the latest change; 0 for none."""
        with self._database.reading() as ask:
            return _head(ask)

    def describe(self, items: Sequence[Item]) -> int:
        """Take in items, or new descriptions of known ones; deleted ones are back.

        Returns:
            Number of the last of these changes.
        """
        with self._changing() as write:
            head = _head(write)
            write.many(
                _DESCRIBE,
                (
                    (i.domain, i.item_id, head + n, i.title, i.category, i.text, _json(i))
                    for n, i in enumerate(items, 1)
                ),
            )
            return _moved(write, head + len(items))

    def hide(self, domain: str, item_id: str, *, hidden: bool = True) -> int:
        """Offer an item no more, or again; gives the number of the change."""
        return self._mark("hidden", domain, item_id, hidden)

    def delete(self, domain: str, item_id: str) -> int:
        """Take an item out; gives the number of the change."""
        return self._mark("deleted", domain, item_id, True)

    def items(self, after: int = 0, limit: int = 10_000) -> list[Item]:
        """Items whose latest change has a number above `after`, by that number."""
        with self._database.reading() as ask:
            rows = ask.rows(
                f"SELECT {_ITEM} FROM isthmus_items WHERE change > ? ORDER BY change LIMIT ?",
                (after, limit),
            )
        return [_item(row) for row in rows]

    def item(self, domain: str, item_id: str) -> Item | None:
        """What is registered of one item."""
        with self._database.reading() as ask:
            rows = ask.rows(
                f"SELECT {_ITEM} FROM isthmus_items WHERE domain = ? AND item_id = ?",
                (domain, item_id),
            )
        return _item(rows[0]) if rows else None

    def put_person(self, user_id: str, attributes: Mapping[str, Value]) -> int:
        """Register a person, or what is new of them; gives the number of the change."""
        with self._changing() as write:
            change = _head(write) + 1
            write.run(
                "INSERT INTO isthmus_people (user_id, change, attributes, hidden) "
                "VALUES (?, ?, ?, 0) ON CONFLICT (user_id) DO UPDATE "
                "SET change = excluded.change, attributes = excluded.attributes "
                f"WHERE {_differs('isthmus_people', 'attributes')}",
                (user_id, change, json.dumps(dict(attributes))),
            )
            return _moved(write, change)

    def hide_person(self, user_id: str, *, hidden: bool = True) -> int:
        """Record and use nothing of a person, or do so again; gives the number of the change."""
        with self._changing() as write:
            change = _head(write) + 1
            write.run(
                "INSERT INTO isthmus_people (user_id, change, attributes, hidden) "
                "VALUES (?, ?, '{}', ?) ON CONFLICT (user_id) DO UPDATE "
                "SET change = excluded.change, hidden = excluded.hidden "
                f"WHERE {_differs('isthmus_people', 'hidden')}",
                (user_id, change, int(hidden)),
            )
            return _moved(write, change)

    def forget(self, user_id: str) -> int:
        """Delete what is registered of a person; gives how many rows there were."""
        with self._changing() as write:
            gone = write.run("DELETE FROM isthmus_people WHERE user_id = ?", (user_id,))
            _moved(write, _head(write) + 1)
        self._database.purge()
        return gone

    def person(self, user_id: str) -> Person | None:
        """What is registered of one person."""
        found = self._people("WHERE user_id = ?", (user_id,))
        return found[0] if found else None

    def people(self, after: str = "", limit: int = 1000) -> list[Person]:
        """Registered people with ids behind `after`, by id."""
        return self._people("WHERE user_id > ? ORDER BY user_id LIMIT ?", (after, limit))

    def hidden_people(self) -> set[str]:
        """Ids of everybody who is hidden."""
        return {person.user_id for person in self._people("WHERE hidden = 1", ())}

    def questions(self) -> list[tuple[str, float]]:
        """Questions to warm up with, the latest last; when each was asked, Unix seconds."""
        with self._database.reading() as ask:
            rows = ask.rows(
                "SELECT question, asked FROM isthmus_questions ORDER BY asked, question"
            )
        return [(str(question), float(asked)) for question, asked in rows]

    def keep_questions(self, asked: Mapping[str, float], most: int) -> None:
        """Keep questions, which must tell of nobody, for the next start.

        Args:
            asked: question to when it was last asked, Unix seconds.
            most: how many are kept, the latest.
        """
        with self._database.writing() as write:
            write.many(
                "INSERT INTO isthmus_questions (question, asked) VALUES (?, ?) "
                "ON CONFLICT (question) DO UPDATE SET asked = excluded.asked",
                list(asked.items()),
            )
            write.run(
                "DELETE FROM isthmus_questions WHERE question NOT IN (SELECT question "
                "FROM isthmus_questions ORDER BY asked DESC, question LIMIT ?)",
                (most,),
            )

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    @contextmanager
    def _changing(self) -> Iterator[Statements]:
        with self._database.writing() as write:
            yield write
            reached("catalogue-written")
        reached("catalogue-committed")

    def _people(self, condition: str, values: Sequence[object]) -> list[Person]:
        with self._database.reading() as ask:
            rows = ask.rows(
                f"SELECT user_id, attributes, hidden, change FROM isthmus_people {condition}",
                values,
            )
        return [Person(row[0], json.loads(row[1]), bool(row[2]), row[3]) for row in rows]

    def _mark(self, column: str, domain: str, item_id: str, value: bool) -> int:
        marks = tuple(int(value) if name == column else 0 for name in ("hidden", "deleted"))
        with self._changing() as write:
            change = _head(write) + 1
            statement = _MARK.format(column=column, differs=_differs("isthmus_items", column))
            write.run(statement, (domain, item_id, change, *marks))
            return _moved(write, change)


def open_catalogue(where: str | Path) -> Catalogue:
    """The catalogue beside an event log, by the log's file or `postgresql://…` URL.

    Raises:
        LogUnavailable: it cannot be reached just now.
        LogError: the file holds something else.
    """
    if "://" in str(where):
        from isthmus.online.postgres import PostgresDatabase

        return Catalogue(PostgresDatabase(str(where)))
    from isthmus.online.sqlite import SqliteDatabase

    return Catalogue(SqliteDatabase(Path(where)))


def _head(ask: Statements) -> int:
    ((head,),) = ask.rows("SELECT head FROM isthmus_catalogue")
    return int(head)


def _moved(write: Statements, head: int) -> int:
    write.run("UPDATE isthmus_catalogue SET head = ?", (head,))
    return head


def _json(item: Item) -> str:
    return json.dumps(dict(item.attributes), ensure_ascii=False)


def _item(row: Row) -> Item:
    domain, item_id, described, title, category, text, attributes, hidden, deleted, change = row
    return Item(
        domain=domain,
        item_id=item_id,
        title=title,
        category=category,
        text=text,
        attributes=json.loads(attributes),
        described=bool(described),
        hidden=bool(hidden),
        deleted=bool(deleted),
        change=change,
    )
