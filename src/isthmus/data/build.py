"""Tables → `Dataset`: number the people, cut the sparse tail, merge histories, say what is odd.

`build_dataset` follows a configuration; `dataset_from_frames` does the same to tables in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.config import DOMAIN_NAMES, CleaningConfig, Config, misnamed
from isthmus.data import ordering
from isthmus.data.cleaning import CleaningReport, Origin
from isthmus.data.coding import CodedDomain, code_domain
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.kcore import k_core
from isthmus.data.people import clean_people
from isthmus.data.tables import read_domain, read_people
from isthmus.errors import DataError

__all__ = ["DomainFrames", "PeopleFrames", "build_dataset", "dataset_from_frames"]


def build_dataset(config: Config) -> tuple[Dataset, CleaningReport]:
    """Read, clean and number everything that a configuration names.

    Raises:
        DataError: a domain has a name that none can have, a file or column is missing or
            unreadable, rows cannot be used and `cleaning.bad_rows` is 'stop', or nothing is left.
    """
    wrong = misnamed(config.domains)
    if wrong is not None:
        raise DataError(wrong, where="domains", hint=DOMAIN_NAMES)
    if not config.domains:
        raise DataError(
            "no domains", where="domains", hint="Write a configuration with 'isthmus init FILES…'"
        )
    report = CleaningReport()
    people = read_people(config.people, report)
    domains = ((name, read_domain(name, domain, report)) for name, domain in config.domains.items())
    dataset = _build(domains, people, config.cleaning, config.split.shuffle_items, report)
    sampled = tuple(
        f"{name}: the events of {domain.sample_users:.3g} of its people were read (sample_users)."
        for name, domain in config.domains.items()
        if domain.sample_users < 1 and domain.interactions
    )
    dataset = replace(dataset, notes=(*dataset.notes, *sampled))
    target = config.target
    if target and config.domains[target].interactions and not report.rows_kept[target]:
        raise DataError(
            "the target has no events left",
            where=f"domains.{target}.interactions",
            hint="Choose another target, or see in the cleaning report why all were dropped",
        )
    return dataset, report


def dataset_from_frames(
    domains: Mapping[str, DomainFrames],
    *,
    people: PeopleFrames | None = None,
    cleaning: CleaningConfig | None = None,
    shuffle_items: int | None = None,
) -> tuple[Dataset, CleaningReport]:
    """Clean and number tables in memory.

    Args:
        domains: tables by domain name; the order gives the domain index.
        people: tables about people and knowledge.
        cleaning: what to do with rows that cannot be used; None: stop at bad ones.
        shuffle_items: seed that renumbers items, for proof that numbers do not matter.

    Raises:
        DataError: see `build_dataset`.
    """
    report = CleaningReport()
    people, cleaning = people or PeopleFrames(), cleaning or CleaningConfig()
    return _build(domains.items(), people, cleaning, shuffle_items, report), report


def _build(
    domains: Iterable[tuple[str, DomainFrames]],
    people: PeopleFrames,
    config: CleaningConfig,
    shuffle_items: int | None,
    report: CleaningReport,
) -> Dataset:
    # One domain is read, coded and let go before the next, so that texts of ids never pile up.
    coded = [code_domain(name, frames, people, config, report) for name, frames in domains]
    coded = _cored(coded, config, report)
    report.rows_kept.update({domain.name: len(domain.user) for domain in coded})
    if not any(report.rows_kept.values()):
        read = sum(report.rows_read.values())
        raise DataError(
            f"no events are left of {read:,} read" if read else "no domain has any events",
            where="domains",
            hint="Name an interactions file with rows in it; cleaning may drop too much",
        )
    if shuffle_items is not None:
        coded = [
            domain.take_items(np.random.default_rng([shuffle_items, i]).permutation(n_items))
            for i, domain in enumerate(coded)
            for n_items in [domain.items.height]
        ]
    known = pl.concat([domain.active for domain in coded]).unique()
    tables = clean_people(people, config, report, known, [domain.name for domain in coded])
    events, user_ids, kinds, notes = _merged(coded, tables.users, config)
    return Dataset(
        domains=tuple(Domain(d.name, d.items, d.vectors, d.corpus) for d in coded),
        user_ids=user_ids,
        events=events,
        kinds=kinds,
        user_attributes=tables.users,
        links=tables.links,
        groups=tables.groups,
        triples=tables.triples,
        impressions=tables.impressions,
        notes=(*notes, *_notes(coded)),
    )


def _cored(
    coded: list[CodedDomain], config: CleaningConfig, report: CleaningReport
) -> list[CodedDomain]:
    """Drop people and items with too few events, counted over all domains of a person."""
    if config.min_user_events <= 1 and config.min_item_events == 0:
        return coded
    persons = pl.concat([domain.people for domain in coded]).unique().sort()
    offsets = np.cumsum([0, *(domain.items.height for domain in coded)])
    user = np.concatenate([persons.search_sorted(d.people).to_numpy()[d.user] for d in coded])
    item = np.concatenate([d.item + o for d, o in zip(coded, offsets[:-1], strict=True)])
    keep = k_core(user, item, config.min_user_events, config.min_item_events)
    enough = np.bincount(item[keep], minlength=int(offsets[-1])) >= config.min_item_events
    events_before = np.cumsum([0, *(len(domain.user) for domain in coded)])
    cored = []
    for i, domain in enumerate(coded):
        mask = keep[events_before[i] : events_before[i + 1]]
        rows = np.flatnonzero(enough[offsets[i] : offsets[i + 1]])
        origin = Origin("events and items", domain.name)
        bounds = f"(k-core: {config.min_user_events} a person, {config.min_item_events} an item)"
        report.add(origin, "dropped", int((~mask).sum()), f"events with too few beside {bounds}")
        few = domain.items.height - len(rows)
        report.add(origin, "dropped", few, f"items with too few events {bounds}")
        cored.append(domain.keep_events(mask).take_items(rows))
    return cored


def _merged(
    coded: list[CodedDomain], users: pl.DataFrame | None, config: CleaningConfig
) -> tuple[Events, pl.Series, tuple[str, ...], list[str]]:
    """Histories of all domains in order, people's raw ids, event kinds, and notes."""
    active = [d.active for d in coded]
    known = [] if users is None else [users["user_id"]]
    user_ids = pl.concat([*active, *known]).unique().sort().alias("user_id")
    kinds = tuple(sorted({kind for domain in coded for kind in domain.kinds}))
    user = np.concatenate(
        [user_ids.search_sorted(d.people).to_numpy().astype(np.int32)[d.user] for d in coded]
    )
    domain = np.repeat(np.arange(len(coded), dtype=np.int16), [len(d.user) for d in coded])
    item = np.concatenate([d.item for d in coded])
    kind = np.concatenate(
        [
            np.array([kinds.index(k) for k in d.kinds], np.int16)[d.columns["kind"]]
            if "kind" in d.columns
            else np.full(len(d.user), kinds.index("event"), np.int16)
            for d in coded
        ]
    )
    rating = _column(coded, "rating", np.float32(np.nan))
    weight = _column(coded, "weight", np.float32(1.0))
    places = _places(coded, user, domain, config)
    offsets = np.cumsum([0, *(d.items.height for d in coded)])
    tie = ordering.tie_keys(
        ordering.text_hash(user_ids, f"{config.tie_seed}"),
        np.concatenate([ordering.text_hash(d.items["item_id"], d.name) for d in coded]),
        user,
        item + offsets[domain],
    )
    tie = ordering.occurrences(tie, places.place, rating, kind, weight)
    order = ordering.history_order(user, places.lane, places.place, tie)
    events = Events.from_columns(
        len(user_ids),
        user[order],
        domain[order],
        item[order],
        _column(coded, "time", np.float64(np.nan))[order],
        kind=kind[order],
        rating=rating[order],
        weight=weight[order],
    )
    return events, user_ids, kinds, places.notes


def _column(coded: list[CodedDomain], name: str, missing: np.generic) -> NDArray[Any]:
    """A column of all domains end to end, `missing` where a domain does not have it."""
    return np.concatenate(
        [d.columns.get(name, np.full(len(d.user), missing)).astype(missing.dtype) for d in coded]
    )


def in_order_by(domain: CodedDomain, config: CleaningConfig) -> str:
    """What puts the events of a domain in order: `time`, `order`, or `row` where it has neither.

    Raises:
        DataError: the configuration asks for one that is not there.
    """
    ways = ["order"] if config.order_by == "order" else ["time", "order"]
    if config.order_by == "time":
        ways = ["time"]
    way = next((way for way in ways if way in domain.columns), "row")
    if way == "row" and len(domain.user) and config.order_by != "auto":
        raise DataError(
            f"cleaning.order_by is {config.order_by!r}, and {domain.name!r} has no such column",
            where=f"domains.{domain.name}.events.{config.order_by}",
            hint="Map the column, or set cleaning.order_by = 'auto'",
        )
    return way


@dataclass(frozen=True)
class _Places:
    """What sorts each event within its lane (see `ordering.history_order`), and notes on it."""

    lane: NDArray[np.int16]
    place: NDArray[np.float64]
    notes: list[str]


def _places(
    coded: list[CodedDomain],
    user: NDArray[np.int32],
    domain: NDArray[np.int16],
    config: CleaningConfig,
) -> _Places:
    """Choose time or order in each domain, and which domains share it."""
    notes, chosen = [], []
    for d in coded:
        way = in_order_by(d, config)
        if way == "row" and len(d.user):
            notes.append(f"{d.name} has neither times nor an order: the order of the rows is used.")
        chosen.append(way)
    place = np.concatenate(
        [
            np.arange(len(d.user), dtype=np.float64) if way == "row" else d.columns[way]
            for d, way in zip(coded, chosen, strict=True)
        ]
    )
    clocked = np.array([way == "time" for way in chosen])
    lanes = np.where(clocked, 0, np.arange(1, len(coded) + 1)).astype(np.int16)
    lane = lanes[domain]
    if config.order_by == "order":
        shared = ordering.shared_order(user, domain, place)
        lane = np.where(shared, np.int16(0), lane)
        if not shared.all():
            share = len(np.unique(user[~shared])) / max(len(np.unique(user)), 1)
            notes.append(
                f"For {share:.0%} of people the order column starts anew in each domain: their "
                "histories are interleaved by relative position."
            )
        return _Places(lane, place, notes)
    active = [(d.name, way) for d, way in zip(coded, chosen, strict=True) if len(d.user)]
    without = [name for name, way in active if way != "time"]
    if without and len(active) > 1:
        verb = "have" if len(without) > 1 else "has"
        notes.append(
            f"{', '.join(without)} {verb} no times: histories of several domains are interleaved "
            "by relative position."
        )
    return _Places(lane, place, notes)


def _notes(coded: list[CodedDomain]) -> list[str]:
    """What is odd about the domains, one sentence each."""
    silent = [d.name for d in coded if not len(d.user)]
    notes = [f"{name} has no events: it is known by its items only." for name in silent]
    active = [(d.name, d.active) for d in coded if len(d.user)]
    for (a, people_a), (b, people_b) in combinations(active, 2):
        if not bool(people_a.is_in(people_b.implode()).any()):
            notes.append(
                f"{a} and {b} have no person in common: what one tells about the other goes by "
                "text only."
            )
    return notes
