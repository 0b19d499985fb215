"""What every part of every side says to those whom it answers, in one table of rows.

The table is scaled, weighted, added up and read off as a whole. A question is otherwise answered by
some hundred small operations, and their overhead is more than their work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.recommender.ranking import Top
from isthmus.recommender.serving import POPULAR
from isthmus.scoring import Float, Requests
from isthmus.serving.quick_side import Indices, QuickSide, standardise_

_PERSONAL = ("neural", "text", "co-occurrence")


@dataclass(frozen=True)
class Answering:
    """A side, and those of a batch whom it answers.

    Attributes:
        side: the side.
        rows: int64 [n] who of the batch.
        requests: theirs.
        let_in: float32 [n] how far the gate lets the side in.
    """

    side: QuickSide
    rows: Indices
    requests: Requests
    let_in: Float


@dataclass(frozen=True)
class Shares:
    """See the module.

    Attributes:
        stretches: name of a part and its rows, for each part of each side.
        person: int64 [n_rows] row in the batch.
        scores: float32 [n_rows, n_items] standardised and weighted.
        spoke: bool [n_rows] whether the row tells any two items apart.
    """

    stretches: tuple[tuple[str, slice], ...]
    person: Indices
    scores: Tensor
    spoke: NDArray[np.bool_]

    @classmethod
    def of(cls, answering: Sequence[Answering], domain: int, n_items: int) -> Shares:
        """What is said of the items of a domain."""
        told = [
            (name, a)
            for name in (*_PERSONAL, POPULAR)
            for a in answering
            if name in a.side.side.parts
        ]
        ends = np.cumsum([0, *(len(a.rows) for _, a in told)]).tolist()
        stretches = [slice(*ends[n : n + 2]) for n in range(len(told))]
        scores = torch.empty(ends[-1], n_items)
        spoke = torch.empty(ends[-1], dtype=torch.bool)
        by_name = {
            name: [
                (a, place) for (own, a), place in zip(told, stretches, strict=True) if own == name
            ]
            for name in (*_PERSONAL, POPULAR)
        }
        for a, place in by_name["neural"]:
            vectors = a.side.vectors[domain]
            torch.mm(a.side.queries(a.requests, domain), vectors.T, out=scores[place])
        _write_texts(by_name["text"], domain, scores)
        for a, place in by_name["co-occurrence"]:
            a.side.company(a.requests, domain, scores[place])
        personal = sum(len(a.rows) for name, a in told if name in _PERSONAL)
        spoke[:personal] = standardise_(scores[:personal])
        for a, place in by_name[POPULAR]:
            scores[place], spoke[place] = a.side.popular(domain)
        weights = {id(a): a.side.weights(a.requests, domain) for a in answering}
        weight = np.concatenate([weights[id(a)][name] * a.let_in for name, a in told])
        return cls(
            tuple((name, place) for (name, _), place in zip(told, stretches, strict=True)),
            np.concatenate([a.rows for _, a in told]),
            scores.mul_(torch.from_numpy(weight)[:, None]),
            spoke.numpy() & (weight != 0),
        )

    def total(self, batch: int) -> Tensor:
        """Their sum for each of a batch, float32 [batch, n_items]."""
        total = torch.zeros(batch, self.scores.shape[1])
        return total.index_add_(0, torch.from_numpy(self.person), self.scores)

    def top(self, item: Indices, n_offered: Indices, names: Sequence[str]) -> Top:
        """The chosen items [batch, k] with what each part gave them, against the average item.

        Args:
            item: -1 where fewer could be offered.
            n_offered: int64 [batch] candidates.
            names: of the parts, in the order in which they are told.
        """
        column = torch.from_numpy(np.maximum(item, 0)[self.person])
        given = (self.scores.gather(1, column) - self.scores.mean(1, keepdim=True)).numpy()
        parts = {name: np.zeros(item.shape, np.float32) for name in names}
        opinion = {name: np.zeros(len(item), bool) for name in names}
        for name, place in self.stretches:
            # Nobody stands twice in a stretch.
            parts[name][self.person[place]] += given[place]
            opinion[name][self.person[place]] |= self.spoke[place]
        score = np.sum(list(parts.values()), axis=0)
        return Top(item, score, parts, opinion, n_offered)


def _write_texts(asked: Sequence[tuple[Answering, slice]], domain: int, scores: Tensor) -> None:
    """Cosines to all items; texts that sides share are read once for all of their questions."""
    for _, found in groupby(asked, key=lambda entry: id(entry[0].side.texts[domain])):
        group = list(found)
        texts = group[0][0].side.texts[domain]
        query = torch.cat([a.side.text_query(a.requests, domain) for a, _ in group])
        place = slice(group[0][1].start, group[-1][1].stop)
        torch.index_select(query @ texts.columns, 1, texts.row, out=scores[place])
