"""The groups of questions that are reported apart, declared before any result is seen.

By the answer (new, rare or seen in training), by how much the person has done in the target, and
by whether they have done anything elsewhere. A slice that is too small to say anything is merged
with its neighbour, and a note says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.data.splits import user_hash
from isthmus.evaluation.ranks import earlier_elsewhere, earlier_in

Mask = NDArray[np.bool_]

ALL = "all"
COLD = "cold users"
NEW = "new items"
RARE = "items with ≤ 3 events"
SEEN = "seen items"
WITH_SOURCE = "with source history"
WITHOUT_SOURCE = "without source history"
KEPT = "kept users"
NEWCOMERS = "new to the target"
LENGTHS: tuple[tuple[int, int | None], ...] = ((0, 0), (1, 2), (3, 5), (6, 10), (11, None))


@dataclass(frozen=True)
class Slices:
    """Which questions belong to which slice.

    Attributes:
        masks: bool [n] by slice name; slices overlap.
        notes: one sentence for each slice that was too small to stand alone.
    """

    masks: dict[str, Mask]
    notes: tuple[str, ...] = field(default=())


def slice_masks(
    dataset: Dataset,
    position: NDArray[np.int64],
    domain: int,
    popularity: NDArray[np.int64],
    *,
    min_slice: int,
    hidden: Mask | None = None,
) -> Slices:
    """Slices of the questions at `position` [n], whose answers lie in `domain`.

    Args:
        dataset: holds the questions' events.
        position: answers' positions in `dataset.events`.
        domain: index of the target domain.
        popularity: int64 [n_items] training events of each item of the target domain.
        min_slice: fewest questions of a slice.
        hidden: bool [n_events], events of the target that do not count as history.
    """
    masks: dict[str, Mask] = {ALL: np.ones(len(position), bool)}
    notes: list[str] = []
    seen = popularity[dataset.events.item[position]]
    elsewhere = earlier_elsewhere(dataset.events, position, domain)
    for name, mask, needed, into in (
        (NEW, seen == 0, seen == 0, RARE),
        (RARE, seen <= 3, seen <= 3, ALL),
        (SEEN, seen > 0, seen > 0, ALL),
        # Two neighbours: where either is too small, merging them leaves everybody.
        (WITH_SOURCE, elsewhere > 0, elsewhere == 0, ALL),
        (WITHOUT_SOURCE, elsewhere == 0, elsewhere > 0, ALL),
    ):
        if min(mask.sum(), needed.sum()) >= min_slice:
            masks[name] = mask
        else:
            notes.append(f"{name}: {mask.sum()} questions, reported within {into!r}")
    by_length, merged = _length_slices(
        earlier_in(dataset.events, position, domain, hidden=hidden), min_slice=min_slice
    )
    return Slices({**masks, **by_length}, (*notes, *merged))


def kept_slices(kept: Mask, *, min_slice: int) -> Slices:
    """People whom the target still knows and people whom it does not, by question [n].

    For targets of which only a share is left: `kept` is true where the person has a training event
    there still. Where either side is too small, merging them leaves everybody.
    """
    if min(kept.sum(), (~kept).sum()) >= min_slice:
        return Slices({KEPT: kept, NEWCOMERS: ~kept})
    sides = ((KEPT, kept), (NEWCOMERS, ~kept))
    notes = tuple(f"{n}: {m.sum()} questions, reported within {ALL!r}" for n, m in sides)
    return Slices({}, notes)


def cold_users(dataset: Dataset, share: float) -> Mask:
    """Users [n_users] whose target history is hidden in a second ranking: a fixed `share`."""
    return user_hash(dataset.user_ids.to_list(), "cold-users") < share


def _length_slices(
    length: NDArray[np.int64], *, min_slice: int
) -> tuple[dict[str, Mask], list[str]]:
    """Buckets of target-history length, the smallest joined to its smaller neighbour as needed."""
    buckets = [
        (low, high, (length >= low) & (length <= (np.inf if high is None else high)))
        for low, high in LENGTHS
    ]
    declared = {(low, high): int(mask.sum()) for low, high, mask in buckets}
    while len(buckets) > 1:
        sizes = [int(mask.sum()) for _, _, mask in buckets]
        small = int(np.argmin(sizes))
        if sizes[small] >= min_slice:
            break
        sides = [i for i in (small - 1, small + 1) if 0 <= i < len(buckets)]
        first, second = sorted((small, min(sides, key=lambda i: sizes[i])))
        (low, _, a), (_, high, b) = buckets[first], buckets[second]
        buckets[first : second + 1] = [(low, high, a | b)]
    if len(buckets) == 1:
        return {}, ["target history by length: too few questions, reported within 'all'"]
    kept = {_length_name(low, high): mask for low, high, mask in buckets}
    # Buckets are joined in order, so the last one that starts no later holds the declared one.
    home = {low: max(start for start, _, _ in buckets if start <= low) for low, _ in LENGTHS}
    into = {low: _length_name(low, high) for low, high, _ in buckets}
    notes = [
        f"{_length_name(low, high)}: {n} questions, reported within {into[home[low]]!r}"
        for (low, high), n in declared.items()
        if _length_name(low, high) not in kept
    ]
    return kept, notes


def _length_name(low: int, high: int | None) -> str:
    if high is None:
        return f"target history > {low - 1}"
    return f"target history {low}" if low == high else f"target history {low}–{high}"
