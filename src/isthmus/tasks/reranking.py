"""A scorer whose best items are put in order anew by a language model that reads both texts.

What it says counts beside the order that is there, as far as validation finds that it makes it
better: an order that knows people does not give way to one that does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.blend.examples import Examples
from isthmus.blend.fitting import fit_weights
from isthmus.data.dataset import Dataset
from isthmus.data.splits import user_hash
from isthmus.evaluation.ranks import canonical_order
from isthmus.evaluation.significance import resampled_means
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
    batch: int,
    max_history: int,
) -> Weighed:
    """Find on validation questions how far an encoder's word counts beside a scorer's.

    Where the answer is not among the best, no order of these makes a difference, and they are not
    read.

    Args:
        scorer: gives the order.
        encoder: reads.
        dataset: gives texts and questions.
        position: int64 [n] questions about the domain, as positions of events.
        domain: index.
        batch: questions at once.
        max_history: longest history.
    """
    rerank = Reranked(scorer, encoder, dataset)
    lists: list[_Reread] = []
    for start in range(0, len(position), batch):
        asked = position[start : start + batch]
        requests = Requests.at(dataset, asked, max_history=max_history)
        best = rerank.shortlists(requests, domain)[3]
        answers = dataset.events.item[asked]
        at = [np.flatnonzero(b.columns == a) for b, a in zip(best, answers, strict=True)]
        rows = np.flatnonzero([len(found) for found in at])
        told = rerank.told(requests.select(rows), domain, [best[row].columns for row in rows])
        lists += [
            _Reread(start + int(row), best[row].score, say, int(at[row][0]))
            for row, say in zip(rows, told, strict=True)
        ]
    question = np.array([each.question for each in lists], np.int64)
    user = dataset.events.user[position]
    # By what a person is called, never by where they stand.
    half = user_hash(dataset.user_ids.gather(user[question]).to_list(), "reread-half") < 0.5
    change = np.zeros(len(position))
    if half.any() and not half.all():
        for judged in (half, ~half):
            weight = _ratio([lists[row] for row in np.flatnonzero(~judged)])
            for each in (lists[row] for row in np.flatnonzero(judged)):
                change[each.question] = each.ndcg(weight) - each.ndcg(0.0)
    confidence = 0.0
    if change.any():
        draws = resampled_means(change[:, None], user)[1]
        confidence = float((draws > 0).mean())
    return Weighed(
        weight=_ratio(lists) if confidence >= CONFIDENT else 0.0,
        n_questions=len(position),
        change=float(change.mean()) if len(change) else 0.0,
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Reread:
    """The best items of a question that has its answer among them, best first.

    Attributes:
        question: its number.
        score: float32 [n], by which they stand.
        told: float64 [n], by the cross-encoder.
        answer: place of the answer.
    """

    question: int
    score: Float
    told: NDArray[np.float64]
    answer: int

    def ndcg(self, weight: float) -> float:
        """NDCG@10 of the answer, of equals the earlier first."""
        order = np.argsort(-reordered(self.score, self.told, weight), kind="stable")
        place = int(np.flatnonzero(order == self.answer)[0])
        return float(1 / np.log2(2 + place)) if place < _CUTOFF else 0.0


def _ratio(lists: Sequence[_Reread]) -> float:
    """Weight of what is told in units of the score's, found on the answers."""
    width = max(len(each.score) for each in lists)
    scores = np.zeros((len(lists), width, 2), np.float32)
    there = np.zeros((len(lists), width), np.float32)
    for row, each in enumerate(lists):
        both = np.column_stack([_standard(each.score), _standard(each.told)])
        others = np.delete(np.arange(len(both)), each.answer)
        scores[row, : len(both)] = both[[each.answer, *others]]
        there[row, : len(both)] = 1
    score, told = fit_weights(Examples(scores, there, np.arange(len(lists))))
    return float(told / score)


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
