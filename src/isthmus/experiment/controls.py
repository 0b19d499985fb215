"""What a gain rests on, found by destroying one thing at a time and measuring again.

* `shuffled-text`: texts change places among the items of a domain that have one, so that the
  language model says nothing about an item. Texts and behaviour stay as they are.
* `shuffled-source`: items change places among the events of each source domain, within training
  and outside it. People act as often as before and items are as popular; who takes what, and what
  follows what, is lost.
* `random-overlap`: source histories change hands whole. What follows what in a source stays; whose
  history it is, is lost.

Nothing about the target's own events changes, so questions, slices and splits stay. Each shuffle is
fixed by raw ids and by places in histories, never by an item's number or a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset, Domain
from isthmus.data.features import ItemFeatures
from isthmus.data.ordering import mix, text_hash
from isthmus.data.splits import Split, user_hash
from isthmus.errors import ConfigError, did_you_mean

TEXT, SOURCE, OVERLAP = "shuffled-text", "shuffled-source", "random-overlap"
CONTROLS = {
    TEXT: "texts shuffled",
    SOURCE: "source items shuffled",
    OVERLAP: "source histories swapped",
}
"""Controls by name, and what they do in words."""

WITHOUT = {
    TEXT: "what the texts say",
    SOURCE: "who took what in the other domains",
    OVERLAP: "the people in common",
}
"""By control, what it takes away."""

ALONE_UNCHANGED = (SOURCE, OVERLAP)
"""Controls that a model of the target alone cannot notice."""


def check_control(control: str, dataset: Dataset, target: int) -> None:
    """Whether a control can destroy what it is meant to.

    Raises:
        ConfigError: no such control, or the data have nothing of the kind.
    """
    where = f"--control {control}"
    if control not in CONTROLS:
        raise ConfigError(
            f"no control is called {control!r}",
            where="--control",
            hint=did_you_mean(control, CONTROLS),
        )
    events, name = dataset.events, dataset.names[target]
    own = events.domain == target
    if control == TEXT and all(d.items["text"].count() < 2 for d in dataset.domains):
        raise ConfigError("no items have texts to shuffle", where=where, hint="Leave it out")
    if control != TEXT and own.all():
        raise ConfigError(
            f"no domain but {name} has events, so there is nothing to shuffle",
            where=where,
            hint="Leave it out",
        )
    if control == OVERLAP and not np.isin(events.user[own], events.user[~own]).any():
        raise ConfigError(
            f"{name} shares no person with the other domains: there is no overlap to take away",
            where=where,
            hint="Leave it out; what carries over goes by text",
        )


def alter(
    control: str, dataset: Dataset, split: Split, raw: Sequence[ItemFeatures], target: int
) -> tuple[Dataset, list[ItemFeatures]]:
    """The same data after a control, and the text vectors that belong to it.

    Events keep their positions, so the split and its questions hold as they are.

    Args:
        control: one of `CONTROLS`.
        dataset: the snapshot.
        split: of it.
        raw: text vectors per domain.
        target: index of the domain of the question.
    """
    if control == TEXT:
        return _shuffled_text(dataset, raw)
    shuffle = _shuffled_source if control == SOURCE else _random_overlap
    altered = shuffle(dataset, split, target)
    shown = dataset.impressions
    if shown is not None:
        # They tell who was shown what in truth.
        shown = shown.filter(pl.col("domain") == dataset.names[target])
    return replace(altered, impressions=shown), list(raw)


def _shuffled_text(
    dataset: Dataset, raw: Sequence[ItemFeatures]
) -> tuple[Dataset, list[ItemFeatures]]:
    domains: list[Domain] = []
    features: list[ItemFeatures] = []
    for domain, feature in zip(dataset.domains, raw, strict=True):
        ids = domain.items["item_id"].to_list()
        rows = np.flatnonzero(feature.present)
        origin, place = (
            rows[np.argsort(user_hash(ids, f"control-text-{side}")[rows])] for side in "ab"
        )
        source = np.arange(len(ids))
        source[place] = origin
        text = domain.items["text"].gather(source)
        domains.append(replace(domain, items=domain.items.with_columns(text=text)))
        features.append(replace(feature, vectors=feature.vectors[source]))
    return replace(dataset, domains=tuple(domains)), features


def _shuffled_source(dataset: Dataset, split: Split, target: int) -> Dataset:
    events = dataset.events
    item = events.item.copy()
    for d in range(len(dataset.domains)):
        for learnt in (True, False):
            at = np.flatnonzero((events.domain == d) & (split.in_train == learnt))
            if d == target:
                continue
            origin, place = (at[np.argsort(_drawn(dataset, at, side))] for side in "ab")
            item[place] = events.item[origin]
    return replace(dataset, events=replace(events, item=item))


def _drawn(dataset: Dataset, at: NDArray[np.int64], salt: str) -> NDArray[np.uint64]:
    """A random number for each event of one domain, by its person and its place among theirs."""
    user = dataset.events.user[at]
    first = np.flatnonzero(np.diff(user, prepend=-1))
    nth = np.arange(len(at)) - np.repeat(first, np.diff(np.append(first, len(at))))
    people = text_hash(dataset.user_ids, f"control-source-{salt}")
    with np.errstate(over="ignore"):
        return mix(people[user] + nth.astype(np.uint64))


def _random_overlap(dataset: Dataset, split: Split, target: int) -> Dataset:
    """Everybody's source events go to the next person of an order by length, drawn within lengths.

    The latest event takes the place of the latest, and so on backwards. The next person has at most
    as many events, so theirs is the whole latest part of one other history; what is left of each
    at its old end goes to the one with the longest.
    """
    events = dataset.events
    at = np.flatnonzero(events.domain != target)
    user = events.user[at]
    length = np.bincount(user, minlength=dataset.n_users)
    later = np.bincount(user[~split.in_train[at]], minlength=dataset.n_users)
    drawn = user_hash(dataset.user_ids.to_list(), "control-overlap")
    people = np.lexsort((drawn, -later, -length))[: np.count_nonzero(length)]
    rank = np.empty(dataset.n_users, np.int64)
    rank[people] = np.arange(len(people))
    latest = np.cumsum(length) - 1
    depth = latest[user] - np.arange(len(at))
    # How many have more than `depth` events: they are the first in the order.
    so_long = np.searchsorted(-length[people], -depth, side="left")
    giver = people[np.where(rank[user] > 0, rank[user], so_long) - 1]
    origin = at[latest[giver] - depth]
    columns = {name: getattr(events, name).copy() for name in ("domain", "item", "kind")}
    columns |= {name: getattr(events, name).copy() for name in ("rating", "weight", "time")}
    for name in ("domain", "item", "kind", "rating", "weight"):
        columns[name][at] = getattr(events, name)[origin]
    # A place in a history has its time; events of a domain without a clock have none anywhere.
    own, there = events.time[origin], events.time[at]
    columns["time"][at] = np.where(np.isnan(own) | np.isnan(there), own, there)
    return replace(dataset, events=replace(events, **columns))
