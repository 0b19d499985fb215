"""Pairs that join two domains: items that read alike, or a file that says which belong together.

A pair is a row of int64 [p, 2]: an item of the first domain and one of the second.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.alignment.features import Whitening, shared_axes
from isthmus.alignment.sampling import content_sample
from isthmus.data.dataset import Dataset
from isthmus.data.readers import open_table
from isthmus.errors import DataError, did_you_mean

COLUMNS = ("domain_a", "item_a", "domain_b", "item_b")
CHUNK = 1024
COMMON = 100
"""A match of two texts that stand for more item pairs than this tells no item from another."""

_log = logging.getLogger(__name__)

Pairs = NDArray[np.int64]


def matched_texts(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    *,
    cosine: float = 0.4,
    dim: int = 200,
    most: int = 50_000,
) -> Pairs:
    """Items that read alike: each other's nearest neighbour, with at least a given cosine.

    Each domain is whitened within common axes first, so that what every item of a domain says
    counts for nothing. Each distinct text is matched once; items of equal text share its match,
    except where these would be more than `COMMON`. Similarities exist for `CHUNK` texts at once.

    Args:
        a: vectors [n, d] of items with a text.
        b: the same of the other domain, [m, d].
        cosine: least similarity of a pair.
        dim: directions compared.
        most: most distinct texts of each domain that are compared, a choice by content; that more
            were left out is logged.

    Returns:
        Rows of `a` and `b`, int64 [p, 2], in order of the rows of `a`.
    """
    distinct, groups = [], []
    for vectors in (a, b):
        _, first, inverse = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
        chosen = content_sample(vectors[first], most)
        if len(chosen) < len(first):
            _log.info("pairs are sought among %d of %d texts", len(chosen), len(first))
        order = np.argsort(inverse.reshape(-1), kind="stable")
        members = np.split(order, np.cumsum(np.bincount(inverse.reshape(-1)))[:-1])
        distinct.append(vectors[first[chosen]])
        groups.append([members[i] for i in chosen])
    if not all(map(len, distinct)):
        return np.zeros((0, 2), np.int64)
    axes = shared_axes(distinct, dim)
    one, other = (Whitening.fit(x, kind="zca", dim=dim, axes=axes).transform(x) for x in distinct)
    found = []
    for i, j in _mutual_nearest(one, other, cosine):
        rows, columns = groups[0][i], groups[1][j]
        if len(rows) * len(columns) <= COMMON:
            found += [(row, column) for row in rows for column in columns]
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _mutual_nearest(one: NDArray[np.float32], other: NDArray[np.float32], cosine: float) -> Pairs:
    """Rows of unit vectors that are each other's nearest, in chunks of the first."""
    nearest = np.zeros(len(one), np.int64)
    likeness = np.zeros(len(one), np.float32)
    back, best = np.zeros(len(other), np.int64), np.full(len(other), -np.inf, np.float32)
    for start in range(0, len(one), CHUNK):
        similar = one[start : start + CHUNK] @ other.T
        nearest[start : start + CHUNK] = similar.argmax(1)
        likeness[start : start + CHUNK] = similar.max(1)
        top = similar.max(0)
        back = np.where(top > best, start + similar.argmax(0), back)
        best = np.maximum(best, top)
    rows = np.flatnonzero((likeness >= cosine) & (back[nearest] == np.arange(len(one))))
    return np.column_stack([rows, nearest[rows]])


def read_pairs(path: Path, dataset: Dataset) -> pl.DataFrame:
    """A file of pairs as indices: columns `domain_a`, `item_a`, `domain_b`, `item_b`, int64.

    Args:
        path: CSV, Parquet or JSON lines with these columns of names and raw ids.
        dataset: whose domains and items they name.

    Raises:
        DataError: a missing column, or a domain or item that the dataset does not hold; unknown
            items are counted and the first is named.
    """
    table = open_table(path)
    for column in COLUMNS:
        if column not in table.columns:
            raise DataError(
                f"no column {column!r}",
                where=str(path),
                hint=f"A pairs file has the columns {', '.join(COLUMNS)}. "
                + did_you_mean(column, table.columns),
            )
    frame = table.read(COLUMNS).cast(dict.fromkeys(COLUMNS, pl.String))
    indices = {name: d for d, name in enumerate(dataset.names)}
    for column in ("domain_a", "domain_b"):
        for name in frame[column].unique().to_list():
            if name not in indices:
                raise DataError(
                    f"{name!r} is no domain",
                    where=f"{path}: column {column!r}",
                    hint=did_you_mean(str(name), dataset.names),
                )
    known = pl.concat(
        pl.DataFrame(
            {
                "domain": pl.Series([d] * domain.n_items, dtype=pl.Int64),
                "item": domain.items["item_id"].cast(pl.String),
                "index": pl.Series(range(domain.n_items), dtype=pl.Int64),
            }
        )
        for d, domain in enumerate(dataset.domains)
    )
    frame = frame.with_columns(
        pl.col(f"domain_{side}").replace_strict(indices, return_dtype=pl.Int64) for side in "ab"
    )
    for side in "ab":
        frame = frame.join(
            known.rename({"domain": f"domain_{side}", "item": f"item_{side}"}),
            on=[f"domain_{side}", f"item_{side}"],
            how="left",
            maintain_order="left",
        ).rename({"index": side})
    _must_be_known(frame, path, dataset)
    return frame.select(
        "domain_a", pl.col("a").alias("item_a"), "domain_b", pl.col("b").alias("item_b")
    )


def _must_be_known(frame: pl.DataFrame, path: Path, dataset: Dataset) -> None:
    """Raise DataError if a row names an item that no catalogue holds."""
    lost = frame.with_row_index("row", offset=1).filter(
        pl.col("a").is_null() | pl.col("b").is_null()
    )
    if not len(lost):
        return
    first = lost.row(0, named=True)
    side = "a" if first["a"] is None else "b"
    raise DataError(
        f"{len(lost):,} of {len(frame):,} pairs name an item that its catalogue does not hold, "
        f"first {first[f'item_{side}']!r} of {dataset.names[first[f'domain_{side}']]!r} "
        f"in row {first['row']:,}",
        where=str(path),
        hint="Take these rows out, or add the items",
    )


def pairs_between(frame: pl.DataFrame, a: int, b: int) -> Pairs:
    """The distinct pairs of `read_pairs` that join domains `a` and `b`, either way round."""
    parts = [
        frame.filter((pl.col(f"domain_{x}") == a) & (pl.col(f"domain_{y}") == b))
        .select(f"item_{x}", f"item_{y}")
        .to_numpy()
        for x, y in ("ab", "ba")
    ]
    return np.unique(np.concatenate(parts).astype(np.int64).reshape(-1, 2), axis=0)
