"""What was registered while a service ran becomes part of a model's snapshot.

New items join their catalogues with their texts; known ones get the title, category and attributes
told last; what is hidden or deleted is withdrawn: it stays in histories, and is not offered. Taking
in the same registrations again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from isthmus.data.appending import in_catalogue
from isthmus.data.dataset import WITHDRAWN, Dataset, Domain
from isthmus.online.catalogue import OWN, Item


def with_registered(
    dataset: Dataset, items: Sequence[Item], *, fitted_items: Sequence[int]
) -> Dataset:
    """The snapshot with these registrations; itself where none is of its domains.

    Args:
        dataset: the snapshot.
        items: registrations, by the number of their latest change.
        fitted_items: items per domain, the first ones, that the alignment of texts rests on. Their
            texts stay until the model is fitted again: new items are read by maps found on them.
    """
    domains = list(dataset.domains)
    for d, domain in enumerate(domains):
        own = [item for item in items if item.domain == domain.name]
        # Marks on an item that nobody described say nothing of one that is not there.
        own = [item for item in own if item.described or item.item_id in domain.item_index]
        if own:
            domains[d] = _described(domain, own, fitted_items[d])
    if all(new is old for new, old in zip(domains, dataset.domains, strict=True)):
        return dataset
    return replace(dataset, domains=tuple(domains))


def _described(domain: Domain, own: Sequence[Item], n_fitted: int) -> Domain:
    grown, index = in_catalogue(domain, pl.Series([item.item_id for item in own], dtype=pl.String))
    told = [(place, item) for place, item in zip(index.tolist(), own, strict=True)]
    described = [(place, item) for place, item in told if item.described]
    items = grown.items
    for name in ("title", "category"):
        items = _with(items, name, {place: getattr(item, name) for place, item in described})
    texts = {p: item.text or item.title for p, item in described if p >= n_fitted}
    items = _with(items, "text", texts)
    named = [name for _, item in described for name in item.attributes if name not in OWN]
    plain = [name for name, kind in items.schema.items() if name not in OWN and _plain(kind)]
    for name in dict.fromkeys([*plain, *named]):
        values = {place: item.attributes.get(name) for place, item in described}
        if name in plain or name not in items.columns:
            items = _with(items, name, values)
    withdrawn = ~grown.offered
    for place, item in told:
        withdrawn[place] = item.hidden or item.deleted
    if withdrawn.any() or WITHDRAWN in items.columns:
        items = items.with_columns(pl.Series(WITHDRAWN, withdrawn))
    return replace(grown, items=items)


def _plain(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Categorical)


def _with(items: pl.DataFrame, name: str, told: dict[int, Any]) -> pl.DataFrame:
    """The table with some values of a column, which is made where there is none.

    A value that is of another kind than its column is left out.
    """
    if not told:
        return items
    some = [value for value in told.values() if value is not None]
    if name in items.columns:
        kind = items.schema[name]
    elif some:
        kind = _kind(some)
    else:
        return items
    if kind.is_integer() and not all(float(v).is_integer() for v in some if _number(v)):
        kind = pl.Float64()
    fits = _number if kind.is_numeric() else _boolean if kind == pl.Boolean else _text
    values = items[name].to_list() if name in items.columns else [None] * items.height
    for place, value in told.items():
        values[place] = value if fits(value) else None
    series = pl.Series(name, values, pl.String if kind == pl.Categorical else kind, strict=False)
    return items.with_columns(series.cast(kind))


def _kind(values: Sequence[Any]) -> pl.DataType:
    if all(map(_boolean, values)):
        return pl.Boolean()
    return pl.Float64() if all(map(_number, values)) else pl.String()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)
