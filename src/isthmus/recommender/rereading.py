"""A list of recommendations in a new order: by a language model that reads both texts at once."""

from __future__ import annotations

import numpy as np
import polars as pl

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
        items stand in order of.
    """
    texts = PairTexts(dataset, by.config.history)
    people = texts.of_people(asked.whole)
    # Two of the people may have one name, so lists are told apart by where they begin.
    place = (answers["rank"].diff().fill_null(1) <= 0).cum_sum()
    starts = answers["request"].filter(answers["rank"] == 1).to_list()
    rows, labels = [], list(asked.labels)
    at = 0
    for label in starts:
        at = labels.index(label, at)
        rows.append(at)
        at += 1
    catalogue = dataset.domains[domain]
    told = by.chance(
        [people[rows[p]] for p in place],
        [texts.of_items[domain][catalogue.item_index[item]] for item in answers["item_id"]],
    )
    score, stands = answers["score"].to_numpy(), np.empty(len(answers))
    for one in range(len(rows)):
        mine = (place == one).to_numpy()
        stands[mine] = reordered(score[mine], told[mine], by.weight(catalogue.name))
    return (
        answers.with_columns(place.alias("place"), pl.Series("reread", stands))
        .rename({"rank": "first_rank"})
        .sort("place", "reread", "first_rank", descending=[False, True, False])
        .with_columns(rank=pl.int_range(1, pl.len() + 1).over("place"))
        .filter(pl.col("rank") <= k)
        .select("request", "rank", pl.exclude("request", "rank", "place"))
    )
