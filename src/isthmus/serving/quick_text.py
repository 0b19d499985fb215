"""Texts of one domain laid out for quick answers: what the text part multiplies.

The formulas are those of `ContentKNN`; a test holds both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from isthmus.baselines.content import ContentKNNConfig
from isthmus.baselines.history import history_weights
from isthmus.scoring import Float, Requests

Indices = NDArray[np.int64]
_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts of one domain's items; one object is shared by all sides that have the same.

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

    def query(self, requests: Requests, domain: int, config: ContentKNNConfig) -> Tensor:
        """Decayed sum of the texts of each history in this domain, float32 [batch, dim].

        Args:
            requests: the batch.
            domain: index of the domain that the texts are of.
            config: what of a history counts.
        """
        own = requests.only(domain)
        row = self.row.numpy()[own.item]
        offsets, row, weight = history_weights(
            own,
            np.where(row == self.missing, -1, row),
            len(self.table),
            decay=config.recency,
            last=config.last,
        )
        return embedding_bag(
            torch.from_numpy(row),
            self.table,
            torch.from_numpy(offsets),
            mode="sum",
            per_sample_weights=torch.from_numpy(weight),
            include_last_offset=True,
        )

    def cosines(self, query: Tensor, scores: Tensor) -> None:
        """Write the products of queries [batch, dim] with each item's text, [batch, n_items]."""
        # This way round the table is read once for all queries of a block, not once for each. One
        # query alone takes two and a half times as long as two, by MKL's kernel for vectors, and
        # twelve take as long as two blocks of eight (docs/service.md).
        for start in range(0, len(query), _AT_ONCE):
            block = slice(start, start + _AT_ONCE)
            some = query[block]
            found = torch.mm(self.table, (some if len(some) > 1 else some.repeat(2, 1)).T)
            torch.index_select(found.T[: len(some)], 1, self.row, out=scores[block])


def text_query(
    texts: Sequence[Texts], requests: Requests, domain: int, config: ContentKNNConfig
) -> Tensor:
    """What the items of `domain` are multiplied with, [batch, dim]; `texts` are per domain."""
    query = texts[domain].query(requests, domain, config)
    if config.merged and config.elsewhere:
        for other in np.unique(requests.domain[requests.domain != domain]).tolist():
            query.add_(texts[other].query(requests, other, config), alpha=config.elsewhere)
    return query
