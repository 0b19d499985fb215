"""One side of a system laid out for quick answers.

What a question costs in the scorers themselves is spent on taking tables apart (of a question about
16,000 items, three quarters in the text part). Here item vectors and distinct texts of each domain
stand ready, what is popular is scaled once, and items that arrived after training are rows at the
end. The formulas are those of the scorers; a test holds both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.baselines.content import ContentKNN
from isthmus.baselines.cooccurrence import CoOccurrence
from isthmus.baselines.history import history_matrix
from isthmus.data.features import ItemFeatures
from isthmus.recommender.serving import POPULAR
from isthmus.scoring import Float, Request, Requests
from isthmus.transfer.sides import Side

Indices = NDArray[np.int64]
SILENT = 1e-9
"""Spread of a part's scores up to which it tells no item from another; as `blend.standardise`."""


@dataclass(frozen=True)
class Texts:
    """Texts of one domain's items.

    Attributes:
        table: float32 [n_texts + 1, dim] whitened vectors; the last is the mean of all items with
            a text and stands for those without.
        row: int64 [n_items] row of each item in the table.
    """

    table: Tensor
    row: Tensor

    @classmethod
    def of(cls, table: Float, row: Indices) -> Self:
        """From distinct vectors and the row of each item, -1 for none."""
        return cls._with_mean(torch.from_numpy(table), torch.from_numpy(row))

    @classmethod
    def _with_mean(cls, table: Tensor, row: Tensor) -> Self:
        count = torch.bincount(row[row >= 0], minlength=len(table)).to(table.dtype)
        mean = (count @ table / count.sum().clamp(min=1))[None]
        return cls(torch.cat([table, mean]), torch.where(row >= 0, row, len(table)))

    @property
    def missing(self) -> int:
        """The row of items without a text."""
        return len(self.table) - 1

    def equals(self, other: Texts) -> bool:
        """Whether the other holds the very same."""
        return torch.equal(self.row, other.row) and torch.equal(self.table, other.table)

    def extended(self, item: Indices, vectors: Float, present: NDArray[np.bool_]) -> Texts:
        """With the texts of the items at `item` [m]: of new ones at the end, or of known ones."""
        n = max(len(self.row), int(item.max(initial=-1)) + 1)
        row = torch.full((n,), -1, dtype=torch.int64)
        row[: len(self.row)] = torch.where(self.row == self.missing, -1, self.row)
        table = torch.cat([self.table[:-1], torch.from_numpy(vectors[present])])
        places = np.where(present, len(self.table) - 2 + np.cumsum(present), -1)
        row[torch.from_numpy(item)] = torch.from_numpy(places)
        # A text that nobody has any more goes.
        kept, own = torch.unique(row[row >= 0], return_inverse=True)
        row[row >= 0] = own
        return self._with_mean(table[kept], row)


@dataclass(frozen=True)
class Share:
    """What one part says of a batch.

    Attributes:
        scores: float32 [batch, n_items] standardised, or [1, n_items] for all alike.
        spoke: bool [batch] or [1], whether the part tells any two items apart.
        weight: float32 [batch].
    """

    scores: Tensor
    spoke: Tensor
    weight: Tensor

    def at(self, column: Indices) -> Float:
        """Contributions of the items at `column` [batch, k], against the average item."""
        scores = self.scores.expand(len(column), -1)
        picked = scores.gather(1, torch.from_numpy(column)) - scores.mean(1, keepdim=True)
        found: Float = (picked * self.weight[:, None]).numpy()
        return found


@dataclass(frozen=True)
class QuickSide:
    """One side's tables.

    Attributes:
        side: what they were taken from.
        vectors: per domain, item vectors of the neural part, float32 [n_items, dim].
        texts: per domain; empty where the side has no such part.
    """

    side: Side
    vectors: tuple[Tensor, ...]
    texts: tuple[Texts, ...]
    _levels: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, side: Side, others: Sequence[QuickSide]) -> QuickSide:
        """Lay out a side; texts that another side has too are shared with it."""
        n_domains = len(side.neural.model.bounds) - 1
        side.neural.model.to("cpu")
        vectors = tuple(side.neural.model.catalogue(d).clone() for d in range(n_domains))
        part = side.parts.get("text")
        if not isinstance(part, ContentKNN):
            return cls(side, vectors, ())
        state = part.state().arrays
        table, row = (state[name] for name in ("table", "row"))
        texts: list[Texts] = []
        for start, stop in pairwise(state["item_offsets"].astype(np.int64)):
            mine = row[start:stop].astype(np.int64)
            first = int(mine[mine >= 0].min(initial=len(table)))
            last = int(mine.max(initial=first - 1)) + 1
            local = np.where(mine >= 0, mine - first, -1)
            own = Texts.of(table[first:last].astype(np.float32), local)
            there = (other.texts[len(texts)] for other in others if len(other.texts) > len(texts))
            texts.append(next((like for like in there if like.equals(own)), own))
        return cls(side, vectors, tuple(texts))

    def extended(
        self,
        domain: int,
        item: Indices,
        aligned: ItemFeatures,
        whitened: ItemFeatures | None,
    ) -> QuickSide:
        """With new items at the end of a domain, or other texts for some that are there.

        Args:
            domain: its index.
            item: int64 [m] local indices.
            aligned: text vectors as the neural part reads them.
            whitened: as the text part does; None where there is none.
        """
        tower = self.side.neural.model.items
        with torch.inference_mode():
            fresh = tower.by_text(
                torch.from_numpy(aligned.vectors),
                torch.from_numpy(aligned.present),
                torch.full((len(item),), domain),
            )
            before = self.vectors[domain]
            n = max(len(before), int(item.max(initial=-1)) + 1)
            grown = torch.zeros(n, before.shape[1])
            grown[: len(before)] = before
            start = self.side.neural.model.bounds[domain]
            # What behaviour taught of an item stays when its text changes.
            known = item < self.side.neural.model.bounds[domain + 1] - start
            if known.any() and tower.use_text:
                rows = torch.from_numpy(start + item[known])
                told = tower.by_text(tower.text[rows], tower.present[rows], tower.domain[rows])
                fresh[torch.from_numpy(known)] += tower(rows) - told
            grown[torch.from_numpy(item)] = fresh
        vectors = list(self.vectors)
        vectors[domain] = grown
        texts = list(self.texts)
        if texts and whitened is not None:
            texts[domain] = texts[domain].extended(item, whitened.vectors, whitened.present)
        return QuickSide(self.side, tuple(vectors), tuple(texts))

    def shares(self, requests: Requests, domain: int) -> dict[str, Share]:
        """What each part says, by name."""
        weights = self.side.blend.row_weights(requests, domain)
        made = {
            "neural": lambda: standardised(
                self._queries(requests, domain) @ self.vectors[domain].T
            ),
            "text": lambda: standardised(self._by_text(requests, domain)),
            "co-occurrence": lambda: self._by_company(requests, domain),
            POPULAR: lambda: self._popular(domain),
        }
        return {
            name: Share(*made[name](), torch.from_numpy(weights[name])) for name in self.side.parts
        }

    def _queries(self, requests: Requests, domain: int) -> Tensor:
        """As `NeuralScorer.queries`, with item vectors that stand ready."""
        neural = self.side.neural
        read = requests.keep(np.isin(requests.domain, neural.reads))
        read = read.keep(read.age < neural.model.users.max_length)
        queries = torch.zeros(len(requests), self.vectors[domain].shape[1])
        full = np.flatnonzero(read.lengths > 0)
        if not len(full):
            return queries
        some = read if len(full) == len(read) else read.select(full)
        vectors = torch.empty(len(some.item), queries.shape[1])
        for d in np.unique(some.domain).tolist():
            here = np.flatnonzero(some.domain == d)
            vectors[torch.from_numpy(here)] = self.vectors[d][
                torch.from_numpy(some.item[here].astype(np.int64))
            ]
        states = neural.model.last_states(
            vectors,
            torch.from_numpy(some.domain.astype(np.int64)),
            torch.from_numpy(some.time),
            torch.from_numpy(some.offsets),
        )
        queries[torch.from_numpy(full)] = neural.model.ask(states, domain)
        return queries

    def _by_text(self, requests: Requests, domain: int) -> Tensor:
        part = self.side.parts["text"]
        assert isinstance(part, ContentKNN), "the text part is a ContentKNN"
        query = self._text_query(requests, domain, part)
        if part.config.merged and part.config.elsewhere:
            for other in np.unique(requests.domain[requests.domain != domain]).tolist():
                query += np.float32(part.config.elsewhere) * self._text_query(requests, other, part)
        texts = self.texts[domain]
        return (torch.from_numpy(query) @ texts.table.T).index_select(1, texts.row)

    def _text_query(self, requests: Requests, domain: int, part: ContentKNN) -> Float:
        own, texts, settings = requests.only(domain), self.texts[domain], part.config
        row = texts.row.numpy()[own.item]
        column = np.where(row == texts.missing, -1, row)
        history = history_matrix(
            own, column, len(texts.table), decay=settings.recency, last=settings.last
        )
        query: Float = history @ texts.table.numpy()
        return query

    def _by_company(self, requests: Requests, domain: int) -> tuple[Tensor, Tensor]:
        """Co-occurrence: all but a few items score 0, and are scaled as one."""
        part = self.side.parts["co-occurrence"]
        assert isinstance(part, CoOccurrence), "the co-occurrence part is a CoOccurrence"
        found = part.followers(requests, domain)
        value, lengths = found.data.astype(np.float64), np.diff(found.indptr)
        rows, n = np.repeat(np.arange(len(requests)), lengths), len(self.vectors[domain])
        mean = np.bincount(rows, value, len(requests)) / n
        away = np.bincount(rows, (value - mean[rows]) ** 2, len(requests))
        spread = np.sqrt((away + (n - lengths) * mean**2) / n)
        spoke = spread > SILENT
        spread = np.where(spoke, spread, 1.0)
        zero, rest = np.where(spoke, -mean / spread, 0.0), (value - mean[rows]) / spread[rows]
        scores = np.empty((len(requests), n), np.float32)
        scores[:] = (zero + np.arcsinh(zero))[:, None]
        scores[rows, found.indices] = np.where(spoke[rows], rest + np.arcsinh(rest), 0.0)
        return torch.from_numpy(scores), torch.from_numpy(spoke)

    def _popular(self, domain: int) -> tuple[Tensor, Tensor]:
        """Popularity, the same for everybody who asks now; [1, n_items]."""
        n = len(self.vectors[domain])
        if domain not in self._levels:
            anybody = Requests.of([Request()])
            level = torch.from_numpy(self.side.parts[POPULAR].score(anybody, domain).total)
            # New items have no behaviour yet.
            level = torch.nn.functional.pad(level, (0, n - level.shape[1]))
            self._levels[domain] = standardised(level)
        return self._levels[domain]


def standardised(scores: Tensor) -> tuple[Tensor, Tensor]:
    """As `blend.standardise`, and which rows of [batch, n_items] have a spread at all."""
    scores = scores - scores.mean(1, keepdim=True)
    spread = scores.square().mean(1, keepdim=True).sqrt_()
    spoke = spread > SILENT
    scores.mul_(torch.where(spoke, 1 / spread, 0.0))
    # asinh by hand: PyTorch's own takes eight times as long as its logarithm.
    size = scores.abs()
    size.add_(scores.square().add_(1.0).sqrt_()).log_()
    return scores.add_(size.copysign_(scores)), spoke[:, 0]
