"""Metrics of a ranking with one true answer per question.

Accuracy takes ties as their expectation under random order, exactly: with `above` candidates
ahead and `tied` sharing the answer's score, the answer is equally likely at each of the places
above + 1 … above + tied, so the metric is the mean of its gain over those places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.data.dataset import Events
from isthmus.evaluation.ranks import Ranking

Values = NDArray[np.float64]


def per_query(
    ranking: Ranking, cutoffs: Sequence[int], popularity: NDArray[np.int64] | None = None
) -> dict[str, Values]:
    """Every metric that has a value for each question, float64 [n] by name.

    `hit_rate@k`, `recall@k` (equal to it, as there is one answer), `ndcg@k`, `mrr@k`, `mrr` over
    the whole ranking, and with `popularity` also `novelty@k` and `popularity_lift@k` for the
    cutoffs up to 100 of a full ranking.

    Args:
        ranking: places of the answers.
        cutoffs: the k of @k.
        popularity: int64 [n_items] training events of each item of the target domain.
    """
    deepest = int((ranking.above + ranking.tied).max())
    place = np.arange(1, deepest + 1)
    hit, discounted, reciprocal = (
        np.concatenate([[0.0], np.cumsum(gain)])
        for gain in (np.ones(deepest), 1 / np.log2(1 + place), 1 / place)
    )
    values: dict[str, Values] = {}
    for k in cutoffs:
        values[f"hit_rate@{k}"] = _expected(hit, ranking, k)
        values[f"recall@{k}"] = values[f"hit_rate@{k}"]
        values[f"ndcg@{k}"] = _expected(discounted, ranking, k)
        values[f"mrr@{k}"] = _expected(reciprocal, ranking, k)
    values["mrr"] = _expected(reciprocal, ranking, deepest)
    if popularity is not None:
        for k in _list_cutoffs(ranking, cutoffs):
            values[f"novelty@{k}"] = novelty(ranking.top[:, :k], popularity)
            values[f"popularity_lift@{k}"] = popularity_lift(ranking.top[:, :k], popularity)
    return values


def _expected(total_gain: Values, ranking: Ranking, k: int) -> Values:
    """Mean gain over the places that the answer may take, where places beyond k gain nothing.

    `total_gain[r]` is the gain of places 1 … r together. An answer that is not offered (`tied` is
    0) gains nothing.
    """
    last = np.minimum(ranking.above + ranking.tied, k)
    first = np.minimum(ranking.above, k)
    places = np.maximum(ranking.tied, 1)
    return np.asarray((total_gain[last] - total_gain[first]) / places)


def whole_ranking(ranking: Ranking, cutoffs: Sequence[int]) -> dict[str, float]:
    """Metrics of all lists together: `coverage@k` for the cutoffs up to 100 of a full ranking."""
    return {
        f"coverage@{k}": coverage(ranking.top[:, :k], ranking.n_items)
        for k in _list_cutoffs(ranking, cutoffs)
    }


def coverage(top: NDArray[np.int64], n_items: int) -> float:
    """Share of the catalogue that stands in at least one list of `top` [n, k]."""
    return len(np.unique(top[top >= 0])) / n_items


def novelty(top: NDArray[np.int64], popularity: NDArray[np.int64]) -> Values:
    """Mean self-information of each list's items in bits, float64 [n].

    −log2 of the item's share of the training events, with one event added to every item so that
    a new one is finite. An empty list has 0. Source: Zhou et al., "Solving the apparent
    diversity-accuracy dilemma of recommender systems", PNAS 2010.
    """
    share = (popularity + 1) / (popularity.sum() + len(popularity))
    return _list_mean(-np.log2(share), top)


def popularity_lift(top: NDArray[np.int64], popularity: NDArray[np.int64]) -> Values:
    """How much more popular each list is than what people took by themselves, float64 [n].

    Mean popularity of the list over the mean popularity of the training events, minus 1: at 0 the
    recommendations are as popular as behaviour, above 0 they add to popularity. An empty list, or
    a domain without training events, has −1. After Abdollahpouri et al., "The connection between
    popularity bias, calibration, and fairness in recommendation", RecSys 2020, with all training
    events as the profile, so that people without a history have a value too.
    """
    events = popularity.sum()
    usual = (popularity.astype(np.float64) ** 2).sum() / events if events else 1.0
    return _list_mean(popularity / usual, top) - 1


def popularity_of(train: Events, domain: int, n_items: int) -> NDArray[np.int64]:
    """Training events of each item of `domain`, int64 [n_items]."""
    return np.bincount(train.item[train.domain == domain], minlength=n_items)


def _list_mean(of_item: Values, top: NDArray[np.int64]) -> Values:
    listed = top >= 0
    total = np.where(listed, of_item[top], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(listed.sum(axis=1), 1))


def _list_cutoffs(ranking: Ranking, cutoffs: Sequence[int]) -> list[int]:
    if ranking.protocol == "sampled":
        return []
    # A catalogue shorter than k gives lists of the whole catalogue.
    return [k for k in cutoffs if k <= ranking.top.shape[1] or ranking.n_items < k <= 100]
