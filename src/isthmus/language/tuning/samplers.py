"""What a step of contrast holds: anchors, their answers, and what is no answer.

An anchor is one item of a pair, or the latest items of somebody's history. All answers of a step
are of one domain, so that they are told apart within one catalogue, as in ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isthmus.data.next_items import NextItems
from isthmus.data.pairs import ItemPairs

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Readable:
    """Which item has which text.

    Attributes:
        text: int64 [n_items] row of its text, -1 without; equal texts share a row.
        domain: int64 [n_items].
    """

    text: Rows
    domain: Rows


@dataclass(frozen=True)
class Batch:
    """One step.

    Attributes:
        anchor: int64 [n, length] items.
        weight: float32 [n, length] of each; 0 where an anchor has fewer items.
        candidates: int64 [n + m] items of one domain; the first n are the anchors' answers.
        hidden: bool [n, n + m]; candidates that are no negatives of the anchor.
    """

    anchor: Rows
    weight: NDArray[np.float32]
    candidates: Rows
    hidden: NDArray[np.bool_]


class Sampler(Protocol):
    """Draws steps."""

    def draw(self, rng: np.random.Generator) -> Batch:
        """The next step."""
        ...


class Negatives:
    """Further candidates of a step, and which candidates are no negatives.

    Args:
        readable: texts and domains of the items.
        count: items drawn a step, beside the other answers.
        near: int64 [n_items, k] items whose texts are nearest, within the domain; what hard
            negatives are drawn from.
        hard_share: share of the drawn items that are such.
    """

    def __init__(
        self, readable: Readable, count: int, near: Rows | None = None, hard_share: float = 0.0
    ) -> None:
        self._text, self._near = readable.text, near
        self._hard = round(count * hard_share) if near is not None else 0
        self._even = count - self._hard
        self._catalogue = {
            int(d): np.flatnonzero((readable.domain == d) & (readable.text >= 0))
            for d in np.unique(readable.domain)
        }

    def beside(self, rng: np.random.Generator, answer: Rows, domain: int) -> Rows:
        """Answers [n] of one domain → these and the drawn items, [n + m]."""
        others = [rng.choice(self._catalogue[domain], self._even)]
        if self._near is not None and self._hard:
            of = rng.choice(answer, self._hard)
            others.append(self._near[of, rng.integers(self._near.shape[1], size=self._hard)])
        return np.concatenate([answer, *others])

    def hidden(self, known: sp.csr_array, candidates: Rows) -> NDArray[np.bool_]:
        """Candidates that an anchor is known to go with, or that read like its answer.

        Args:
            known: bool [n, n_items] by anchor.
            candidates: int64 [n + m], the answers first.

        Returns:
            bool [n, n + m], false for each anchor's own answer.
        """
        n, text = known.shape[0], self._text
        # Far faster than to cut columns out of the sparse rows.
        distinct, place = np.unique(candidates, return_inverse=True)
        column = np.full(len(text), -1, np.int64)
        column[distinct] = np.arange(len(distinct))
        row, item = known.nonzero()
        asked = column[item] >= 0
        hidden = np.zeros((n, len(distinct)), bool)
        hidden[row[asked], column[item[asked]]] = True
        hidden = hidden[:, place] | (text[candidates[:n]][:, None] == text[candidates])
        np.fill_diagonal(hidden, val=False)
        return np.asarray(hidden, bool)


class PairSampler:
    """Anchors are single items, drawn with their answer by the pair's weight.

    A step's pairs are all of one kind, from one domain to one domain. An item that anybody chose
    together with the anchor, or that reads the same, is no negative.

    Args:
        pairs: of items that have a text.
        readable: their texts and domains.
        size: pairs a step.
        negatives: further candidates.
        cross_share: share of the steps on pairs across domains, where there are any.
    """

    def __init__(
        self,
        pairs: ItemPairs,
        readable: Readable,
        *,
        size: int,
        negatives: Negatives,
        cross_share: float,
    ) -> None:
        self._pairs, self._text = pairs, readable.text
        self._size, self._negatives = size, negatives
        self._rows: dict[int, Rows] = {}
        self._mass: dict[int, NDArray[np.float64]] = {}
        for kind in np.unique(pairs.kind):
            rows = np.flatnonzero(pairs.kind == kind)
            self._rows[int(kind)] = rows
            self._mass[int(kind)] = np.cumsum(pairs.weight[rows]) / pairs.weight[rows].sum()
        n = pairs.n_domains
        across = {kind: kind // n != kind % n for kind in self._rows}
        shares = {True: cross_share, False: 1 - cross_share}
        groups = {side: sum(a is side for a in across.values()) for side in (True, False)}
        chance = np.array([shares[across[kind]] / groups[across[kind]] for kind in self._rows])
        if not chance.sum():  # only the other sort of pairs exists
            chance += 1.0
        self._chance = chance / chance.sum()

    def draw(self, rng: np.random.Generator) -> Batch:
        """Pairs of one kind, and their negatives."""
        kind = list(self._rows)[int(rng.choice(len(self._chance), p=self._chance))]
        chosen = self._rows[kind][_places(self._mass[kind], rng, self._size)]
        anchor, answer = self._pairs.first[chosen], self._pairs.second[chosen]
        candidates = self._negatives.beside(rng, answer, kind % self._pairs.n_domains)
        hidden = self._negatives.hidden(self._pairs.together[anchor], candidates)
        same = self._text[anchor][:, None] == self._text[candidates]
        np.fill_diagonal(same, val=False)
        weight = np.ones((len(anchor), 1), np.float32)
        return Batch(anchor[:, None], weight, candidates, hidden | same)


class HistorySampler:
    """Anchors are the latest items of a history, the answer is what came next in that domain.

    Every domain that has answers gets as many steps. An item that the person chose at any time is
    no negative.

    Args:
        behaviour: histories of items that have a text.
        answers: int64 positions in it that may be asked for.
        size: histories a step.
        negatives: further candidates.
        length: latest items that count.
        recency: weight of an item, per event of age.
    """

    def __init__(
        self,
        behaviour: NextItems,
        answers: Rows,
        *,
        size: int,
        negatives: Negatives,
        length: int,
        recency: float,
    ) -> None:
        self._behaviour, self._size, self._negatives = behaviour, size, negatives
        self._age = np.arange(length)
        self._recency = recency
        domain = behaviour.domain[answers]
        self._answers = {int(d): answers[domain == d] for d in np.unique(domain)}

    def draw(self, rng: np.random.Generator) -> Batch:
        """Histories that end in one domain, and their negatives."""
        domain = list(self._answers)[int(rng.integers(len(self._answers)))]
        asked = rng.choice(self._answers[domain], self._size)
        known = self._behaviour
        place = asked[:, None] - 1 - self._age
        there = place >= known.begin[asked][:, None]
        weight = np.where(there, self._recency**self._age, 0.0).astype(np.float32)
        # Where a history is shorter, its answer's predecessor stands in, with no weight.
        anchor = known.item[np.where(there, place, asked[:, None] - 1)]
        candidates = self._negatives.beside(rng, known.item[asked], domain)
        hidden = self._negatives.hidden(known.chosen[known.person[asked]], candidates)
        return Batch(anchor, weight, candidates, hidden)


def _places(mass: NDArray[np.float64], rng: np.random.Generator, size: int) -> Rows:
    """Places drawn by weight, from the cumulated shares `mass`."""
    drawn = np.searchsorted(mass, rng.random(size), side="right")
    return np.minimum(drawn, len(mass) - 1)
