"""The best items of each request, with what each part of the score contributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.recommender.asking import Asked
from isthmus.scoring import Float, Scorer

CELLS_AT_ONCE = 1 << 24
"""Requests × items that are scored at once, so that memory does not grow with the catalogue."""


@dataclass(frozen=True)
class Top:
    """The best items of a batch, best first.

    Attributes:
        item: int64 [batch, k] local indices, -1 where fewer could be offered.
        score: float32 [batch, k], relative to the average item of the request.
        parts: the same by part; they add up to `score`.
        opinion: bool [batch] by part; false where a part told no two items apart.
        n_offered: int64 [batch] candidates after filters and seen items.
    """

    item: NDArray[np.int64]
    score: Float
    parts: dict[str, Float]
    opinion: dict[str, NDArray[np.bool_]]
    n_offered: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.item)

    def select(self, rows: NDArray[np.int64]) -> Top:
        """The lists of the requests at `rows`, in that order."""
        return Top(
            self.item[rows],
            self.score[rows],
            {name: part[rows] for name, part in self.parts.items()},
            {name: spoke[rows] for name, spoke in self.opinion.items()},
            self.n_offered[rows],
        )


def best_items(
    scorer: Scorer,
    asked: Asked,
    domain: int,
    k: int,
    *,
    offered: NDArray[np.bool_],
    rank_of_equals: NDArray[np.int64],
    seen: bool = False,
    batch: int = 256,
) -> Top:
    """Score the catalogue chunk by chunk and keep the best `k`.

    Args:
        scorer: gives parts that add up to its total.
        asked: the batch.
        domain: index of the target.
        k: length of the lists.
        offered: bool [n_items], what filters leave.
        rank_of_equals: int64 [n_items], which of two items with one score goes first; smaller does.
        seen: whether items of the person's own history are offered too.
        batch: most requests scored at once.
    """
    size = max(1, min(batch, CELLS_AT_ONCE // max(len(offered), 1)))
    starts = range(0, max(len(asked), 1), size)
    tops = [
        _chunk(scorer, asked.part(s, s + size), domain, k, offered, rank_of_equals, seen)
        for s in starts
    ]
    if len(tops) == 1:
        return tops[0]
    return Top(
        np.concatenate([t.item for t in tops]),
        np.concatenate([t.score for t in tops]),
        {name: np.concatenate([t.parts[name] for t in tops]) for name in tops[0].parts},
        {name: np.concatenate([t.opinion[name] for t in tops]) for name in tops[0].opinion},
        np.concatenate([t.n_offered for t in tops]),
    )


def _chunk(
    scorer: Scorer,
    asked: Asked,
    domain: int,
    k: int,
    offered: NDArray[np.bool_],
    rank_of_equals: NDArray[np.int64],
    seen: bool,
) -> Top:
    scores = scorer.score(asked.visible, domain)
    open_to = np.broadcast_to(offered, scores.total.shape) & (scores.total > -np.inf)
    if not seen:
        own = asked.whole.only(domain)
        open_to[own.rows, own.item] = False
    item = best_columns(np.where(open_to, scores.total, -np.inf), k, rank_of_equals)
    column = np.maximum(item, 0)
    average = {name: share.mean(1, keepdims=True) for name, share in scores.parts.items()}
    parts = {
        name: np.take_along_axis(share, column, axis=1) - average[name]
        for name, share in scores.parts.items()
    }
    return Top(
        item,
        np.sum(list(parts.values()), axis=0),
        parts,
        {name: np.ptp(share, axis=1) > 0 for name, share in scores.parts.items()},
        open_to.sum(1),
    )


def best_columns(total: Float, k: int, rank_of_equals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Columns of the `k` largest values of each row, largest first.

    Args:
        total: float32 [batch, n], -inf where a column must not be chosen.
        k: how many.
        rank_of_equals: int64 [n], all different; the smaller one goes first among equal values.

    Returns:
        int64 [batch, k], -1 where a row has fewer.
    """
    # The bits of a float, turned so that they sort as an integer does, over the rank of equals:
    # one key without ties, so the choice is exact whatever the length of the list.
    bits = (total + np.float32(0)).astype(np.float32).view(np.int32).astype(np.int64)
    key = np.where(bits >= 0, bits, bits ^ 0x7FFFFFFF) << 32
    key += len(rank_of_equals) - rank_of_equals
    top = torch.from_numpy(key).topk(min(k, total.shape[1]), dim=1).indices.numpy()
    chosen = np.where(np.take_along_axis(total, top, axis=1) > -np.inf, top, -1)
    return np.pad(chosen, ((0, 0), (0, k - chosen.shape[1])), constant_values=-1)
