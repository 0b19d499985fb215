"""Tables in memory, with canonical column names: what a `Dataset` is built from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.cleaning import Origin


@dataclass(frozen=True)
class DomainFrames:
    """One domain's tables. Values may be of any type that cleaning can read.

    Attributes:
        events: columns `user_id`, `item_id` and optionally `time` (Unix seconds, milliseconds or
            ISO texts), `order`, `rating`, `kind`, `weight`; None: nobody has done anything yet.
        items: column `item_id` and optionally `title`, `category`, `text` and any attributes; None:
            items are known by id only.
        text: columns of `items` that the language model reads, joined by ' | '; empty: the column
            `text` where there is one, else title and category.
        vectors: further modalities by name, float [rows of `items`, dim], NaN rows where missing.
        corpus: free texts tied to no item.
        keep_kinds: event types to keep, None for all.
        events_origin: where the events came from, for messages.
        items_origin: where the items came from, for messages.
    """

    events: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    text: Sequence[str] = ()
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    corpus: Sequence[str] = ()
    keep_kinds: Sequence[str] | None = None
    events_origin: Origin | None = None
    items_origin: Origin | None = None


@dataclass(frozen=True)
class PeopleFrames:
    """Optional tables about people and knowledge, shared by all domains.

    Ids of people here are those of the built dataset: as in the events where `linked`, otherwise
    `domain:user_id`, or the mapping's `person_id`. An id as in the events will do where it can mean
    one person only; impressions say which domain they are of, so there it always does.

    Attributes:
        linked: the same user id in two domains is one person.
        mapping: columns `domain`, `user_id`, `person_id`; goes before `linked`.
        users: column `user_id` and any attributes.
        links: columns `user_id`, `other_id` and any others.
        groups: columns `user_id`, `group_id` and any others.
        triples: columns `head`, `relation`, `tail`.
        impressions: columns `user_id`, `domain`, `item_id` and optionally `time`, `propensity`,
            `clicked`.
        origins: table name → where it came from, for messages.
    """

    linked: bool = True
    mapping: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    links: pl.DataFrame | None = None
    groups: pl.DataFrame | None = None
    triples: pl.DataFrame | None = None
    impressions: pl.DataFrame | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
