"""The immutable snapshot of N domains that everything else works on.

Identity: an item is (domain index, local item index); both are append-only, so a catalogue or a
set of domains can grow under a trained model without renumbering. Raw ids live only in the tables
here and at the edges. The same raw id in two domains is two items; the same raw user id in two
domains is one person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.errors import RequestError, did_you_mean

WITHDRAWN = "_withdrawn"
"""Column of a catalogue, where it has one: true for items that are history, and not offered."""


@dataclass(frozen=True)
class Domain:
    """One catalogue.

    Attributes:
        name: the domain's name in the configuration.
        items: one row per item in index order. Columns `item_id` (text, unique), `text` (what the
            language model reads, null where missing), `title` and `category` (null where missing),
            then any attribute columns of the user's own.
        vectors: further modalities by name, float32 [n_items, dim], NaN rows where missing.
        corpus: free texts of the domain (news, descriptions), tied to no item.
    """

    name: str
    items: pl.DataFrame
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    corpus: tuple[str, ...] = ()

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self.items.height

    @cached_property
    def offered(self) -> NDArray[np.bool_]:
        """Items that may be recommended, bool [n_items]: all that are not `WITHDRAWN`."""
        if WITHDRAWN not in self.items.columns:
            return np.ones(self.n_items, bool)
        return ~self.items[WITHDRAWN].fill_null(False).to_numpy()

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Raw item id → local index."""
        return {raw: i for i, raw in enumerate(self.items["item_id"])}

    def index_of(self, item_id: str) -> int:
        """Local index of a raw item id; RequestError names the near ones."""
        try:
            return self.item_index[item_id]
        except KeyError:
            raise RequestError(
                f"item {item_id!r} is not in the catalogue of {self.name!r}",
                hint=did_you_mean(item_id, list(self.item_index)[:50_000]),
            ) from None


@dataclass(frozen=True)
class Events:
    """Behaviour as one CSR: users → events in order, all domains together.

    Attributes:
        offsets: int64 [n_users + 1]; the events of user u are `offsets[u]:offsets[u + 1]`, oldest
            first, ties already broken.
        domain: int16 [n] domain index.
        item: int32 [n] local item index.
        time: float64 [n] Unix seconds; NaN in a domain that has only an order.
        kind: int16 [n] index into `Dataset.kinds`.
        rating: float32 [n] as in the source, NaN where there is none.
        weight: float32 [n], 1 unless the source says otherwise.
    """

    offsets: NDArray[np.int64]
    domain: NDArray[np.int16]
    item: NDArray[np.int32]
    time: NDArray[np.float64]
    kind: NDArray[np.int16]
    rating: NDArray[np.float32]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.item)

    @property
    def n_users(self) -> int:
        """Number of users, with or without events."""
        return len(self.offsets) - 1

    @cached_property
    def user(self) -> NDArray[np.int64]:
        """User row of each event, int64 [n]."""
        return np.repeat(np.arange(self.n_users), np.diff(self.offsets))

    def keep(self, mask: NDArray[np.bool_]) -> Events:
        """The events where `mask` [n] is true; users keep their rows."""
        counts = np.bincount(self.user[mask], minlength=self.n_users)
        return Events(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            domain=self.domain[mask],
            item=self.item[mask],
            time=self.time[mask],
            kind=self.kind[mask],
            rating=self.rating[mask],
            weight=self.weight[mask],
        )

    def only(self, *domains: int) -> Events:
        """The events of the given domains; users keep their rows."""
        return self.keep(np.isin(self.domain, domains))

    @classmethod
    def from_columns(
        cls,
        n_users: int,
        user: NDArray[np.int64],
        domain: NDArray[np.int16],
        item: NDArray[np.int32],
        time: NDArray[np.float64],
        *,
        kind: NDArray[np.int16] | None = None,
        rating: NDArray[np.float32] | None = None,
        weight: NDArray[np.float32] | None = None,
    ) -> Events:
        """Build from columns already sorted by user, then by order within the user."""
        n = len(user)
        counts = np.bincount(user, minlength=n_users)
        return cls(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            domain=domain.astype(np.int16),
            item=item.astype(np.int32),
            time=time.astype(np.float64),
            kind=np.zeros(n, np.int16) if kind is None else kind.astype(np.int16),
            rating=np.full(n, np.nan, np.float32) if rating is None else rating.astype(np.float32),
            weight=np.ones(n, np.float32) if weight is None else weight.astype(np.float32),
        )


@dataclass(frozen=True)
class Dataset:
    """N domains and the people who act in them. Growth makes a new snapshot that extends this one.

    Attributes:
        domains: the catalogues; the position is the domain index.
        user_ids: raw user ids in row order (Polars text series).
        events: all behaviour.
        kinds: names of the event types; `Events.kind` points here.
        user_attributes: column `user_id` and any further ones, or None.
        links: columns `user_id`, `other_id`, optional `kind`, `weight`: friends, trust.
        groups: columns `user_id`, `group_id`: membership.
        triples: columns `head`, `relation`, `tail`; an item is written `domain:item_id`.
        impressions: columns `user_id`, `domain`, `item_id`, `time`, `propensity`, `clicked`.
        notes: what building it found worth saying, one sentence each.
    """

    domains: tuple[Domain, ...]
    user_ids: pl.Series
    events: Events
    kinds: tuple[str, ...] = ("event",)
    user_attributes: pl.DataFrame | None = None
    links: pl.DataFrame | None = None
    groups: pl.DataFrame | None = None
    triples: pl.DataFrame | None = None
    impressions: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_users(self) -> int:
        """Number of people known by id."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Items of all catalogues together."""
        return int(self.item_offsets[-1])

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same events on the same items with the same texts, as a hash."""
        events = self.events
        digest = hashlib.blake2b(repr(self.names).encode(), digest_size=16)
        for array in (events.offsets, events.domain, events.item, events.time):
            digest.update(array.tobytes())
        for column in (events.weight, events.rating, events.kind):
            digest.update(column.tobytes())
        for domain in self.domains:
            digest.update(domain.items.select("item_id", "text").write_json().encode())
        return digest.hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Domain names in index order."""
        return tuple(domain.name for domain in self.domains)

    @cached_property
    def item_offsets(self) -> NDArray[np.int64]:
        """int64 [n_domains + 1]: where each domain starts in the flat numbering of a snapshot."""
        return np.concatenate([[0], np.cumsum([d.n_items for d in self.domains])]).astype(np.int64)

    def flat(self, domain: NDArray[np.int16], item: NDArray[np.int32]) -> NDArray[np.int64]:
        """(domain, local item) → index in this snapshot's flat numbering of all items."""
        return self.item_offsets[domain.astype(np.int64)] + item

    @cached_property
    def user_index(self) -> dict[str, int]:
        """Raw user id → row."""
        return {raw: i for i, raw in enumerate(self.user_ids)}

    def domain_index(self, name: str) -> int:
        """Index of a domain by name; RequestError names the near ones."""
        if name not in self.names:
            raise RequestError(
                f"domain {name!r} is not in this dataset", hint=did_you_mean(name, self.names)
            )
        return self.names.index(name)
