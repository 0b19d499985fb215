"""A snapshot forgets people: nothing of what they did or were is left, and nobody is renumbered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split

_NAMELESS = "(erased {})"
"""What stands for the id of somebody who is forgotten; their row is in it."""


@dataclass(frozen=True)
class Forgotten:
    """A snapshot without some people, and what became of the one before.

    Attributes:
        dataset: the people's rows are empty and bear no name.
        kept: bool [n_events before] which events are left; they keep their order.
    """

    dataset: Dataset
    kept: NDArray[np.bool_]

    def split(self, split: Split) -> Split:
        """The same questions, but for those about people who are forgotten."""
        place = np.cumsum(self.kept) - 1
        stopping, tuning, test = (
            Queries(place[questions.position[self.kept[questions.position]]])
            for questions in (split.stopping, split.tuning, split.test)
        )
        return replace(
            split,
            in_train=split.in_train[self.kept],
            stopping=stopping,
            tuning=tuning,
            test=test,
        )


def is_somebody(user_ids: pl.Series) -> pl.Series:
    """Whether each row still is a person's, bool [n_users]; those of the forgotten bear no name."""
    row = pl.int_range(pl.len())
    return user_ids.to_frame("id").select(pl.col("id") != pl.format(_NAMELESS, row)).to_series()


def forget(dataset: Dataset, people: Collection[str]) -> Forgotten:
    """The snapshot without these people, by raw ids; those it does not know are passed over.

    Their events, attributes, links, memberships and impressions go. Whoever comes back later by
    the same id is somebody new.
    """
    gone = set(people)
    rows = np.array(
        sorted(dataset.user_index[person] for person in gone if person in dataset.user_index),
        np.int64,
    )
    kept = ~np.isin(dataset.events.user, rows)
    ids = dataset.user_ids.to_list()
    for row in rows:
        ids[row] = _NAMELESS.format(row)

    def without(table: pl.DataFrame | None, *columns: str) -> pl.DataFrame | None:
        if table is None:
            return None
        named = pl.any_horizontal(pl.col(columns).is_in(list(gone)))
        return table.filter(~named)

    return Forgotten(
        replace(
            dataset,
            user_ids=pl.Series(dataset.user_ids.name, ids, pl.String),
            events=dataset.events.keep(kept),
            user_attributes=without(dataset.user_attributes, "user_id"),
            links=without(dataset.links, "user_id", "other_id"),
            groups=without(dataset.groups, "user_id"),
            impressions=without(dataset.impressions, "user_id"),
        ),
        kept,
    )
