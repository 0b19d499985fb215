"""A scorer whose best items are put in order anew by a language model that reads both texts.

What it says counts beside the order that is there, by a weight that `rerank_weight` finds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.evaluation.ranks import canonical_order
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.scoring import Float, Requests, Scorer, Scores
from isthmus.tasks.texts import PairTexts
from isthmus.training.progress import progress

Rows = NDArray[np.int64]

_AT_ONCE = 32


def reordered(score: Float, told: NDArray[np.float64], weight: float | None) -> NDArray[np.float64]:
    """What the items of a list stand in order of, the highest first.

    Args:
        score: float32 [n] by which they stood before.
        told: float64 [n] by the cross-encoder.
        weight: of what is told beside the score, both standardised over the list; None: nothing
            but what is told counts.

    Returns:
        float64 [n].
    """
    return told if weight is None else standard(score) + weight * standard(told)


def standard(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """With mean 0 and deviation 1; zeros where all are the same."""
    centred = values.astype(np.float64) - values.mean() if len(values) else np.zeros(0)
    deviation = centred.std() if len(values) else 0.0
    return centred / deviation if deviation > 0 else np.zeros(len(values))


class _Shortlist(NamedTuple):
    """The best items of one request: their columns and places, and what the scorer says."""

    columns: Rows
    places: Rows
    score: Float


class Reranked:
    """A `Scorer`: another one's order, but for its best items.

    The best `n` that are not in a person's history change places among themselves, by what
    `reordered` says; of equals the one that stood first. Everything else keeps its place. Scores
    are places: they tell an order and no more.

    Args:
        scorer: gives the order at first.
        encoder: reads the person's text and each item's; its last class or its number counts.
        dataset: gives the texts.
        n: items that are put in order anew; None: `tasks.cross_encoder.rerank` of the encoder.
        name: of the scorer.
    """

    def __init__(
        self,
        scorer: Scorer,
        encoder: CrossEncoder,
        dataset: Dataset,
        *,
        n: int | None = None,
        name: str = "reranked",
    ) -> None:
        self.scorer, self.encoder, self.dataset, self.name = scorer, encoder, dataset, name
        self.n = encoder.config.rerank if n is None else n
        self._texts = PairTexts(dataset, encoder.config.history)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`; without parts, since an order has none."""
        weight = self.encoder.weight(self.dataset.names[domain])
        if weight == 0:
            return Scores(self.scorer.score(requests, domain, items).total)
        total, order, candidates, best = self.shortlists(requests, domain, items)
        told = self.told(requests, domain, [candidates[r, b.columns] for r, b in enumerate(best)])
        by = [reordered(b.score, t, weight) for b, t in zip(best, told, strict=True)]
        return Scores(_places(total, order, best, by))

    def shortlists(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> tuple[Float, Rows, Rows, list[_Shortlist]]:
        """Scores, columns from best to worst, the item of each column; the best of each request."""
        total = self.scorer.score(requests, domain, items).total
        every = np.arange(self.dataset.domains[domain].n_items) if items is None else items
        candidates = np.broadcast_to(every, total.shape)
        place = np.argsort(canonical_order(self.dataset, domain))
        # Columns from the best to the worst, ties by what depends on raw ids alone.
        order = np.lexsort((place[candidates], -total), axis=1)
        known = requests.only(domain)
        best = []
        for row in range(len(requests)):
            had = known.item[known.rows == row]
            places = self._best(total[row], candidates[row], order[row], had)
            columns = order[row, places]
            best.append(_Shortlist(columns, places, total[row, columns]))
        return total, order, candidates, best

    def _best(self, total: Float, items: Rows, order: Rows, had: Rows) -> Rows:
        """Places in one order [n_items] that are dealt out anew, at most `n`."""
        # The best n lie no deeper than n and what they had.
        first = order[: self.n + len(had)]
        free = np.isfinite(total[first]) & ~np.isin(items[first], had)
        return np.flatnonzero(free)[: self.n]

    def told(self, requests: Requests, domain: int, items: list[Rows]) -> list[NDArray[np.float64]]:
        """What the cross-encoder says of each request's items, log-odds of the last class."""
        people, texts = self._texts.of_people(requests), self._texts.of_items[domain]
        found: list[NDArray[np.float64]] = []
        with progress("re-ranking", -(-len(requests) // _AT_ONCE)) as step:
            for start in range(0, len(requests), _AT_ONCE):
                rows = range(start, min(start + _AT_ONCE, len(requests)))
                read = [texts[i] for row in rows for i in items[row]]
                who = [people[row] for row in rows for _ in items[row]]
                told = self.encoder.chance(who, read)
                found += np.split(told, np.cumsum([len(items[row]) for row in rows])[:-1])
                step("")
        return found


def _places(
    total: Float, order: Rows, best: list[_Shortlist], by: list[NDArray[np.float64]]
) -> Float:
    """Scores [batch, n_items] that order items as they were, but for those at the best places."""
    top = total.max(axis=1, keepdims=True, initial=-np.inf)
    found = np.where(np.isfinite(total), total - np.where(np.isfinite(top), top, 0), total)
    for row, (short, values) in enumerate(zip(best, by, strict=True)):
        if not len(short.places):
            continue
        columns = order[row, : short.places[-1] + 1].copy()
        columns[short.places] = short.columns[np.argsort(-values, kind="stable")]
        found[row, columns] = np.arange(len(columns), 0, -1)
    return found.astype(np.float32)
