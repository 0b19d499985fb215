"""How far a cross-encoder's word counts beside an order: found on validation questions.

An order that knows people must not give way to one that does not, so the weight is that which
brings the answers nearest the top, and none where that cannot be told from doing no good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.blend.examples import Examples
from isthmus.blend.fitting import fit_weights
from isthmus.data.dataset import Dataset
from isthmus.data.splits import user_hash
from isthmus.evaluation.significance import resampled_means
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.scoring import Float, Requests, Scorer
from isthmus.tasks.reranking import Reranked, reordered, standard

CONFIDENT = 0.8
"""Probability of helping, from the questions asked, below which the order stays."""

_CUTOFF = 10


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
    position: NDArray[np.int64],
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
        both = np.column_stack([standard(each.score), standard(each.told)])
        others = np.delete(np.arange(len(both)), each.answer)
        scores[row, : len(both)] = both[[each.answer, *others]]
        there[row, : len(both)] = 1
    score, told = fit_weights(Examples(scores, there, np.arange(len(lists))))
    return float(told / score)
