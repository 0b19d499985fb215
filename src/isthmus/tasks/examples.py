"""Labelled pairs of a person at a moment and an item: what the task heads learn from.

Ratings come with the events. Classes come from a table of labelled pairs, from what was shown and
clicked, or from events against items drawn by popularity. The history of an example is what its
person did before; an item of one's own later history is never in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.data.readers import open_table
from isthmus.data.splits import Split, check_held_back, user_hash
from isthmus.data.timestamps import to_seconds
from isthmus.errors import DataError, did_you_mean

MOST_CLASSES = 50
DRAWS = 20
SPLITS = ("train", "validation", "test")
_NEEDED = ("user_id", "domain", "item_id", "label")


class Role(IntEnum):
    """What an example is for."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


@dataclass(frozen=True)
class Examples:
    """Labelled pairs.

    Attributes:
        user: int64 [n] rows of people.
        end: int64 [n]; the history is `dataset.events` from the person's first to before this one.
        domain: int64 [n] of the item.
        item: int64 [n] local index.
        time: float64 [n] Unix seconds, NaN where unknown.
        label: float64 [n] the rating, or the index of the class.
        role: int8 [n] of `Role`.
        classes: their names; empty for ratings.
        left_out: pairs that would have judged, and are of what the model was trained on.
    """

    user: NDArray[np.int64]
    end: NDArray[np.int64]
    domain: NDArray[np.int64]
    item: NDArray[np.int64]
    time: NDArray[np.float64]
    label: NDArray[np.float64]
    role: NDArray[np.int8]
    classes: tuple[str, ...] = ()
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Examples:
        """The examples at `rows`."""
        names = ("user", "end", "domain", "item", "time", "label", "role")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def of(self, role: Role) -> Examples:
        """Those of one role."""
        return self.take(self.role == role)


def rated_events(dataset: Dataset, split: Split) -> Examples:
    """Every rated event of a split: to learn from, to stop by, or to be told once.

    Raises:
        DataError: no event that may be learnt from has a rating, or none is held back.
    """
    check_held_back(split.validation)
    events = dataset.events
    role = np.full(len(events), -1, np.int8)
    role[split.in_train] = Role.TRAIN
    role[split.validation.position] = Role.VALIDATION
    role[split.test.position] = Role.TEST
    position = np.flatnonzero((role >= 0) & ~np.isnan(events.rating))
    if not (role[position] == Role.TRAIN).any():
        raise DataError(
            "no event has a rating",
            where="domains.NAME.events.rating",
            hint="Name the column that holds the ratings, and fit again",
        )
    return _at(dataset, position, events.rating[position].astype(np.float64), role[position])


def clicks(
    dataset: Dataset, split: Split, table: Path | None, *, negatives: int, seed: int
) -> Examples:
    """Examples of classes from where there are some.

    Args:
        dataset: the snapshot.
        split: says what may be learnt from.
        table: labelled pairs; None: what was shown, else events against drawn items.
        negatives: items drawn for each event.
        seed: of the draws.

    Raises:
        DataError: a table that cannot be read, labels that are no classes, or one class only.
    """
    if table is not None:
        return labelled_pairs(dataset, split, open_table(table).read(), where=str(table))
    if dataset.impressions is not None and "clicked" in dataset.impressions.columns:
        shown = dataset.impressions.rename({"clicked": "label"})
        return labelled_pairs(
            dataset, split, shown.with_columns(pl.col("label").cast(pl.Int8)), where="impressions"
        )
    return against_drawn(dataset, split, negatives=negatives, seed=seed)


def against_drawn(dataset: Dataset, split: Split, *, negatives: int, seed: int) -> Examples:
    """Held-back events (class 1) and, for each, items that its person never had (class 0).

    Drawn items are answers of other people's examples of the same role and domain, so popularity
    alone tells nothing. The model has learnt its training events by heart, and heads that learnt
    from these would trust it too much: they learn from the validation questions of one half of the
    people and stop by those of the other.

    Raises:
        DataError: no question about any domain is held back.
    """
    check_held_back(split.validation)
    rng = np.random.default_rng(seed)
    had = _had(dataset)
    parts = []
    for role, queries in zip(Role, (split.stopping, split.tuning, split.test), strict=True):
        true = _at(
            dataset,
            queries.position,
            np.ones(len(queries)),
            np.full(len(queries), role, np.int8),
        )
        parts.append(true)
        for d in np.unique(true.domain).tolist():
            here = true.take(true.domain == d)
            for _ in range(negatives):
                drawn, found = _drawn(dataset, here, had, rng)
                false = replace(here, item=drawn, label=np.zeros(len(here)))
                parts.append(false.take(found))
    return checked(_joined(parts, ("0", "1")), "split")


def labelled_pairs(dataset: Dataset, split: Split, frame: pl.DataFrame, *, where: str) -> Examples:
    """Examples from a table; rows about unknown people, domains or items are an error.

    Where it has no column `split`, 70 % of the people are learnt from, 15 % stopped by and 15 %
    asked in the end. A history ends before `time`; without one, with training, and so where events
    of the person have an order alone: the time of such a pair is unknown. Pairs from among the
    events that the model was trained on are then learnt from alone: the parts that speak of a pair
    know these by heart, and would be judged by what they were told.

    Args:
        dataset: the snapshot.
        split: ends histories that have no time.
        frame: columns `user_id`, `domain`, `item_id`, `label`, optionally `time` and `split`.
        where: names the table in messages.

    Raises:
        DataError: a missing column, an unknown id, a time that cannot be read, labels that are no
            classes, one class only.
    """
    for name in _NEEDED:
        if name not in frame.columns:
            raise DataError(
                f"column {name!r} is missing", where=where, hint=did_you_mean(name, frame.columns)
            )
    label, classes = as_classes(frame["label"], where=where)
    user = _rows(frame["user_id"], dataset.user_index, f"{where}, column 'user_id'")
    names = {name: d for d, name in enumerate(dataset.names)}
    domain = _rows(frame["domain"], names, f"{where}, column 'domain'")
    item = np.zeros(len(frame), np.int64)
    for d, known in enumerate(dataset.domains):
        mask = domain == d
        ids = frame["item_id"].filter(pl.Series(mask))
        item[mask] = _rows(ids, known.item_index, f"{where}, column 'item_id' of {known.name}")
    time = np.full(len(frame), np.nan)
    if "time" in frame.columns:
        time = _times(frame["time"], f"{where}, column 'time'")
    # Against events that have an order alone, a moment says nothing.
    time[_clockless(dataset)[user]] = np.nan
    end = _ends(dataset, split, user, time)
    if "split" in frame.columns:
        role = _roles(frame, where)
        return checked(Examples(user, end, domain, item, time, label, role, classes), where)
    role = _by_person(dataset, user)
    found = Examples(user, end, domain, item, time, label, role, classes)
    judging = role != Role.TRAIN
    by_heart = judging & (end < trained_until(dataset, split)[user])
    if by_heart.any() and by_heart.sum() == judging.sum():
        raise DataError(
            f"all {judging.sum():,} pairs to judge by lie before the end of training",
            where=where,
            hint="Add later pairs, or say in a column 'split' what each pair is for",
        )
    found = replace(found.take(~by_heart), left_out=int(by_heart.sum()))
    return checked(found, where)


def as_classes(labels: pl.Series, *, where: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Class index of each label, and the classes' names in order.

    Raises:
        DataError: a label is missing, is a fraction, or there are too many different ones.
    """
    if labels.null_count():
        row = int(labels.is_null().arg_true()[0]) + 1
        raise DataError(
            f"{labels.null_count():,} rows have no label, the first is row {row}",
            where=where,
            hint="Label them, or leave them out",
        )
    numbers = labels.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        fractions = labels.filter((numbers % 1 != 0).fill_null(True))
        if len(fractions):
            raise DataError(
                f"labels are not classes: found {fractions[0]}",
                where=where,
                hint="Give whole numbers or names; ratings are told by the task 'rate'",
            )
        numbers = numbers.cast(pl.Int64)
        values = numbers.unique().sort()
        names = tuple(str(value) for value in values)
        index = values.search_sorted(numbers).to_numpy()
    else:
        texts = labels.cast(pl.String)
        values = texts.unique().sort()
        names = tuple(values)
        index = np.searchsorted(np.array(names), texts.to_numpy().astype(str))
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"labels are not classes: {len(names):,} different ones among {len(labels):,}",
            where=where,
            hint=f"At most {MOST_CLASSES} can be told apart",
        )
    if len(names) < 2:
        raise DataError(
            f"every label is {names[0]!r}: with one class there is nothing to tell apart"
            if names
            else "there is no labelled pair",
            where=where,
            hint="Add pairs of another class",
        )
    return index.astype(np.float64), names


def _at(
    dataset: Dataset,
    position: NDArray[np.int64],
    label: NDArray[np.float64],
    role: NDArray[np.int8],
) -> Examples:
    """Examples whose pair is the event at `position` [n]."""
    events = dataset.events
    return Examples(
        user=events.user[position],
        end=position.astype(np.int64),
        domain=events.domain[position].astype(np.int64),
        item=events.item[position].astype(np.int64),
        time=events.time[position],
        label=label,
        role=role,
    )


def _joined(parts: Sequence[Examples], classes: tuple[str, ...]) -> Examples:
    names = ("user", "end", "domain", "item", "time", "label", "role")
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in names
    }
    return Examples(**columns, classes=classes)


def _had(dataset: Dataset) -> NDArray[np.int64]:
    """Every (person, item) that ever was, as sorted single numbers."""
    events = dataset.events
    return np.unique(events.user * dataset.n_items + dataset.flat(events.domain, events.item))


def _drawn(
    dataset: Dataset, here: Examples, had: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each example of one domain, an answer of somebody else's that its person never had."""
    drawn, found = here.item.copy(), np.zeros(len(here), bool)
    shift = dataset.item_offsets[here.domain]
    for _ in range(DRAWS):
        open_rows = np.flatnonzero(~found)
        if not len(open_rows):
            break
        candidate = rng.choice(here.item, len(open_rows))
        key = here.user[open_rows] * dataset.n_items + shift[open_rows] + candidate
        new = had[np.searchsorted(had, key).clip(max=len(had) - 1)] != key
        drawn[open_rows[new]], found[open_rows[new]] = candidate[new], True
    return drawn, found


def check_classes(
    labels: NDArray[np.float64], classes: Sequence[str], split: str, *, where: str
) -> None:
    """There must be several classes among the pairs of a split.

    Raises:
        DataError: there is one, or no pair.
    """
    found = np.unique(labels)
    if len(found) < 2:
        there = f"only {classes[int(found[0])]!r}" if len(found) else "no pair"
        raise DataError(
            f"there is {there} among the pairs for {split}",
            where=where,
            hint="Telling classes apart takes pairs of two or more classes in each",
        )


def checked(examples: Examples, where: str) -> Examples:
    """The examples, of which there must be several classes to learn from and to stop by.

    Raises:
        DataError: there is one, or no pair.
    """
    for role in (Role.TRAIN, Role.VALIDATION):
        check_classes(examples.of(role).label, examples.classes, SPLITS[role], where=where)
    return examples


def _rows(values: pl.Series, index: dict[str, int], where: str) -> NDArray[np.int64]:
    rows = np.array([index.get(str(value), -1) for value in values], np.int64)
    if (rows < 0).any():
        first = int(np.flatnonzero(rows < 0)[0])
        raise DataError(
            f"{(rows < 0).sum():,} of {len(rows):,} rows name something unknown, "
            f"for example {values[first]!r}",
            where=where,
            hint="Leave these rows out, or fit a model that knows them",
        )
    return rows


def _times(values: pl.Series, where: str) -> NDArray[np.float64]:
    """Unix seconds [n], NaN where there is none; one that cannot be read is an error."""
    seconds = to_seconds(values).seconds
    given = values.cast(pl.String).str.strip_chars().str.to_lowercase().fill_null("")
    unread = seconds.is_null() & ~given.is_in(["", "nan"])
    if unread.any():
        first = int(unread.arg_true()[0])
        raise DataError(
            f"{unread.sum():,} of {len(values):,} rows have a time that cannot be read, "
            f"first in row {first + 1:,}, {values[first]!r}",
            where=where,
            hint="Write Unix seconds or ISO dates such as 2024-05-31T12:00:00, or leave it blank",
        )
    return seconds.fill_null(float("nan")).to_numpy().astype(np.float64)


def _ends(
    dataset: Dataset, split: Split, user: NDArray[np.int64], time: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Where the histories end: before the first event that is not earlier than `time`."""
    events, end = dataset.events, trained_until(dataset, split)[user]
    for row in np.flatnonzero(~np.isnan(time)).tolist():
        start, stop = events.offsets[user[row]], events.offsets[user[row] + 1]
        # Events of a domain without a clock lie between the others and have no time.
        late = np.flatnonzero(events.time[start:stop] >= time[row])
        end[row] = start + late[0] if len(late) else stop
    return np.asarray(end, np.int64)


def _clockless(dataset: Dataset) -> NDArray[np.bool_]:
    """Whether each person has events, and none with a time, bool [n_users]."""
    first = dataset.events.offsets
    timed = np.concatenate([[0], np.cumsum(~np.isnan(dataset.events.time))])
    return np.asarray((first[1:] > first[:-1]) & (timed[first[1:]] == timed[first[:-1]]))


def trained_until(dataset: Dataset, split: Split) -> NDArray[np.int64]:
    """Behind the last event of each person that may be learnt from, int64 [n_users]."""
    first = dataset.events.offsets
    learnt = np.concatenate([[0], np.cumsum(split.in_train)])
    return np.asarray(first[:-1] + learnt[first[1:]] - learnt[first[:-1]], np.int64)


def _roles(frame: pl.DataFrame, where: str) -> NDArray[np.int8]:
    codes = {name: i for i, name in enumerate(SPLITS)}
    return _rows(frame["split"], codes, f"{where}, column 'split'").astype(np.int8)


def _by_person(dataset: Dataset, user: NDArray[np.int64]) -> NDArray[np.int8]:
    place = user_hash(dataset.user_ids.to_list(), "labelled-pairs")[user]
    return np.searchsorted([0.7, 0.85], place, side="right").astype(np.int8)
