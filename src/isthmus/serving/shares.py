"""What every part of every side says to those whom it answers, in one table of rows.

The table is scaled, weighted, added up and read off as a whole. A question is otherwise answered by
some hundred small operations, and their overhead is more than their work.
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
from isthmus.serving.quick_side import QuickSide, standardise_
from isthmus.serving.quick_text import Indices

_ORDER = ("neural", "text", "co-occurrence", POPULAR)
"""Of parts in the table; what is the same for everybody stands scaled already, and goes last."""


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
    """The rows of one part of one side."""

    name: str
    answering: Answering
    rows: slice


@dataclass(frozen=True)
class Shares:
    """See the module.

    Attributes:
        stretches: all rows.
        person: int64 [n_rows] row in the batch.
        scores: float32 [n_rows, n_items] standardised and weighted.
        spoke: bool [n_rows] whether the row tells any two items apart.
    """

    stretches: tuple[Stretch, ...]
    person: Indices
    scores: Tensor
    spoke: NDArray[np.bool_]

    @classmethod
    def of(cls, answering: Sequence[Answering], domain: int, n_items: int) -> Shares:
        """What is said of the items of a domain."""
        stretches = _stretches(answering)
        scores = torch.empty(stretches[-1].rows.stop, n_items)
        spoke = torch.empty(len(scores), dtype=torch.bool)
        n_personal = 0
        for name, a, rows in stretches:
            if name == POPULAR:
                scores[rows], spoke[rows] = a.side.popular(domain)
                continue
            n_personal = rows.stop
            if name == "neural":
                a.side.neural(a.requests, domain, scores[rows])
            elif name == "co-occurrence":
                a.side.company(a.requests, domain, scores[rows])
        _write_texts([s for s in stretches if s.name == "text"], domain, scores)
        spoke[:n_personal] = standardise_(scores[:n_personal])
        weight = np.concatenate([a.weights[name] for name, a, _ in stretches])
        return cls(
            stretches,
            np.concatenate([s.answering.rows for s in stretches]),
            scores.mul_(torch.from_numpy(weight)[:, None]),
            spoke.numpy() & (weight != 0),
        )

    def total(self, batch: int) -> Tensor:
        """Their sum for each of a batch, float32 [batch, n_items]."""
        total = torch.zeros(batch, self.scores.shape[1])
        return total.index_add_(0, torch.from_numpy(self.person), self.scores)

    def top(self, item: Indices, n_offered: Indices) -> Top:
        """The chosen items [batch, k] with what each part gave them, against the average item.

        Args:
            item: -1 where fewer could be offered.
            n_offered: int64 [batch] candidates.
        """
        column = torch.from_numpy(np.maximum(item, 0)[self.person])
        given = (self.scores.gather(1, column) - self.scores.mean(1, keepdim=True)).numpy()
        # Told in the order of the configuration, not of the table.
        names = dict.fromkeys(name for s in self.stretches for name in s.answering.side.side.parts)
        parts = {name: np.zeros(item.shape, np.float32) for name in names}
        opinion = {name: np.zeros(len(item), bool) for name in names}
        for name, a, rows in self.stretches:
            parts[name][a.rows] += given[rows]
            opinion[name][a.rows] |= self.spoke[rows]
        score = np.sum(list(parts.values()), axis=0)
        return Top(item, score, parts, opinion, n_offered)


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
