"""A scorer whose best items are put in order anew by a language model that reads both texts.

What it says counts beside the order that is there, as far as validation finds that it makes it
better: an order that knows people does not give way to one that does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from isthmus.blend.examples import Examples
from isthmus.blend.fitting import fit_weights
from isthmus.data.dataset import Dataset
from isthmus.evaluation.ranks import canonical_order
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.scoring import Float, Requests, Scorer, Scores
from isthmus.tasks.texts import PairTexts
from isthmus.training.progress import progress

Rows = NDArray[np.int64]

CONFIDENT = 0.8
"""Probability of helping, from the questions asked, below which the order stays."""

_AT_ONCE = 32
_CUTOFF = 10


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
    return told if weight is None else _standard(score) + weight * _standard(told)


def _standard(values: NDArray[np.floating]) -> NDArray[np.float64]:
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
        total, order, candidates, best = self._shortlists(requests, domain, items)
        weight = self.encoder.weight(self.dataset.names[domain])
        if weight == 0:
            return Scores(total)
        told = self.told(requests, domain, [candidates[r, b.columns] for r, b in enumerate(best)])
        by = [reordered(b.score, t, weight) for b, t in zip(best, told, strict=True)]
        return Scores(_places(total, order, best, by))

    def _shortlists(
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


@dataclass(frozen=True)
class Weighed:
    """How far a cross-encoder is let into the order of a domain.

    Attributes:
        weight: as `reordered` takes it.
        n_questions: that it was found on.
        change: of NDCG@10, on people by whom the weight was not found.
        confidence: that it is more than nothing.
    """

    weight: float
    n_questions: int
    change: float
    confidence: float


def weigh(
    scorer: Scorer,
    encoder: CrossEncoder,
    dataset: Dataset,
    position: Rows,
    domain: int,
    *,
    max_history: int,
) -> Weighed:
    """Find on validation questions how far an encoder's word counts beside a scorer's.

    Args:
        scorer: gives the order.
        encoder: reads.
        dataset: gives texts and questions.
        position: int64 [n] questions about the domain, as positions of events.
        domain: index.
        max_history: longest history.
    """
    rerank = Reranked(scorer, encoder, dataset)
    requests = Requests.at(dataset, position, max_history=max_history)
    best = rerank._shortlists(requests, domain)[3]
    answers = dataset.events.item[position]
    # Where the answer is not among the best, no order of these makes a difference.
    asked = np.array([row for row, b in enumerate(best) if answers[row] in b.columns], np.int64)
    told = rerank.told(requests.select(asked), domain, [best[row].columns for row in asked])
    scores = np.zeros((len(asked), rerank.n, 2), np.float32)
    there = np.zeros((len(asked), rerank.n), np.float32)
    for at, (row, say) in enumerate(zip(asked, told, strict=True)):
        first = np.argsort(best[row].columns != answers[row], kind="stable")
        both = np.column_stack([_standard(best[row].score), _standard(say)])
        scores[at, : len(first)], there[at, : len(first)] = both[first], 1
    examples = Examples(scores, there, dataset.events.user[position[asked]])
    half = examples.user % 2 == 0
    change = np.zeros(len(position))
    for judged in (half, ~half):
        if judged.any() and not judged.all():
            weight = _ratio(examples.where(~judged))
            change[asked[judged]] = _ndcg(examples.where(judged), weight) - _ndcg(
                examples.where(judged), 0.0
            )
    error = change.std() / np.sqrt(max(len(change), 1))
    confidence = float(norm.cdf(change.mean() / error)) if error > 0 else 0.0
    return Weighed(
        weight=_ratio(examples) if confidence >= CONFIDENT else 0.0,
        n_questions=len(position),
        change=float(change.mean()) if len(change) else 0.0,
        confidence=confidence,
    )


def _ratio(examples: Examples) -> float:
    """Weight of what is told in units of the score's."""
    score, told = fit_weights(examples)
    return float(told / score)


def _ndcg(examples: Examples, weight: float) -> NDArray[np.float64]:
    """NDCG@10 of the answers, which stand first, among the best of each question."""
    total = examples.scores @ np.array([1.0, weight], np.float32)
    above = ((total >= total[:, :1]) & (examples.stands_for > 0)).sum(1)
    return np.where(above <= _CUTOFF, 1 / np.log2(1 + above), 0.0)


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
