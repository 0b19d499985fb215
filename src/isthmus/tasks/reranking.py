"""A scorer whose best items are put in order anew by a language model that reads both texts."""

from __future__ import annotations

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


class Reranked:
    """A `Scorer`: another one's order, but for its best items.

    The best `n` that are not in a person's history change places among themselves, by the
    cross-encoder's last class or by its number, the better before the worse; of equals the one that
    stood first. Everything else keeps its place. Scores are places: they tell an order and no more.

    Args:
        scorer: gives the order at first.
        encoder: reads the person's text and each item's.
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
        total = self.scorer.score(requests, domain, items).total
        every = np.arange(self.dataset.domains[domain].n_items) if items is None else items
        candidates = np.broadcast_to(every, total.shape)
        place = np.argsort(canonical_order(self.dataset, domain))
        # Columns from the best to the worst, ties by what depends on raw ids alone.
        order = np.lexsort((place[candidates], -total), axis=1)
        known = requests.only(domain)
        best = [
            self._best(total[row], candidates[row], order[row], known.item[known.rows == row])
            for row in range(len(requests))
        ]
        chances = self._told(requests, domain, candidates, order, best)
        return Scores(_places(total, order, best, chances))

    def _best(self, total: Float, items: Rows, order: Rows, had: Rows) -> Rows:
        """Places in one order [n_items] that are dealt out anew, at most `n`."""
        # The best n lie no deeper than n and what they had.
        first = order[: self.n + len(had)]
        free = np.isfinite(total[first]) & ~np.isin(items[first], had)
        return np.flatnonzero(free)[: self.n]

    def _told(
        self, requests: Requests, domain: int, items: Rows, order: Rows, best: list[Rows]
    ) -> list[NDArray[np.float64]]:
        """What the cross-encoder says of the items at the best places of each request."""
        people, texts = self._texts.of_people(requests), self._texts.of_items[domain]
        found: list[NDArray[np.float64]] = []
        with progress("re-ranking", -(-len(requests) // _AT_ONCE)) as step:
            for start in range(0, len(requests), _AT_ONCE):
                rows = range(start, min(start + _AT_ONCE, len(requests)))
                lengths = [len(best[row]) for row in rows]
                read = [texts[i] for row in rows for i in items[row, order[row, best[row]]]]
                who = [people[row] for row in rows for _ in best[row]]
                told = self.encoder.tell(who, read)
                told = told[:, -1] if self.encoder.classes else told
                found += np.split(told, np.cumsum(lengths)[:-1])
                step("")
        return found


def _places(
    total: Float, order: Rows, best: list[Rows], chances: list[NDArray[np.float64]]
) -> Float:
    """Scores [batch, n_items] that order items as they were, but for those at the best places."""
    top = total.max(axis=1, keepdims=True, initial=-np.inf)
    found = np.where(np.isfinite(total), total - np.where(np.isfinite(top), top, 0), total)
    for row, (places, told) in enumerate(zip(best, chances, strict=True)):
        if not len(places):
            continue
        columns = order[row, : places[-1] + 1].copy()
        columns[places] = columns[places][np.argsort(-told, kind="stable")]
        found[row, columns] = np.arange(len(columns), 0, -1)
    return found.astype(np.float32)
