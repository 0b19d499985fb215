"""One short phrase per recommended item: the part that carried it, and the history behind that.

Phrases are read off the parts themselves, the same numbers that ranked the item.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.recommender.ranking import Top
from isthmus.recommender.relations import Relations
from isthmus.recommender.serving import POPULAR, Served
from isthmus.scoring import Requests

LOOKED_AT = 50
"""Latest events of a history among which the one behind an item is sought."""
LONGEST_TITLE = 60

_PHRASES = {
    "text": ("reads like {}", "by its text"),
    "co-occurrence": ("often follows {}", "often follows what was chosen before"),
    "neural": ("fits the history, closest to {}", "fits the history"),
}


def reasons(
    dataset: Dataset,
    served: Served,
    relations: Relations,
    requests: Requests,
    domain: int,
    top: Top,
) -> list[list[str]]:
    """Phrases for the items of `top`, by request; "" where there is no item.

    Args:
        dataset: gives titles.
        served: who answered.
        relations: of the side that answered.
        requests: what it was asked; visible histories.
        domain: index of the target.
        top: the answer.
    """
    names = list(top.parts)
    # A part of negative weight lifts what it speaks against: no reason to give.
    usable = [served.weights.get(name, 0.0) > 0 for name in names]
    shares = np.stack([np.where(u, top.parts[n], 0) for n, u in zip(names, usable, strict=True)])
    leading = np.where(shares.max(0) > 0, shares.argmax(0), -1)

    read = requests.among(served.reads)
    history = _latest_first(dataset, read)
    start = dataset.item_offsets[domain]
    items = np.where(top.item >= 0, top.item + start, -1)
    behind = np.full(top.item.shape, -1, np.int64)
    for name in relations.names:
        here = leading == names.index(name) if name in names else np.zeros_like(leading, bool)
        rows = np.flatnonzero(here.any(1))
        if not len(rows) or not history.shape[1]:
            continue
        asked = requests.query_time[rows]
        found = relations.between(name, history[rows], items[rows], query_time=asked)
        if name == "co-occurrence":
            found *= np.power(relations.recency, np.arange(found.shape[2]), dtype=np.float32)
        if name == "text":
            stop = dataset.item_offsets[domain + 1]
            own = (history[rows] >= start) & (history[rows] < stop)
            found *= np.where(own, 1.0, relations.elsewhere).astype(np.float32)[:, None, :]
        best = np.take_along_axis(history[rows], found.argmax(2), axis=1)
        behind[rows] = np.where(here[rows] & (found.max(2) > 0), best, behind[rows])
    titles = _titles(dataset, np.unique(behind[behind >= 0]), domain)
    phrases = [
        "" if item < 0 else _phrase(names[part] if part >= 0 else None, titles.get(int(cause)))
        for item, part, cause in zip(items.flat, leading.flat, behind.flat, strict=True)
    ]
    k = items.shape[1]
    return [phrases[place * k : (place + 1) * k] for place in range(len(items))]


def _latest_first(dataset: Dataset, requests: Requests) -> NDArray[np.int64]:
    """Flat indices of the latest events, [batch, at most LOOKED_AT], -1 behind the oldest."""
    near = requests.keep(requests.age < LOOKED_AT)
    history = np.full((len(near), int(near.lengths.max(initial=0))), -1, np.int64)
    history[near.rows, near.age] = dataset.flat(near.domain, near.item)
    return history


def _phrase(part: str | None, title: str | None) -> str:
    if part is None:
        return "the best of what is left"
    if part == POPULAR:
        return "popular now"
    if part not in _PHRASES:
        return part
    named, unnamed = _PHRASES[part]
    return unnamed if title is None else named.format(title)


def _titles(dataset: Dataset, flat: NDArray[np.int64], domain: int) -> dict[int, str]:
    """Quoted titles by flat index, with the domain's name where it is another."""
    of = np.searchsorted(dataset.item_offsets, flat, side="right") - 1
    titles = {}
    for d in np.unique(of):
        here = flat[of == d]
        rows = pl.Series("row", here - dataset.item_offsets[d])
        items = dataset.domains[d].items.select(pl.col("item_id", "title").gather(rows))
        closing = "" if d == domain else f" from {dataset.names[d]}"
        for index, title, item_id in zip(here, items["title"], items["item_id"], strict=True):
            text = title or item_id
            if len(text) > LONGEST_TITLE:
                text = text[: LONGEST_TITLE - 1].rstrip() + "…"
            titles[int(index)] = f"'{text}'{closing}"
    return titles
