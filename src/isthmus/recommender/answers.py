"""Answers as data frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.dataset import Domain
from isthmus.recommender.ranking import Top
from isthmus.scoring import Float


def described(
    domain: Domain, item: NDArray[np.int64], score: Float, parts: Mapping[str, Float]
) -> pl.DataFrame:
    """Items with what people call them, and their scores.

    Args:
        domain: whose items they are.
        item: int64 [n] local indices.
        score: float32 [n].
        parts: float32 [n] by part.

    Returns:
        Columns `item_id`, `title`, `category`, `score`, `parts` (a struct by part).
    """
    shares = pl.DataFrame({name: part.astype(np.float32) for name, part in parts.items()})
    rows = pl.Series("row", item, pl.Int64)
    return domain.items.select(pl.col("item_id", "title", "category").gather(rows)).with_columns(
        pl.Series("score", score.astype(np.float32)), shares.to_struct("parts")
    )


def table(
    domain: Domain, labels: list[str], top: Top, basis: list[str], why: list[list[str]]
) -> pl.DataFrame:
    """One row per recommended item, in the order of the requests, best first.

    Columns `request`, `rank` (from 1), `item_id`, `title`, `category`, `score`, `parts`, `basis`,
    `why`.
    """
    row, column = np.nonzero(top.item >= 0)
    items = described(
        domain,
        top.item[row, column],
        top.score[row, column],
        {name: part[row, column] for name, part in top.parts.items()},
    )
    return items.select(
        pl.Series("request", labels, pl.String).gather(row),
        pl.Series("rank", column + 1, pl.Int64),
        pl.all(),
        pl.Series("basis", basis, pl.String).gather(row),
        pl.Series("why", [why[r][c] for r, c in zip(row, column, strict=True)], pl.String),
    )
