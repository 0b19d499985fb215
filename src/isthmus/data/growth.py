"""A snapshot grows: a domain joins it, or events come to a domain that is there.

Nothing is renumbered. New people, items, domains and kinds of events go behind those that are
there, and earlier events keep their order among themselves; a new event finds its place by its
time. Where old and new share no clock, a domain's first events are interleaved by relative
position, as when a dataset is built, and later ones go to the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.config import DOMAIN_NAMES, CleaningConfig, misnamed
from isthmus.data import ordering
from isthmus.data.build import in_order_by
from isthmus.data.cleaning import CleaningReport, Origin
from isthmus.data.coding import CodedDomain, code_domain
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.splits import Queries, Split
from isthmus.errors import DataError, RequestError

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Growth:
    """A larger snapshot, and what became of the one before.

    Attributes:
        dataset: the larger one.
        position: int64 [n_events before] where each earlier event stands now, rising.
        fresh: int64 [n] where the new events stand, rising.
    """

    dataset: Dataset
    position: Positions
    fresh: Positions

    def split(self, split: Split) -> Split:
        """The same questions about the larger snapshot; new events may be learnt from."""
        in_train = np.ones(len(self.dataset.events), bool)
        in_train[self.position] = split.in_train
        stopping, tuning, test = (
            Queries(self.position[questions.position])
            for questions in (split.stopping, split.tuning, split.test)
        )
        return replace(split, in_train=in_train, stopping=stopping, tuning=tuning, test=test)


def add_domain(
    dataset: Dataset,
    name: str,
    frames: DomainFrames,
    *,
    people: PeopleFrames | None = None,
    cleaning: CleaningConfig | None = None,
    report: CleaningReport | None = None,
) -> Growth:
    """A snapshot with one domain more, the last.

    Args:
        dataset: the snapshot.
        name: of the new domain.
        frames: its catalogue, and perhaps events.
        people: who is who across domains; other tables in it are not read.
        cleaning: what to do with rows that cannot be used; None: stop at bad ones. k-core bounds
            are not applied: a new domain is sparse by nature.
        report: filled with what was dropped or changed.

    Raises:
        RequestError: the name is taken, or cannot be one.
        DataError: rows cannot be used and the configuration says stop, or the catalogue is empty.
    """
    _free_name(dataset, name)
    cleaning, report = cleaning or CleaningConfig(), report or CleaningReport()
    coded = code_domain(name, frames, people or PeopleFrames(), cleaning, report)
    if not coded.items.height:
        raise DataError(
            "holds no item",
            where=(frames.items_origin or Origin("items", name)).file,
            hint="Name a catalogue with at least one row",
        )
    coded = _known_people(dataset, coded, frames, cleaning, report)
    report.rows_kept[name] = len(coded.user)
    grown = replace(
        dataset,
        domains=(*dataset.domains, Domain(name, coded.items, coded.vectors, coded.corpus)),
    )
    return _merged(grown, len(dataset.domains), coded, cleaning)


def add_events(
    dataset: Dataset,
    domain: int,
    frames: DomainFrames,
    *,
    limit: int | None = None,
    people: PeopleFrames | None = None,
    cleaning: CleaningConfig | None = None,
    report: CleaningReport | None = None,
) -> Growth:
    """A snapshot with more events in one of its domains.

    An event equal to one that is there in person, item and time is the same event and is not taken
    twice, so that a longer export of the same log can be given again.

    Args:
        dataset: the snapshot.
        domain: index of the domain.
        frames: events; a catalogue in it is not read.
        limit: how many usable events to take, the first by time (else by order or row); None: all.
        people: as in `add_domain`.
        cleaning: also says whether items that the catalogue does not hold join it, without text.
        report: filled with what was dropped or changed.

    Raises:
        DataError: rows cannot be used and the configuration says stop, or no event is on an item
            of the catalogue.
    """
    cleaning, report = cleaning or CleaningConfig(), report or CleaningReport()
    before = dataset.domains[domain]
    frames = replace(frames, items=None, text=(), vectors={}, corpus=())
    coded = code_domain(before.name, frames, people or PeopleFrames(), cleaning, report)
    origin = frames.events_origin or Origin("events", before.name)
    after = before
    # The first are counted among the usable: what is dropped goes before that, notes come after.
    for stage in ("drop", "keep"):
        if stage == "keep":
            coded = _first(coded, limit, cleaning, origin, report)
        if cleaning.unknown_users == stage:
            coded = _known_people(dataset, coded, frames, cleaning, report)
        if cleaning.unknown_items == stage:
            after, coded = _on_catalogue(before, coded, origin, cleaning, report)
    coded = _unknown_so_far(dataset, domain, coded, cleaning, origin, report)
    report.rows_kept[before.name] = len(coded.user)
    domains = (*dataset.domains[:domain], after, *dataset.domains[domain + 1 :])
    return _merged(replace(dataset, domains=domains), domain, coded, cleaning)


def _free_name(dataset: Dataset, name: str) -> None:
    if name in dataset.names:
        raise RequestError(
            f"there is a domain {name!r} already",
            hint="Choose another name, or give it events with 'isthmus adapt-domain'",
        )
    wrong = misnamed([name])
    if wrong is not None:
        raise RequestError(wrong, hint=DOMAIN_NAMES)


def _known_people(
    dataset: Dataset,
    coded: CodedDomain,
    frames: DomainFrames,
    cleaning: CleaningConfig,
    report: CleaningReport,
) -> CodedDomain:
    """Leave out, or count, the events of people whom the snapshot does not know."""
    stranger = ~coded.people.is_in(dataset.user_ids.implode()).to_numpy()[coded.user]
    n_people = len(np.unique(coded.user[stranger]))
    origin = frames.events_origin or Origin("events", coded.name)
    reason = f"of {n_people:,} people whom the model does not know"
    if cleaning.unknown_users == "drop":
        report.add(origin, "dropped", int(stranger.sum()), reason)
        return coded.keep_events(~stranger)
    report.add(origin, "noted", int(stranger.sum()), f"{reason}; they are taken in")
    return coded


def _place(coded: CodedDomain, cleaning: CleaningConfig) -> NDArray[np.float64]:
    """What puts the events in order: time, else order, else their row, float64 [n]."""
    way = in_order_by(coded, cleaning)
    rows = np.arange(len(coded.user), dtype=np.float64)
    return rows if way == "row" else coded.columns[way].astype(np.float64)


def _ties(
    coded: CodedDomain, place: NDArray[np.float64], cleaning: CleaningConfig
) -> ordering.Hash:
    """The random rank of each event among equals, by raw ids alone."""
    tie = ordering.tie_keys(
        ordering.text_hash(coded.people, f"{cleaning.tie_seed}"),
        ordering.text_hash(coded.items["item_id"], coded.name),
        coded.user,
        coded.item.astype(np.int64),
    )
    others = [coded.columns[c] for c in ("rating", "kind", "weight") if c in coded.columns]
    return ordering.occurrences(tie, place, *others)


def _first(
    coded: CodedDomain,
    limit: int | None,
    cleaning: CleaningConfig,
    origin: Origin,
    report: CleaningReport,
) -> CodedDomain:
    if limit is None or limit >= len(coded.user):
        return coded
    place = _place(coded, cleaning)
    keep = np.zeros(len(place), bool)
    keep[np.lexsort((_ties(coded, place, cleaning), place))[:limit]] = True
    report.add(origin, "dropped", int((~keep).sum()), f"after the first {limit:,}")
    return coded.keep_events(keep)


def _on_catalogue(
    before: Domain,
    coded: CodedDomain,
    origin: Origin,
    cleaning: CleaningConfig,
    report: CleaningReport,
) -> tuple[Domain, CodedDomain]:
    """The catalogue, perhaps longer, and the events numbered by it."""
    bought = coded.items["item_id"].to_list()
    number = np.array([before.item_index.get(item, -1) for item in bought], np.int64)
    used = np.bincount(coded.item, minlength=len(number)) > 0
    unknown = np.flatnonzero(used & (number < 0))
    if len(unknown) and len(unknown) == used.sum():
        raise DataError(
            f"no item of the events is in the catalogue of {before.name!r}; items there are like "
            f"{before.items['item_id'][0]!r}, in the events like {bought[unknown[0]]!r}",
            where=origin.where("item_id"),
            hint="Map the right id column; ids that lost their leading zeros must get them back",
        )
    on_unknown = (number < 0)[coded.item]
    reason = f"on {len(unknown):,} items that the catalogue does not have"
    if cleaning.unknown_items == "drop":
        report.add(origin, "dropped", int(on_unknown.sum()), reason)
        kept = coded.keep_events(~on_unknown)
        return before, replace(kept, items=before.items, item=number[kept.item].astype(np.int32))
    report.add(origin, "noted", int(on_unknown.sum()), f"{reason}; kept by id only")
    number[unknown] = before.n_items + np.arange(len(unknown))
    items = before.items
    if len(unknown):
        ids = pl.DataFrame({"item_id": [bought[row] for row in unknown]})
        items = pl.concat([items, ids], how="diagonal")
    vectors = {
        key: np.vstack([matrix, np.full((len(unknown), matrix.shape[1]), np.nan, np.float32)])
        for key, matrix in before.vectors.items()
    }
    after = Domain(before.name, items, vectors, before.corpus)
    return after, replace(coded, items=items, item=number[coded.item].astype(np.int32))


def _unknown_so_far(
    dataset: Dataset,
    domain: int,
    coded: CodedDomain,
    cleaning: CleaningConfig,
    origin: Origin,
    report: CleaningReport,
) -> CodedDomain:
    """Leave out what the snapshot holds already, as often as it holds it."""
    events = dataset.events.only(domain)
    row = np.array([dataset.user_index.get(person, -1) for person in coded.people], np.int64)

    def keys(user: Positions, item: NDArray[np.int32], time: NDArray[np.float64]) -> pl.DataFrame:
        frame = pl.DataFrame({"user": user, "item": item, "time": np.nan_to_num(time, nan=-np.inf)})
        return frame.with_columns(pl.int_range(pl.len()).over("user", "item", "time").alias("nth"))

    nowhere = np.full(len(coded.user), np.nan)
    time = coded.columns.get("time", nowhere).astype(np.float64)
    mine = keys(row[coded.user], coded.item, time).with_row_index("place")
    new = mine.join(keys(events.user, events.item, events.time), on=mine.columns[1:], how="anti")
    keep = np.zeros(len(mine), bool)
    keep[new["place"].to_numpy()] = True
    report.add(origin, "dropped", int((~keep).sum()), "known to the model already")
    return coded.keep_events(keep)


def _merged(dataset: Dataset, domain: int, coded: CodedDomain, cleaning: CleaningConfig) -> Growth:
    """The snapshot with the events of `coded`, whose items are numbered as in its catalogue."""
    active = coded.active
    newcomers = active.filter(~active.is_in(dataset.user_ids.implode()))
    user_ids = pl.concat([dataset.user_ids, newcomers]).alias("user_id")
    known = pl.DataFrame({"user_id": user_ids, "row": np.arange(len(user_ids), dtype=np.int64)})
    rows = coded.people.to_frame("user_id").join(
        known, on="user_id", how="left", maintain_order="left"
    )["row"]
    user = rows.fill_null(-1).to_numpy()[coded.user]
    names = ("event",) if "kind" not in coded.columns else coded.kinds
    kinds = tuple(dict.fromkeys(chain(dataset.kinds, names if len(user) else ())))
    code = np.array([kinds.index(k) if k in kinds else 0 for k in names], np.int16)
    old, n = dataset.events, len(user)
    columns = {
        "domain": np.full(n, domain, np.int16),
        "item": coded.item,
        "time": coded.columns.get("time", np.full(n, np.nan)),
        "kind": code[coded.columns["kind"]] if "kind" in coded.columns else np.full(n, code[0]),
        "rating": coded.columns.get("rating", np.full(n, np.nan, np.float32)),
        "weight": coded.columns.get("weight", np.ones(n, np.float32)),
    }
    order, notes = _order(old, domain, user, coded, cleaning)
    whose = np.concatenate([old.user, user])[order]
    values = {
        name: np.concatenate([getattr(old, name), column.astype(getattr(old, name).dtype)])[order]
        for name, column in columns.items()
    }
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    grown = replace(
        dataset,
        user_ids=user_ids,
        events=Events.from_columns(len(user_ids), whose, **values),
        kinds=kinds,
        notes=(*dataset.notes, *(note for note in notes if note not in dataset.notes)),
    )
    return Growth(grown, place[: len(old)], np.sort(place[len(old) :]))


def _order(
    old: Events, domain: int, user: Positions, coded: CodedDomain, cleaning: CleaningConfig
) -> tuple[Positions, list[str]]:
    """The permutation that puts old and new events, end to end, into histories; and notes."""
    place = _place(coded, cleaning)
    tie = _ties(coded, place, cleaning)
    first = ordering.history_order(user.astype(np.int32), np.zeros(len(user), np.int16), place, tie)
    rank = np.empty(len(user), np.int64)
    rank[first] = np.arange(len(user))
    notes = []
    way = in_order_by(coded, cleaning)
    if len(user) and way == "row":
        notes.append(f"{coded.name} has neither times nor an order: the order of the rows is used.")
    if len(user) and way == "time" and _clocked(old):
        among = np.concatenate([old.time, place])
    else:
        among = _relative(old, domain, user, rank)
        if len(np.intersect1d(user, old.user)):
            notes.append(
                f"{coded.name} shares no clock with the other domains: its first events are "
                "interleaved with theirs by relative position, later ones go to the end."
            )
    # Of old and new events at one moment, the new ones go before or after the old by a draw.
    after = (tie & np.uint64(1)).astype(np.int64) * (len(user) + len(old))
    equals = np.concatenate([len(user) + np.arange(len(old)), rank + after]).astype(np.uint64)
    whose = np.concatenate([old.user, user]).astype(np.int32)
    return ordering.history_order(whose, np.zeros(len(whose), np.int16), among, equals), notes


def _clocked(events: Events) -> bool:
    """Whether every event has a time and histories run by it."""
    rising = (np.diff(events.time) >= 0) | (np.diff(events.user) > 0)
    return not np.isnan(events.time).any() and bool(rising.all())


def _relative(old: Events, domain: int, user: Positions, rank: Positions) -> NDArray[np.float64]:
    """Relative position of every event in its own lane, behind 1 where it must go to the end."""
    n_users = max(old.n_users, int(user.max(initial=-1)) + 1)
    length = np.bincount(old.user, minlength=n_users)
    within = np.arange(len(old)) - old.offsets[old.user]
    mine = np.bincount(user, minlength=n_users)
    start = np.cumsum(mine) - mine
    begun = np.bincount(old.user[old.domain == domain], minlength=n_users) > 0
    late = np.where(begun[user], 2.0, 0.0)
    return np.concatenate(
        [
            (within + 0.5) / np.maximum(length[old.user], 1),
            (rank - start[user] + 0.5) / np.maximum(mine[user], 1) + late,
        ]
    )
