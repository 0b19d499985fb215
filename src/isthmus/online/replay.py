"""From a log to a dataset: everything up to an offset, the same however often one stops.

A model remembers the log it follows and how far (`LogPosition`). Replaying from there to an offset
in one go, or in any number of pieces, gives the same snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.appending import COLUMNS, append_events
from isthmus.data.dataset import Dataset
from isthmus.data.forgetting import forget
from isthmus.data.splits import Split
from isthmus.errors import LogError
from isthmus.online.events import Event, Glance, Logged
from isthmus.online.kept import not_kept
from isthmus.online.log import EventLog, between
from isthmus.recommender.storage import LogPosition


@dataclass(frozen=True)
class Replayed:
    """A snapshot that has followed a log.

    Attributes:
        dataset: with the log's events, without the people erased from it.
        position: how far it has followed.
        fresh: int64 [n] where the log's events stand in `dataset.events`, rising.
        offsets: int64 [n] where these events stand in the log, rising.
        left_out: records that were not taken, by reason.
        unknown_domains: those that some of them name, and the dataset does not have.
        forgotten: raw ids of people who were erased since.
        split: the questions given, about this dataset; None where none were given.
        compacted: where it had followed no log, the offset up to which retention had deleted
            records: whether the dataset holds them cannot be known; else 0.
    """

    dataset: Dataset
    position: LogPosition
    fresh: NDArray[np.int64]
    offsets: NDArray[np.int64]
    left_out: dict[str, int]
    forgotten: tuple[str, ...]
    split: Split | None
    unknown_domains: tuple[str, ...] = ()
    compacted: int = 0


def replay(
    log: EventLog,
    dataset: Dataset,
    position: LogPosition | None,
    *,
    config: Config | None = None,
    upto: int | None = None,
    split: Split | None = None,
    hidden: Collection[str] = (),
) -> Replayed:
    """Take in what the log holds after a position.

    `user_id` in the log is the id of the person as in the dataset. Impressions stay in the log.

    Args:
        log: to follow.
        dataset: a snapshot that has followed it up to `position`.
        position: None: it has followed none.
        config: which kinds and ratings count, and whether unknown people and items join; None: all.
        upto: the last offset to take in; None: the latest.
        split: questions about `dataset` to carry over; new events may be learnt from.
        hidden: people who want nothing of theirs used.

    Raises:
        LogError: dataset and log do not belong together, or records in between are gone.
        LogUnavailable: the log cannot be read just now.
    """
    start = place_in(log, position)
    head = log.head()
    end = head if upto is None else max(start, min(upto, head))
    config = config or Config()
    forgotten = tuple(erased_people(log, dataset.user_ids, after=start))
    if forgotten:
        without = forget(dataset, forgotten)
        dataset = without.dataset
        split = None if split is None else without.split(split)
    records = between(log, start, end)
    rows, offsets, aside, unknown = _rows(dataset, config, records, frozenset(hidden))
    growth = append_events(dataset, rows)
    return Replayed(
        dataset=growth.dataset,
        position=LogPosition(log.id, end, position.registered if position else 0),
        fresh=growth.fresh,
        offsets=offsets,
        left_out=dict(aside),
        forgotten=forgotten,
        split=None if split is None else growth.split(split),
        unknown_domains=unknown,
        compacted=log.compacted() if position is None else 0,
    )


def place_in(log: EventLog, position: LogPosition | None) -> int:
    """The offset after which a model that has followed a log goes on; 0 where it followed none.

    Raises:
        LogError: it followed another log, is ahead of this one, or records that it has not seen
            have been compacted away.
    """
    if position is None:
        return 0
    if position.id != log.id:
        raise LogError(
            f"the model follows the event log {position.id}, and this is {log.id}",
            hint="Set online.log to the model's own log, or fit a model for this one",
        )
    if position.offset > (head := log.head()):
        raise LogError(
            f"the model has followed the event log up to {position.offset:,}, and it ends at "
            f"{head:,}: it was put back to an older state",
            hint="Restore a newer copy of the log, or go back to a model from before that",
        )
    if position.offset < (compacted := log.compacted()):
        raise LogError(
            f"the model has followed the event log up to {position.offset:,}, and records up to "
            f"{compacted:,} have been compacted away",
            hint="Go on from a later version of the model, or fit again",
        )
    return position.offset


def erased_people(log: EventLog, user_ids: Iterable[str], *, after: int = 0) -> dict[str, int]:
    """Which of these people were erased after an offset, and the offset of each one's last mark."""
    marks = {mark.person: mark.offset for mark in log.erased(after)}
    if not marks:
        return {}
    names = ((user_id, log.pseudonym(user_id)) for user_id in user_ids)
    return {user_id: marks[name] for user_id, name in names if name in marks}


def _rows(
    dataset: Dataset, config: Config, records: Iterable[Logged], hidden: frozenset[str]
) -> tuple[pl.DataFrame, NDArray[np.int64], Counter[str], tuple[str, ...]]:
    """Events that count, as `append_events` takes them, and where they stand in the log.

    Of others why they do not, and the unknown domains that they name.
    """
    rows: list[tuple[object, ...]] = []
    offsets: list[int] = []
    aside: Counter[str] = Counter()
    unknown: dict[str, None] = {}
    for logged in records:
        event = logged.record
        if not isinstance(event, Event):
            continue
        reason = "of people who are hidden" if event.user_id in hidden else None
        if reason := reason or left_out(event, dataset, config) or _unknown(event, dataset, config):
            aside[reason] += 1
            if event.domain not in dataset.names:
                unknown[event.domain] = None
            continue
        offsets.append(logged.offset)
        rows.append(
            (
                *(event.user_id, event.domain, event.item_id, event.time),
                *(event.kind, event.rating, event.weight),
            )
        )
    taken = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    return taken, np.array(offsets, np.int64), aside, tuple(unknown)


def left_out(event: Event | Glance, dataset: Dataset, config: Config) -> str | None:
    """Why an event does not count, on whatever item, as it would not in a table."""
    if event.domain not in dataset.names:
        return f"of domain {event.domain!r}, which the model does not have"
    if reason := not_kept(event, config):
        return reason
    if config.cleaning.unknown_users == "drop" and event.user_id not in dataset.user_index:
        return "of people whom the model does not know"
    return None


def _unknown(event: Event, dataset: Dataset, config: Config) -> str | None:
    catalogue = dataset.domains[dataset.names.index(event.domain)]
    if config.cleaning.unknown_items == "drop" and event.item_id not in catalogue.item_index:
        return "on items that the catalogue does not have"
    return None
