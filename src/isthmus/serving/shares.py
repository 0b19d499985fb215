"""What every part of every side says to those whom it answers, in one table of rows.

The table is scaled, weighted, added up and read off as a whole, in one call (`best.py`). A question
is otherwise answered by some hundred small operations, and their overhead, let alone the wait for
the interpreter after each, is more than their work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.recommender.ranking import Top
from isthmus.recommender.serving import POPULAR
from isthmus.scoring import Float, Requests
from isthmus.serving.best import best_of
from isthmus.serving.quick_side import QuickSide
from isthmus.serving.quick_text import Indices

_ORDER = ("neural", "text", "co-occurrence")
"""Of personal parts in the table; what is popular is the same for everybody."""


@dataclass(frozen=True)
class Answering:
    """A side, and those of a batch whom it answers.

    Attributes:
        side: the side.
        rows: int64 [n] who of the batch.
        requests: theirs.
        weights: float32 [n] by part, that of the side by the gate included.
    """

    side: QuickSide
    rows: Indices
    requests: Requests
    weights: Mapping[str, Float]

    @classmethod
    def of(
        cls, side: QuickSide, rows: Indices, requests: Requests, domain: int, let_in: Float
    ) -> Self:
        """Those of `requests` about `domain` at `rows`, whom the gate lets the side in for."""
        own = requests if len(rows) == len(requests) else requests.select(rows)
        weights = side.side.blend.row_weights(own, domain)
        return cls(side, rows, own, {name: w * let_in[rows] for name, w in weights.items()})


class Stretch(NamedTuple):
    """The rows of one personal part of one side."""

    name: str
    answering: Answering
    rows: slice


@dataclass(frozen=True)
class Shares:
    """See the module.

    Attributes:
        answering: the sides.
        stretches: all rows.
        domain: index of the target.
        open_to: bool [batch, n_items] what may be offered to whom.
        person: int64 [n_rows] row in the batch.
        weight: float32 [n_rows].
        scores: float32 [n_rows, n_items], raw.
    """

    answering: Sequence[Answering]
    stretches: tuple[Stretch, ...]
    domain: int
    open_to: NDArray[np.bool_]
    person: Indices
    weight: Float
    scores: Tensor

    @classmethod
    def of(cls, answering: Sequence[Answering], domain: int, open_to: NDArray[np.bool_]) -> Shares:
        """What is said of the items of a domain."""
        stretches = _stretches(answering)
        n_rows = stretches[-1].rows.stop if stretches else 0
        scores = torch.empty(n_rows, open_to.shape[1])
        for name, a, rows in stretches:
            if name == "neural":
                a.side.neural(a.requests, domain, scores[rows])
            elif name == "co-occurrence":
                a.side.company(a.requests, domain, scores[rows])
        _write_texts([s for s in stretches if s.name == "text"], domain, scores)
        nobody = np.empty(0, np.int64)
        return cls(
            answering,
            stretches,
            domain,
            open_to,
            np.concatenate([nobody, *(s.answering.rows for s in stretches)]),
            np.concatenate(
                [nobody.astype(np.float32), *(s.answering.weights[s.name] for s in stretches)]
            ),
            scores,
        )

    def top(self, k: int, rank_of_equals: Indices) -> Top:
        """The best items, with what each part gave them, against the average item.

        Args:
            k: length of the lists.
            rank_of_equals: int64 [n_items], which of two items with one score goes first.
        """
        batch, n_items = self.open_to.shape
        liking = [a for a in self.answering if POPULAR in a.side.side.parts]
        levels = [a.side.popular(self.domain) for a in liking]
        liked = np.zeros((batch, len(liking)), np.float32)
        for n, a in enumerate(liking):
            liked[a.rows, n] = a.weights[POPULAR]
        mix = np.zeros((batch, len(self.person)), np.float32)
        mix[self.person, np.arange(len(self.person))] = self.weight
        found = best_of(
            self.scores.numpy(),
            mix,
            np.concatenate([np.empty((0, n_items), np.float32), *(x.score for x in levels)]),
            liked,
            self.open_to,
            min(k + 1, n_items),
        )
        item = found.in_order(k, rank_of_equals)
        column = np.maximum(item, 0)
        given = np.take_along_axis(found.scaled, column[self.person], axis=1) - found.average
        given *= self.weight[:, None]
        spoke = found.spoke & (self.weight != 0)
        # Told in the order of the configuration, not of the table.
        names = dict.fromkeys(name for a in self.answering for name in a.side.side.parts)
        parts = {name: np.zeros(item.shape, np.float32) for name in names}
        opinion = {name: np.zeros(len(item), bool) for name in names}
        for name, a, rows in self.stretches:
            parts[name][a.rows] += given[rows]
            opinion[name][a.rows] |= spoke[rows]
        for n, level in enumerate(levels):
            parts[POPULAR] += liked[:, n, None] * (level.score[0][column] - level.average)
            opinion[POPULAR] |= level.speaks & (liked[:, n] != 0)
        score = np.sum(list(parts.values()), axis=0)
        return Top(item, score, parts, opinion, self.open_to.sum(1))


def _stretches(answering: Sequence[Answering]) -> tuple[Stretch, ...]:
    found, start = [], 0
    for name in _ORDER:
        for a in answering:
            if name in a.side.side.parts:
                found.append(Stretch(name, a, slice(start, start + len(a.rows))))
                start += len(a.rows)
    return tuple(found)


def _write_texts(stretches: Sequence[Stretch], domain: int, scores: Tensor) -> None:
    """Cosines to all items; texts that sides share are read once for all of their questions."""
    for texts, found in groupby(stretches, key=lambda s: s.answering.side.texts[domain]):
        alike = list(found)
        query = torch.cat([a.side.text_query(a.requests, domain) for _, a, _ in alike])
        texts.cosines(query, scores[alike[0].rows.start : alike[-1].rows.stop])
