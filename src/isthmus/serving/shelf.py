"""One domain's catalogue at this moment: the model's items, and what has changed since.

A shelf is a value; a change gives another one. Places on it are local item indices, append-only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Domain
from isthmus.data.splits import user_hash
from isthmus.errors import RequestError, did_you_mean
from isthmus.online.catalogue import OWN, Item
from isthmus.serving.filter_masks import Attribute, mask
from isthmus.serving.filters import Filter, written

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
_MASKS = 64
"""Filters whose items are remembered until the catalogue changes."""


@dataclass(frozen=True)
class Shelf:
    """A catalogue.

    Attributes:
        name: of the domain.
        ids: raw id of each item.
        index: raw id → place.
        titles: None where missing.
        categories: None where missing.
        extra: further attributes by name, one value per item, None where missing.
        hidden: bool [n_items].
        deleted: bool [n_items].
        lot: float64 [n_items] in [0, 1), drawn by raw id; decides between equals.
    """

    name: str
    ids: tuple[str, ...]
    index: Mapping[str, int]
    titles: tuple[str | None, ...]
    categories: tuple[str | None, ...]
    extra: Mapping[str, tuple[object, ...]]
    hidden: Mask
    deleted: Mask
    lot: NDArray[np.float64]

    @classmethod
    def of(cls, domain: Domain) -> Self:
        """What a model knows of a domain."""
        items = domain.items
        ids = tuple(items["item_id"].to_list())
        plain = [
            name
            for name, kind in items.schema.items()
            if name not in OWN
            and (kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Categorical))
        ]
        return cls(
            name=domain.name,
            ids=ids,
            index=domain.item_index,
            titles=tuple(items["title"].to_list()),
            categories=tuple(items["category"].cast(pl.String).to_list()),
            extra={name: tuple(items[name].to_list()) for name in plain},
            hidden=~domain.offered,
            deleted=np.zeros(len(ids), bool),
            lot=_lots(ids),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def changed(self, changes: Sequence[Item]) -> Shelf:
        """With items taken in, described anew, hidden or deleted; new ones stand at the end."""
        fresh = [
            item
            for item in {change.item_id: change for change in changes}.values()
            if item.item_id not in self.index and item.described
        ]
        ids = (*self.ids, *(item.item_id for item in fresh))
        index = dict(self.index) if fresh else self.index
        index = {**index, **{item.item_id: len(self) + n for n, item in enumerate(fresh)}}
        n_new = len(fresh)
        titles, categories = ([*old, *[None] * n_new] for old in (self.titles, self.categories))
        told = (key for change in changes for key in change.attributes if key not in OWN)
        names = dict.fromkeys([*self.extra, *told])
        extra = {key: [*self.extra.get(key, [None] * len(self)), *[None] * n_new] for key in names}
        hidden, deleted = (np.pad(old, (0, n_new)) for old in (self.hidden, self.deleted))
        for change in changes:
            place = index.get(change.item_id)
            if place is None:
                continue
            hidden[place], deleted[place] = change.hidden, change.deleted
            if change.described:
                titles[place], categories[place] = change.title, change.category
                for key, column in extra.items():
                    column[place] = change.attributes.get(key)
        return Shelf(
            name=self.name,
            ids=ids,
            index=index,
            titles=tuple(titles),
            categories=tuple(categories),
            extra={key: tuple(column) for key, column in extra.items()},
            hidden=hidden,
            deleted=deleted,
            lot=np.concatenate([self.lot, _lots(ids[len(self) :])]),
        )

    def place(self, item_id: str, where: str) -> int:
        """Place of an item that is not deleted.

        Raises:
            RequestError: there is none; names the near ones.
        """
        found = self.index.get(item_id)
        if found is None or self.deleted[found]:
            near = [known for known in self.ids[:20_000] if known[:2] == item_id[:2]]
            raise RequestError(
                f"item {item_id!r} is not in the catalogue of {self.name!r}",
                where=where,
                hint=did_you_mean(item_id, near) if near else "GET /v1/items lists what there is",
            )
        return found

    @cached_property
    def offered(self) -> Mask:
        """Items that may be offered, bool [n_items]."""
        found: Mask = ~(self.hidden | self.deleted)
        return found

    @cached_property
    def rank_of_equals(self) -> Indices:
        """Which of two items of equal score goes first, int64 [n_items]."""
        rank = np.empty(len(self), np.int64)
        rank[self._by_lot] = np.arange(len(self))
        return rank

    def drawn(self, lots: NDArray[np.float64]) -> Indices:
        """Places of the items with these lots; those of no item are left out."""
        if not len(self):
            return np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self._sorted_lots, lots), len(self) - 1)
        found: Indices = self._by_lot[at[self._sorted_lots[at] == lots]]
        return found

    def after(self, item_id: str, limit: int) -> list[int]:
        """Places of items that are not deleted, by raw id, from behind an id on."""
        start = bisect_right(self._sorted_ids, item_id)
        places = (self.index[found] for found in self._sorted_ids[start:])
        kept = (place for place in places if not self.deleted[place])
        return [place for place, _ in zip(kept, range(limit), strict=False)]

    def passing(self, tree: Filter) -> Mask:
        """Items that pass a filter, bool [n_items]; see `filter_masks.mask`."""
        found: Mask = self._passing(tree, written(tree))
        return found

    @cached_property
    def _passing(self) -> Any:
        # Told apart by how it is written as well: in trees, true is equal to 1.
        return lru_cache(_MASKS)(lambda tree, _: mask(tree, self._attributes, len(self)))

    @cached_property
    def _attributes(self) -> dict[str, Attribute]:
        columns = {
            "item_id": self.ids,
            "title": self.titles,
            "category": self.categories,
            **self.extra,
        }
        return {name: Attribute.of(column) for name, column in columns.items()}

    @cached_property
    def _sorted_ids(self) -> list[str]:
        return sorted(self.ids)

    @cached_property
    def _by_lot(self) -> Indices:
        return np.argsort(self.lot)

    @cached_property
    def _sorted_lots(self) -> NDArray[np.float64]:
        lots: NDArray[np.float64] = self.lot[self._by_lot]
        return lots


def _lots(ids: Sequence[str]) -> NDArray[np.float64]:
    # The draw of `evaluation.ranks.canonical_order`.
    return user_hash(list(ids), "item-order") if ids else np.zeros(0)
