"""A first configuration from nothing but files: `isthmus init FILES…`.

Looks at the heads of the files, tells interactions from items, pairs them into domains, maps their
columns, and says for each guess what it rests on, so that a person can correct it in a minute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import tomlkit
from tomlkit.items import Table as TomlTable

from isthmus.data.columns import Looks, Role, find, find_by_content, look_at
from isthmus.data.readers import Table, open_table
from isthmus.errors import DataError

_HEAD = 20_000
_MOST_DOMAINS = 60
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


@dataclass(frozen=True)
class Guess:
    """A configuration and what it rests on.

    Attributes:
        toml: the text of `isthmus.toml`, with comments.
        sentences: what was guessed and why, and what is unsure.
    """

    toml: str
    sentences: tuple[str, ...]


@dataclass(eq=False)
class _Seen:
    """A file whose head was looked at."""

    table: Table
    head: pl.DataFrame
    looks: list[Looks]
    columns: dict[Role, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.table.path.name

    @property
    def stem(self) -> str:
        words = re.split(r"[._\-\s]+", self.name.lower())
        kept = [word for word in words if word and word not in _ROLE_WORDS]
        return "_".join(kept)

    def ids(self, role: Role) -> pl.Series:
        return self.head[self.columns[role]].cast(pl.String).drop_nulls().unique()


@dataclass
class _Pair:
    """One domain to be."""

    name: str
    events: _Seen | None = None
    items: _Seen | None = None
    only: dict[str, list[str]] = field(default_factory=dict)


def guess_config(files: Sequence[Path], *, base: Path | None = None) -> Guess:
    """Guess a configuration.

    Args:
        files: tables of interactions, items, people or knowledge.
        base: folder that the configuration will lie in, to which its paths are relative; None: the
            working folder.

    Raises:
        DataError: a file cannot be read, or none of them holds interactions.
    """
    said: list[str] = []
    seen = [_look(Path(path)) for path in files]
    # What was shown has people, items and times too, but is not what they did.
    events = [s for s in seen if _people_table(s) != "impressions" and _as_events(s)]
    rest = [s for s in seen if s not in events]
    people = {name: s for s in rest for name in [_people_table(s)] if name}
    items = [s for s in rest if s not in people.values() and _as_items(s)]
    users = [s for s in rest if s not in people.values() and s not in items and _as_users(s)]
    if users:
        people["users"] = users[0]
    for s in rest:
        if s not in items and s not in people.values():
            said.append(f"{s.name} is left out: {_puzzle(s)}.")
    if not events:
        found = "; ".join(f"{s.name} has {', '.join(look.name for look in s.looks)}" for s in seen)
        raise DataError(
            f"no file of interactions among {len(seen)}: {found}",
            where="isthmus init",
            hint=" ".join(
                ["Interactions have one row per event, with a person and an item", *said]
            ),
        )
    pairs = _pair(events, items, said)
    if len(events) == 1:
        pairs = _split(pairs[0], said) + pairs[1:]
    for pair in pairs:
        _say(pair, said)
    for name, s in people.items():
        said.append(f"{s.name} is taken as people.{name}, by its columns.")
    folder = (base or Path.cwd()).resolve()
    return Guess(_toml(pairs, people, folder), tuple(dict.fromkeys(said)))


def _look(path: Path) -> _Seen:
    table = open_table(path)
    head = table.read(rows=_HEAD)
    return _Seen(table, head, [look_at(column) for column in head.get_columns()])


def _assign(seen: _Seen, roles: Sequence[Role]) -> dict[Role, str]:
    columns: dict[Role, str] = {}
    for role in roles:
        name = find(role, seen.looks, set(columns.values()))
        if name is not None:
            columns[role] = name
    return columns


def _as_events(seen: _Seen) -> bool:
    """Whether rows are events; if so, its columns are assigned."""
    columns = _assign(seen, _EVENT_ROLES)
    looks = {look.name: look for look in seen.looks}
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


def _as_items(seen: _Seen) -> bool:
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


def _as_users(seen: _Seen) -> bool:
    look = next((look for look in seen.looks if look.name == "user_id"), None)
    plain = not any(look.is_list for look in seen.looks)
    return look is not None and look.distinct > 0.99 and plain


def _people_table(seen: _Seen) -> str | None:
    for name, columns in _PEOPLE_TABLES.items():
        if set(columns) <= set(seen.table.columns):
            return name
    return None


def _puzzle(seen: _Seen) -> str:
    """Why a file was not understood, and what would help."""
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
    return f"its columns {', '.join(look.name for look in seen.looks)} fit no table known"


def _pair(events: list[_Seen], items: list[_Seen], said: list[str]) -> list[_Pair]:
    """Domains: files that share a name, then those whose ids overlap."""
    pairs: list[_Pair] = []
    for s in events:
        name = s.stem or re.sub(r"\W+", "_", s.table.path.resolve().parent.name).strip("_")
        taken = {pair.name for pair in pairs}
        pairs.append(_Pair(name if name not in taken else f"{name}_{len(pairs)}", events=s))
    free = list(items)
    for pair in pairs:
        same = [s for s in free if s.stem == pair.name]
        if same:
            pair.items = same[0]
            free.remove(same[0])
    for pair in pairs:
        if pair.items is None and pair.events is not None and free:
            bought = pair.events.ids("item")
            known = [bought.is_in(s.ids("item").implode()).sum() for s in free]
            share = [count / max(len(bought), 1) for count in known]
            best = max(range(len(free)), key=share.__getitem__)
            if share[best] > 0.01 or len(free) == len(pairs) == 1:
                pair.items = free.pop(best)
                said.append(
                    f"{pair.items.name} is taken as the catalogue of {pair.name}: it holds "
                    f"{share[best]:.0%} of the item ids in the head of {pair.events.name}."
                )
    for s in free:
        said.append(f"{s.name} holds items of no domain here: it is a domain without events.")
        pairs.append(_Pair(s.stem or s.table.path.stem, items=s))
    return pairs


def _split(pair: _Pair, said: list[str]) -> list[_Pair]:
    """One domain per value where the only file of interactions has a column of categories."""
    assert pair.events is not None
    name = next(
        (
            look.name
            for look in pair.events.looks
            if re.search(r"domain|categor|department|market|vertical|catalog", look.name.lower())
            and look.name not in pair.events.columns.values()
            and look.is_id
            and 2 <= look.n_distinct <= _MOST_DOMAINS
        ),
        None,
    )
    if name is None:
        return [pair]
    column = pair.events.table.read([name])[name].cast(pl.String)
    counts = (
        column.drop_nulls()
        .value_counts(sort=True, name="n")
        .sort("n", name, descending=[True, False])
    )
    values = counts[name].to_list()[:_MOST_DOMAINS]
    said.append(
        f"{pair.events.name} holds {len(values)} domains, by its column {name!r}: each value "
        f"became a domain with only = {{{name} = […]}}; the largest has "
        f"{counts['n'][0]:,} events, the smallest {counts['n'][-1]:,}. Delete those you do not "
        "want, or take 'only' out to treat the file as one domain."
    )
    numbers = all(re.fullmatch(r"[\d.]+", value) for value in values)
    return [
        _Pair(
            f"{name}_{value}" if numbers else re.sub(r"\W+", "_", value.lower()).strip("_"),
            pair.events,
            pair.items,
            {name: [value]},
        )
        for value in values
    ]


def _say(pair: _Pair, said: list[str]) -> None:
    """How a domain's columns were read, and what is unsure."""
    if pair.events is not None:
        s = pair.events
        mapped = ", ".join(f"{role} = {column!r}" for role, column in s.columns.items())
        where = f"{pair.name}: {s.name}" if not pair.only else s.name
        said.append(f"{where} holds interactions: {mapped}.")
        for role in ("user", "item"):
            if find(role, s.looks, set()) is None:
                said.append(f"Unsure: {s.columns[role]!r} in {s.name} as {role}, by content alone.")
        if "time" not in s.columns:
            kind = "order only" if "order" in s.columns else "neither time nor order"
            said.append(f"{where} has {kind}: no split by time is possible.")
    if pair.items is None:
        if not pair.only:
            said.append(f"{pair.name} has no catalogue: items are known by id only, without text.")
        return
    s = pair.items
    mapped = ", ".join(f"{role} = {column!r}" for role, column in s.columns.items())
    said.append(f"{pair.name}: {s.name} holds items: {mapped}.")
    texts = _texts(s)
    said.append(
        f"The language model reads {' | '.join(texts)} of {s.name}."
        if texts
        else f"Unsure: {s.name} has no column that looks like text; add one to catalogue.text."
    )


def _texts(seen: _Seen) -> list[str]:
    """Title and category, then shorter texts such as a brand, then descriptions."""
    main = [seen.columns[role] for role in ("title", "category") if role in seen.columns]
    taken = {*seen.columns.values()}
    more = []
    while (name := find("text", seen.looks, taken)) is not None:
        more.append(name)
        taken.add(name)
    return main + more


def _toml(pairs: list[_Pair], people: dict[str, _Seen], folder: Path) -> str:
    document = tomlkit.document()
    document.add(tomlkit.comment("Written by 'isthmus init'. Paths are relative to this file."))
    document.add("name", tomlkit.item(folder.name or "isthmus"))
    target = tomlkit.comment(f'target = "{pairs[0].name}"  # one domain of the question; else all')
    document.add(target)
    domains = tomlkit.table(is_super_table=True)
    for pair in pairs:
        domains.add(pair.name, _domain(pair, folder))
    document.add("domains", domains)
    if people:
        section = tomlkit.table()
        for name, s in people.items():
            section.add(name, _relative(s.table.path, folder))
        document.add("people", section)
    cleaning = tomlkit.table()
    cleaning.add("bad_rows", "stop")
    cleaning["bad_rows"].comment("or 'drop': leave out and count rows that cannot be used")
    document.add("cleaning", cleaning)
    return tomlkit.dumps(document)


def _domain(pair: _Pair, folder: Path) -> TomlTable:
    section = tomlkit.table()
    if pair.events is not None:
        section.add("interactions", _relative(pair.events.table.path, folder))
    if pair.items is not None:
        section.add("items", _relative(pair.items.table.path, folder))
    if pair.only:
        section.add("only", _inline(pair.only))
    if pair.events is not None:
        section.add("events", _inline(dict(pair.events.columns)))
    if pair.items is not None:
        catalogue: dict[str, Any] = {str(r): c for r, c in pair.items.columns.items()}
        texts = _texts(pair.items)
        vectors = {look.name: look.name for look in pair.items.looks if look.is_vector}
        catalogue |= ({"text": texts} if texts else {}) | ({"vectors": vectors} if vectors else {})
        section.add("catalogue", _inline(catalogue))
    return section


def _inline(values: dict[Any, Any]) -> Any:
    table = tomlkit.inline_table()
    for key, value in values.items():
        table.add(key, _inline(value) if isinstance(value, dict) else value)
    return table


def _relative(path: Path, folder: Path) -> str:
    absolute = path.resolve()
    try:
        return Path(os.path.relpath(absolute, folder)).as_posix()
    except ValueError:
        return absolute.as_posix()
