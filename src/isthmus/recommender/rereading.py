"""A list of recommendations in a new order: by a language model that reads both texts at once."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Dataset
from isthmus.language.cross_encoder import CrossEncoder
from isthmus.recommender.asking import Asked
from isthmus.tasks.reranking import reordered
from isthmus.tasks.texts import PairTexts


def reread(
    answers: pl.DataFrame, dataset: Dataset, domain: int, asked: Asked, by: CrossEncoder, k: int
) -> pl.DataFrame:
    """The best `k` of each list with what a cross-encoder tells of person and item.

    Args:
        answers: lists as `Recommender.recommend` gives them, in the order of `asked`.
        dataset: gives the texts.
        domain: index of the target.
        asked: the people.
        by: its last class, or its number, is what an item goes up by, as far as it counts.
        k: items that are left of each list.

    Returns:
        The same columns with `rank` as it is now, `first_rank` as it was, and `reread`, what the
        items stand in order of; those behind the best `tasks.cross_encoder.rerank` keep their
        places, and have none where others may have moved.
    """
    # Two of the people may have one name, so lists are told apart by where they begin.
    place = (answers["rank"].diff().fill_null(1) <= 0).cum_sum().to_numpy()
    weight = by.weight(dataset.names[domain])
    stands = answers["score"].to_numpy().astype(np.float64)
    best = (answers["rank"] <= by.config.rerank).to_numpy()
    if weight != 0 and len(answers):
        told = _told(answers.filter(best), place[best], dataset, domain, asked, by)
        stands[~best] = np.nan
        for one in np.unique(place):
            mine = place == one
            stands[mine & best] = reordered(
                answers["score"].to_numpy()[mine & best], told[place[best] == one], weight
            )
    return (
        answers.with_columns(
            pl.Series("place", place), pl.Series("reread", stands, nan_to_null=True)
        )
        .rename({"rank": "first_rank"})
        .sort("place", "reread", "first_rank", descending=[False, True, False], nulls_last=True)
        .with_columns(rank=pl.int_range(1, pl.len() + 1).over("place"))
        .filter(pl.col("rank") <= k)
        .select("request", "rank", pl.exclude("request", "rank", "place"))
    )


def _told(
    answers: pl.DataFrame,
    place: NDArray[np.int64],
    dataset: Dataset,
    domain: int,
    asked: Asked,
    by: CrossEncoder,
) -> NDArray[np.float64]:
    """What a cross-encoder says of each row, [n]; `place` [n] numbers the lists."""
    texts, catalogue = PairTexts(dataset, by.config.history), dataset.domains[domain]
    people = texts.of_people(asked.whole)
    first = np.unique(place, return_index=True)[1]
    rows, at = {}, 0
    labels = list(asked.labels)
    for row in first.tolist():
        at = labels.index(answers["request"][row], at)
        rows[int(place[row])] = at
        at += 1
    return by.chance(
        [people[rows[p]] for p in place.tolist()],
        [texts.of_items[domain][catalogue.item_index[item]] for item in answers["item_id"]],
    )
