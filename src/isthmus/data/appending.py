"""A snapshot takes in events as they came, of any of its domains, one after the other.

`growth.py` merges tables, where a row's place says nothing. A log is another thing: its order is
the order of arrival, and taking it in piece by piece must give what taking it in at once gives. So
people, items and kinds of events are numbered by their first appearance, and an event goes behind
everything of the person's history that is not later than it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.growth import Growth

COLUMNS = {
    "user_id": pl.String,
    "domain": pl.String,
    "item_id": pl.String,
    "time": pl.Float64,
    "kind": pl.String,
    "rating": pl.Float64,
    "weight": pl.Float64,
}
"""Of the table that `append_events` takes; `rating` may be null."""


def append_events(dataset: Dataset, rows: pl.DataFrame) -> Growth:
    """The snapshot with these events at the end of the log that it follows.

    Appending one table and then another gives what appending both end to end gives. Events without
    a time, in domains that have only an order, are taken to be before every event that has one.

    Args:
        dataset: the snapshot.
        rows: `COLUMNS`, in the order of arrival; times finite. Items that a catalogue does not
            hold join it by id alone.

    Raises:
        RequestError: a row is of a domain that the snapshot does not have.
    """
    domain = np.array([dataset.domain_index(name) for name in rows["domain"]], np.int16)
    item = np.empty(len(rows), np.int32)
    domains = list(dataset.domains)
    for d in np.unique(domain):
        mine = domain == d
        domains[d], item[mine] = in_catalogue(domains[d], rows["item_id"].filter(pl.Series(mine)))
    user_ids, user = _numbered(dataset.user_ids, rows["user_id"], dataset.user_index)
    kinds, kind = _numbered(
        pl.Series(dataset.kinds, dtype=pl.String),
        rows["kind"],
        {name: code for code, name in enumerate(dataset.kinds)},
    )
    old = dataset.events
    time = rows["time"].to_numpy()
    order = _order(old, user, time)
    columns: dict[str, NDArray[Any]] = {
        "domain": domain,
        "item": item,
        "time": time,
        "kind": kind,
        "rating": rows["rating"].fill_null(np.nan).to_numpy(),
        "weight": rows["weight"].to_numpy(),
    }
    values = {
        name: np.concatenate([getattr(old, name), column.astype(getattr(old, name).dtype)])[order]
        for name, column in columns.items()
    }
    events = Events.from_columns(len(user_ids), np.concatenate([old.user, user])[order], **values)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    grown = replace(
        dataset,
        domains=tuple(domains),
        user_ids=user_ids.alias("user_id"),
        events=events,
        kinds=tuple(kinds),
    )
    return Growth(grown, place[: len(old)], np.sort(place[len(old) :]))


def in_catalogue(domain: Domain, ids: pl.Series) -> tuple[Domain, NDArray[np.int64]]:
    """The catalogue, new items behind by id alone, and the index of each of `ids` in it."""
    known, index = _numbered(domain.items["item_id"], ids, domain.item_index)
    n_new = len(known) - domain.n_items
    if not n_new:
        return domain, index
    items = pl.concat([domain.items, known.tail(n_new).to_frame("item_id")], how="diagonal")
    vectors = {
        key: np.vstack([matrix, np.full((n_new, matrix.shape[1]), np.nan, np.float32)])
        for key, matrix in domain.vectors.items()
    }
    return Domain(domain.name, items, vectors, domain.corpus), index


def _numbered(
    known: pl.Series, names: Iterable[str], index: dict[str, int]
) -> tuple[pl.Series, NDArray[np.int64]]:
    """All names, new ones behind by first appearance, and the number of each of `names`."""
    fresh: dict[str, int] = {}
    numbers = [
        index[name] if name in index else fresh.setdefault(name, len(index) + len(fresh))
        for name in names
    ]
    if fresh:
        known = pl.concat([known, pl.Series(known.name, list(fresh), pl.String)])
    return known, np.array(numbers, np.int64)


def _order(old: Events, user: NDArray[np.int64], time: NDArray[np.float64]) -> NDArray[np.int64]:
    """The permutation that puts old and new events, end to end, into histories."""
    # Where the time of an old event is the least of all that follow it in its history, a new event
    # goes before it exactly if it is earlier, and then before all that follow as well.
    least = np.where(np.isnan(old.time), -np.inf, old.time)
    if len(least) and not (np.diff(least) >= 0)[np.diff(old.user) == 0].all():
        least = (
            pl.DataFrame({"user": old.user, "time": least})
            .select(pl.col("time").reverse().cum_min().reverse().over("user"))
            .to_series()
            .to_numpy()
        )
    # Stable: old before new, earlier arrival before later.
    return np.lexsort((np.concatenate([least, time]), np.concatenate([old.user, user])))
