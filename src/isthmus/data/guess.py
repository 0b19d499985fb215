"""A first configuration from nothing but files: `isthmus init FILES…`.

Looks at the heads of the files, tells interactions from items, pairs them into domains, maps their
columns, and says for each guess what it rests on, so that a person can correct it in a minute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

import polars as pl
import tomlkit
from tomlkit.items import Table as TomlTable

from isthmus.config import DomainConfig
from isthmus.data.columns import find
from isthmus.data.recognise import (
    Seen,
    as_events,
    as_items,
    as_users,
    look_over,
    people_table,
    puzzle,
    texts_of,
)
from isthmus.errors import DataError

_MOST_DOMAINS = 60


@dataclass(frozen=True)
class Guess:
    """A configuration and what it rests on.

    Attributes:
        toml: the text of `isthmus.toml`, with comments.
        sentences: what was guessed and why, and what is unsure.
    """

    toml: str
    sentences: tuple[str, ...]


@dataclass
class _Pair:
    """One domain to be."""

    name: str
    events: Seen | None = None
    items: Seen | None = None
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
    seen = [look_over(Path(path)) for path in files]
    names = [s.name for s in seen]
    for s in seen:
        if names.count(s.table.path.name) > 1:
            s.name = s.table.path.as_posix()
    # What was shown has people, items and times too, but is not what they did.
    events = [s for s in seen if people_table(s) != "impressions" and as_events(s)]
    rest = [s for s in seen if s not in events]
    people = {name: s for s in rest for name in [people_table(s)] if name}
    items = [s for s in rest if s not in people.values() and as_items(s)]
    users = [s for s in rest if s not in people.values() and s not in items and as_users(s)]
    if users:
        people["users"] = users[0]
    for s in rest:
        if s not in items and s not in people.values():
            said.append(f"{s.name} is left out: {puzzle(s)}.")
    if not events:
        found = "; ".join(f"{s.name} has {', '.join(look.name for look in s.looks)}" for s in seen)
        raise DataError(
            f"no file of interactions among {len(seen)}: {found}",
            where="isthmus init",
            hint=" ".join(
                ["Interactions have one row per event, with a person and an item.", *said]
            ),
        )
    pairs = _pair(events, items, said)
    if len(events) == 1:
        pairs = _split(pairs[0], pairs[1:], said) + pairs[1:]
    for pair in pairs:
        _say(pair, said)
    for name, s in people.items():
        said.append(f"{s.name} is taken as people.{name}, by its columns.")
    folder = (base or Path.cwd()).resolve()
    return Guess(_toml(pairs, people, folder), tuple(dict.fromkeys(said)))


def guess_domain(
    name: str, *, items: Path | None = None, events: Path | None = None
) -> tuple[DomainConfig, tuple[str, ...]]:
    """Map the columns of one domain's files; gives the mapping, and what it rests on.

    Raises:
        DataError: a file cannot be read, or is no such table.
    """
    pair = _Pair(
        name,
        events=None if events is None else _meant(events, "events", name),
        items=None if items is None else _meant(items, "items", name),
    )
    said: list[str] = []
    _say_events(pair, said)
    _say_items(pair, said)
    section = _domain(pair, Path("/")).unwrap()
    files = {"interactions": events, "items": items}
    return DomainConfig.model_validate(section | files), tuple(said)


def _meant(path: Path, what: str, name: str) -> Seen:
    """A file whose kind was said, with its columns found."""
    seen = look_over(path)
    if (as_events if what == "events" else as_items)(seen):
        return seen
    if seen.head.is_empty():
        raise DataError(
            f"has the columns {', '.join(seen.table.columns)}, and no rows",
            where=str(path),
            hint=f"Name a file that holds {'events' if what == 'events' else 'items'}",
        )
    key, wanted = ("events", "a person and an item") if what == "events" else ("catalogue", "an id")
    raise DataError(
        f"no column for {wanted} is recognised among {', '.join(seen.table.columns)}",
        where=str(path),
        hint=f"Map the columns under domains.{name}.{key} in a file, and name it with --config",
    )


def _pair(events: list[Seen], items: list[Seen], said: list[str]) -> list[_Pair]:
    """Domains: files that share a name, then those whose ids overlap, in one folder first."""
    pairs: list[_Pair] = []
    for s in events:
        pairs.append(_Pair(_free_name(s.label, pairs), events=s))
    fits = _fits(pairs, items)
    free = list(items)
    for fit in fits:
        if fit.pair.items is not None or fit.items not in free:
            continue
        fit.pair.items = fit.items
        free.remove(fit.items)
        if not fit.named:
            rivals = [f for f in fits if f.pair is fit.pair and f.items in free]
            equal = next((f.items.name for f in rivals if f.order == fit.order), None)
            said.append(
                f"{'Unsure: ' if equal else ''}{fit.items.name} is taken as the catalogue of "
                f"{fit.pair.name}: it holds {fit.share:.0%} of the item ids in the head of "
                f"{fit.events.name}{f', and so does {equal}' if equal else ''}."
            )
    for s in free:
        said.append(f"{s.name} holds items of no domain here: it is a domain without events.")
        pairs.append(_Pair(_free_name(s.stem or s.table.path.stem, pairs), items=s))
    return pairs


@dataclass(frozen=True)
class _Fit:
    """A catalogue that may be that of some events.

    Attributes:
        pair: the domain of the events.
        events: of the domain.
        items: the catalogue.
        share: of the item ids in the head of the events that it holds.
    """

    pair: _Pair
    events: Seen
    items: Seen
    share: float

    @property
    def named(self) -> bool:
        """Whether the two share a name."""
        return bool(self.items.stem) and self.items.stem == self.events.label

    @property
    def order(self) -> tuple[bool, bool, bool, float]:
        """Sorts better fits to the front."""
        apart = self.items.folder != self.events.folder
        return (not self.named, apart, self.items.label != self.events.label, -self.share)


def _fits(pairs: list[_Pair], items: list[Seen]) -> list[_Fit]:
    """Every catalogue with all events that it may belong to, the best first, in whatever order."""
    held = [s.ids("item").implode() for s in items]
    fits = []
    for pair in pairs:
        if pair.events is None:
            continue
        bought = pair.events.ids("item")
        for s, ids in zip(items, held, strict=True):
            share = int(bought.is_in(ids).sum()) / max(len(bought), 1)
            fit = _Fit(pair, pair.events, s, share)
            if fit.named or fit.share > 0.01 or len(pairs) == len(items) == 1:
                fits.append(fit)
    return sorted(fits, key=lambda f: (f.order, str(f.events.table.path), str(f.items.table.path)))


def _free_name(words: str, taken: list[_Pair]) -> str:
    """A domain's name of letters, digits and underscores, numbered where it is taken."""
    name = re.sub(r"\W+", "_", words).strip("_") or "domain"
    names = {pair.name for pair in taken}
    return next(n for n in chain([name], (f"{name}_{k}" for k in count(1))) if n not in names)


def _split(pair: _Pair, others: list[_Pair], said: list[str]) -> list[_Pair]:
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
    parts: list[_Pair] = []
    for value in values:
        words = f"{name}_{value}" if numbers else value.lower()
        free = _free_name(words, [*parts, *others])
        parts.append(_Pair(free, pair.events, pair.items, {name: [value]}))
    return parts


def _say(pair: _Pair, said: list[str]) -> None:
    """How a domain's columns were read, and what is unsure."""
    _say_events(pair, said)
    if pair.items is None and not pair.only:
        said.append(f"{pair.name} has no catalogue: items are known by id only, without text.")
    _say_items(pair, said)


def _say_events(pair: _Pair, said: list[str]) -> None:
    if pair.events is not None:
        s = pair.events
        mapped = ", ".join(f"{role} = {column!r}" for role, column in s.columns.items())
        where = f"{pair.name}: {s.name}" if not pair.only else s.name
        said.append(f"{where} holds interactions: {mapped}.")
        for role in ("user", "item", "time"):
            if role in s.columns and find(role, s.looks, set()) is None:
                said.append(f"Unsure: {s.columns[role]!r} in {s.name} as {role}, by content alone.")
        if "time" not in s.columns:
            kind = "order only" if "order" in s.columns else "neither time nor order"
            said.append(f"{where} has {kind}: no split by time is possible.")


def _say_items(pair: _Pair, said: list[str]) -> None:
    if pair.items is None:
        return
    s = pair.items
    mapped = ", ".join(f"{role} = {column!r}" for role, column in s.columns.items())
    said.append(f"{pair.name}: {s.name} holds items: {mapped}.")
    texts = texts_of(s)
    said.append(
        f"The language model reads {' | '.join(texts)} of {s.name}."
        if texts
        else f"Unsure: {s.name} has no column that looks like text; add one to catalogue.text."
    )


def _toml(pairs: list[_Pair], people: dict[str, Seen], folder: Path) -> str:
    document = tomlkit.document()
    document.add(tomlkit.comment("Written by 'isthmus init'. Paths are relative to this file."))
    document.add("name", tomlkit.item(_run_name(folder)))
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


def _run_name(folder: Path) -> str:
    """The folder's name as far as it can name a run."""
    return re.sub(r"[/\\]", "_", folder.name).lstrip(".") or "isthmus"


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
        texts = texts_of(pair.items)
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
