"""One history per person out of any number of domains, with clocks or without.

Events are sorted by time. Ties are broken at random but for ever in the same way: by a 64-bit hash
of (seed, person, domain, item, occurrence), all raw names, so that neither a row's place in a file
nor an item's number says anything about the order. Strings are hashed by a polynomial over their
UTF-8 bytes modulo 2**64, numbers by the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014); both are fixed here, not taken from a
library that may change.

Domains without a clock keep their own order. Histories that share no clock are interleaved by
relative position: the third of six events goes where the fifth of ten goes.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Int = NDArray[np.int32]
Float = NDArray[np.float64]
Hash = NDArray[np.uint64]

_PRIME = np.uint64(0x100000001B3)
_CHUNK = 100_000


def mix(values: Hash) -> Hash:
    """SplitMix64's finaliser, a bijection that scatters every bit; uint64 of any shape."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def text_hash(texts: pl.Series, salt: str) -> Hash:
    """A 64-bit hash of each text, uint64 [n], the same in every run and on every machine."""
    parts = [
        _hash_chunk([f"{salt}\0{text}" for text in texts.slice(start, _CHUNK)])
        for start in range(0, len(texts), _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _hash_chunk(texts: list[str]) -> Hash:
    encoded = [text.encode() for text in texts]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    starts = np.cumsum(lengths) - lengths
    bytes_ = np.frombuffer(b"".join(encoded), np.uint8).astype(np.uint64) + np.uint64(1)
    place = np.arange(len(bytes_)) - np.repeat(starts, lengths)
    with np.errstate(over="ignore"):
        powers = np.multiply.accumulate(np.full(int(lengths.max()), _PRIME))
        return mix(np.add.reduceat(mix(bytes_) * powers[place], starts))


def tie_keys(people: Hash, items: Hash, user: Int, item: NDArray[np.int64]) -> Hash:
    """The random rank of each event among its ties, uint64 [n].

    Args:
        people: hash of each person, salted with the seed.
        items: hash of each item, salted with its domain.
        user: row of each event in `people`.
        item: row of each event in `items`.
    """
    with np.errstate(over="ignore"):
        return mix(people[user] * np.uint64(3) + items[item])


def history_order(user: Int, lane: NDArray[np.int16], place: Float, tie: Hash) -> NDArray[np.int64]:
    """The permutation that sorts events into histories, int64 [n].

    Args:
        user: row of each event's person.
        lane: events of one lane share a clock or an order; lanes of one person are interleaved.
        place: time or order within the lane.
        tie: random rank among equals; see `tie_keys`.
    """
    if not len(lane) or (lane == lane[0]).all():
        return _sorted_by(user=user, place=place, tie=tie)
    order = _sorted_by(user=user, lane=lane, place=place, tie=tie)
    run = np.flatnonzero(np.diff(user[order], prepend=-1) | np.diff(lane[order], prepend=-1))
    lengths = np.diff(np.append(run, len(order)))
    rank = np.arange(len(order)) - np.repeat(run, lengths)
    relative = np.empty(len(order))
    relative[order] = (rank + 0.5) / np.repeat(lengths, lengths)
    return _sorted_by(user=user, relative=relative, tie=tie)


def shared_order(user: Int, domain: NDArray[np.int16], order: Float) -> NDArray[np.bool_]:
    """Whether each event's person has an order that counts over all domains, bool [n].

    It does where no two events of the person in different domains have the same order.
    """
    by = _sorted_by(user=user, order=order, domain=domain)
    clash = (np.diff(user[by]) == 0) & (np.diff(order[by]) == 0) & (np.diff(domain[by]) != 0)
    clashing = np.zeros(int(user.max(initial=-1)) + 1, bool)
    clashing[user[by][1:][clash]] = True
    return ~clashing[user]


def occurrences(tie: Hash, place: Float, *others: NDArray[np.generic]) -> Hash:
    """Tie keys told apart where the same event occurs several times at one moment, uint64 [n].

    Args:
        tie: keys, equal for events of one person on one item.
        place: time or order.
        others: further columns of the events, so that which of several comes first does not depend
            on the file.
    """
    candidates = np.flatnonzero(pl.Series(tie).is_duplicated().to_numpy())
    frame = pl.DataFrame({"tie": tie[candidates], "place": place[candidates]})
    repeated = candidates[frame.is_duplicated().to_numpy()]
    if not len(repeated):
        return tie
    columns = {f"column_{i}": column[repeated] for i, column in enumerate(others)}
    order = repeated[_sorted_by(tie=tie[repeated], place=place[repeated], **columns)]
    run = np.flatnonzero(np.append(True, (np.diff(tie[order]) != 0) | (np.diff(place[order]) != 0)))
    lengths = np.diff(np.append(run, len(order)))
    occurrence = np.arange(len(order)) - np.repeat(run, lengths)
    keys = tie.copy()
    with np.errstate(over="ignore"):
        keys[order] = mix(tie[order] + occurrence.astype(np.uint64))
    return keys


def _sorted_by(**columns: NDArray[np.generic]) -> NDArray[np.int64]:
    """Argsort by several columns, the first one first; equal rows come in any order."""
    frame = pl.DataFrame(columns)
    order = frame.select(pl.arg_sort_by(*frame.columns)).to_series()
    return order.cast(pl.Int64).to_numpy()
