"""One file of a user's: what kind of table it is, and which of its columns holds what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from isthmus.data.columns import Looks, Role, find, find_by_content, look_at
from isthmus.data.readers import Table, open_table

_HEAD = 20_000
_EVENT_ROLES: tuple[Role, ...] = ("user", "item", "time", "order", "rating", "kind", "weight")
_ITEM_ROLES: tuple[Role, ...] = ("item", "title", "category")
_ROLE_WORDS = {
    *("interactions", "interaction", "events", "event", "ratings", "rating", "reviews", "review"),
    *("clicks", "views", "purchases", "orders", "logs", "log", "actions", "history", "behavior"),
    *("items", "item", "catalog", "catalogue", "meta", "metadata", "products", "articles"),
    *("info", "5", "core", "train", "data", "csv", "parquet", "jsonl", "ndjson", "json", "tsv"),
    *("gz", "zst", "txt", "dat", "tab", "pq"),
}
_PEOPLE_TABLES = {
    "links": ("user_id", "other_id"),
    "groups": ("user_id", "group_id"),
    "triples": ("head", "relation", "tail"),
    "mapping": ("domain", "user_id", "person_id"),
    "impressions": ("user_id", "domain", "item_id", "propensity"),
}


@dataclass(eq=False)
class Seen:
    """A file whose head was looked at.

    Attributes:
        table: the file.
        head: its first rows.
        looks: how each column looks.
        columns: what holds what, once the table is known for what it is.
        name: what the file is called in messages; empty: its name without folders.
    """

    table: Table
    head: pl.DataFrame
    looks: list[Looks]
    columns: dict[Role, str] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or self.table.path.name

    @property
    def stem(self) -> str:
        """What of the file's name tells it from others of its kind."""
        words = re.split(r"[._\-\s]+", self.table.path.name.lower())
        kept = [word for word in words if word and word not in _ROLE_WORDS]
        return "_".join(kept)

    @property
    def folder(self) -> Path:
        """That the file lies in."""
        return self.table.path.resolve().parent

    @property
    def label(self) -> str:
        """What the file is about, by its name, else by its folder's."""
        return self.stem or self.folder.name

    def ids(self, role: Role) -> pl.Series:
        """Distinct values of the column of that role, as text."""
        return self.head[self.columns[role]].cast(pl.String).drop_nulls().unique()


def look_over(path: Path) -> Seen:
    """Read the head of a file.

    Raises:
        DataError: it cannot be read.
    """
    table = open_table(path)
    head = table.read(rows=_HEAD)
    return Seen(table, head, [look_at(column) for column in head.get_columns()])


def _assign(seen: Seen, roles: Sequence[Role]) -> dict[Role, str]:
    columns: dict[Role, str] = {}
    for role in roles:
        name = find(role, seen.looks, set(columns.values()))
        if name is not None:
            columns[role] = name
    return columns


def as_events(seen: Seen) -> bool:
    """Whether rows are events; if so, its columns are assigned."""
    columns = _assign(seen, _EVENT_ROLES)
    looks = {look.name: look for look in seen.looks}
    moment = _only_moment(seen)
    if moment is not None and "time" not in columns and moment not in columns.values():
        columns["time"] = moment
    if "user" in columns and "item" not in columns:
        other = find_by_content("item", seen.looks, set(columns.values()))
        clocked = "time" in columns or "order" in columns or "rating" in columns
        if other is not None and clocked and looks[columns["user"]].distinct < 0.99:
            columns["item"] = other
    if "user" not in columns and ("time" in columns or "rating" in columns):
        # Nothing is called a person: two keys that repeat beside a time or rating will do.
        taken = {name for role, name in columns.items() if role != "item"}
        first = find_by_content("user", seen.looks, taken)
        second = find_by_content("item", seen.looks, {*taken, first or ""})
        if first and second and looks[first].distinct < 0.9 and looks[second].distinct < 0.9:
            columns |= {"user": first, "item": second}
    if not {"user", "item"} <= columns.keys():
        return False
    seen.columns = columns
    return True


def _only_moment(seen: Seen) -> str | None:
    """The one column of moments in a table that is none of items or people, by content alone."""
    moments = [look.name for look in seen.looks if look.is_moment]
    keyed = any(look.is_id and look.distinct > 0.99 for look in seen.looks if not look.is_moment)
    return moments[0] if len(moments) == 1 and not keyed and people_table(seen) is None else None


def as_items(seen: Seen) -> bool:
    """Whether rows are items; if so, its columns are assigned."""
    columns = _assign(seen, _ITEM_ROLES)
    if "item" not in columns:
        named = next((look.name for look in seen.looks if look.name.lower() in ("id", "key")), None)
        unique = [look.name for look in seen.looks if look.is_id and look.distinct > 0.99]
        name = named or (unique[0] if unique and len(columns) else None)
        if name is None:
            return False
        columns["item"] = name
    look = next(look for look in seen.looks if look.name == columns["item"])
    if look.distinct < 0.5 or find("user", seen.looks, {columns["item"]}):
        return False
    seen.columns = columns
    return True


def as_users(seen: Seen) -> bool:
    """Whether rows are people with attributes."""
    look = next((look for look in seen.looks if look.name == "user_id"), None)
    plain = not any(look.is_list for look in seen.looks)
    return look is not None and look.distinct > 0.99 and plain


def people_table(seen: Seen) -> str | None:
    """Which table about people or knowledge it is, None for none of them."""
    for name, columns in _PEOPLE_TABLES.items():
        if set(columns) <= set(seen.table.columns):
            return name
    return None


def puzzle(seen: Seen) -> str:
    """Why a file was not understood, and what would help."""
    if seen.head.is_empty():
        return "it has no rows"
    lists = [look.name for look in seen.looks if look.is_list]
    if lists:
        return (
            f"{', '.join(lists)} hold lists; write one row per event, with columns user_id, "
            "item_id and a time or order"
        )
    keys = [look.name for look in seen.looks if look.is_id]
    if len(seen.looks) == len(keys) == 2:
        return (
            f"{keys[0]} and {keys[1]} may be links between people; if so, rename them to user_id "
            "and other_id and set people.links"
        )
    names = ", ".join(look.name for look in seen.looks)
    return (
        f"its columns {names} fit no table known; if it holds events, name it in "
        "domains.NAME.interactions and its columns in domains.NAME.events, if items, in "
        "domains.NAME.items and domains.NAME.catalogue"
    )


def texts_of(seen: Seen) -> list[str]:
    """Title and category, then shorter texts such as a brand, then descriptions."""
    main = [seen.columns[role] for role in ("title", "category") if role in seen.columns]
    taken = {*seen.columns.values()}
    more = []
    while (name := find("text", seen.looks, taken)) is not None:
        more.append(name)
        taken.add(name)
    return main + more
