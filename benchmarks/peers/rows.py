"""Lay out the rows that all sides train and are measured on.

Food and kitchen are one catalogue of 28,095 items. Events are ordered by time; ties within a user
are broken at random under one fixed seed, since the published order leaks the answer; the last
event of each user is held out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

TIE_SEED = 0


def write_rows(source: Path, target: Path, *, domains: list[str], users: int | None) -> None:
    """Write `common.Rows` as npz; `users` keeps the first so many, for a quick look."""
    tables = [
        pl.read_parquet(
            source / f"{name}.interactions.parquet", columns=["user_id", "item_id", "timestamp"]
        ).with_columns(domain=pl.lit(index))
        for index, name in enumerate(domains)
    ]
    # Sorted by raw ids first, so that the rows' places in the files decide nothing.
    events = pl.concat(tables).sort("user_id", "domain", "item_id", "timestamp")
    if users is not None:
        events = events.filter(pl.col("user_id").rank("dense") <= users)
    events = events.with_columns(
        user=pl.col("user_id").rank("dense").cast(pl.Int64) - 1,
        item=pl.struct("domain", "item_id").rank("dense").cast(pl.Int64) - 1,
        tie=pl.Series(np.random.default_rng(TIE_SEED).random(events.height)),
    ).sort("user", "timestamp", "tie")
    items = events.unique("item").sort("item")
    user = events["user"].to_numpy()
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        target,
        user=user,
        item=events["item"].to_numpy(),
        domain=items["domain"].to_numpy().astype(np.int64),
        time=events["timestamp"].to_numpy(),
        held_out=np.diff(user, append=-1) != 0,
    )
