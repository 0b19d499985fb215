"""Items like an item, within its domain or in another one."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.blend import standardise
from isthmus.data.dataset import Dataset
from isthmus.errors import RequestError
from isthmus.recommender.answers import described
from isthmus.recommender.ranking import best_columns
from isthmus.recommender.relations import NOTHING, Relations
from isthmus.scoring import Float

ITEMS_AT_ONCE = 1 << 15


def similar_items(
    dataset: Dataset,
    relations: Relations,
    domain: int,
    item: int,
    to: int,
    k: int,
    rank_of_equals: NDArray[np.int64],
) -> pl.DataFrame:
    """The `k` items of domain `to` that stand nearest to an item, in equal parts of each relation.

    Args:
        dataset: names the items.
        relations: of the side that serves `to`.
        domain: index of the item's domain.
        item: its local index.
        to: index of the domain to look in.
        k: how many.
        rank_of_equals: int64 [n_items of `to`], which of two equals goes first.

    Returns:
        Columns `item_id`, `title`, `category`, `score`, `parts`; the score is relative to the
        average item, and the parts add up to it.

    Raises:
        RequestError: the item has neither text nor behaviour, or the blend no part that tells of
            items, so that nothing can be compared.
    """
    if not relations.names:
        raise RequestError(
            f"no part of the blend for {dataset.names[to]!r} tells which items are alike",
            where="blend.parts",
            hint="Fit with neural, co-occurrence or text among them",
        )
    start, stop = (int(bound) for bound in dataset.item_offsets[to : to + 2])
    own = int(dataset.item_offsets[domain]) + item
    if not relations.known(own):
        raise RequestError(
            "the item has neither a text nor any behaviour to compare by",
            where=f"{dataset.names[domain]}: {dataset.domains[domain].items['item_id'][item]}",
            hint="Give it a title, or wait for its first events",
        )
    parts = {
        name: share(relation(relations, name, own, start, stop)) / np.float32(len(relations.names))
        for name in relations.names
    }
    total = np.where(dataset.domains[to].offered, np.sum(list(parts.values()), axis=0), -np.inf)
    if domain == to:
        total[item] = -np.inf
    best = best_columns(total[None], k, rank_of_equals)[0]
    best = best[best >= 0]
    return described(
        dataset.domains[to], best, total[best], {name: part[best] for name, part in parts.items()}
    )


def relation(relations: Relations, name: str, own: int, start: int, stop: int) -> Float:
    """Relation of every item in `start:stop` to the item `own`, float32 [n_items]."""
    one = np.array([[own]])
    found = []
    for first in range(start, stop, ITEMS_AT_ONCE):
        others = np.arange(first, min(first + ITEMS_AT_ONCE, stop))[None]
        after = relations.between(name, one, others)[0, :, 0]
        if name == "co-occurrence":
            # Counts run with time; what came before an item is as near to it as what came after.
            before = relations.between(name, others, one)[0, 0]
            after = np.maximum(after, 0) + np.maximum(before, 0)
        found.append(after)
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def share(found: Float) -> Float:
    """Standardised over the catalogue; what a part knows nothing of counts as average."""
    known = found != NOTHING
    if not known.any():
        return np.zeros_like(found)
    scaled: Float = standardise(np.where(known, found, found[known].mean())[None])[0]
    centred: Float = scaled - scaled.mean()
    return centred
