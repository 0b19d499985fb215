"""Load, clean and code ten million generated events; prints seconds and peak memory as JSON.

    python benchmarks/load_events.py [--events 10000000] [--format parquet|csv]

The files are written to a temporary folder first; `build_dataset` then runs in a fresh process, so
that its peak memory is its own. The target is under 60 s and 4 GiB on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

DOMAINS = ("books", "films")


def write(folder: Path, n_events: int, kind: str) -> Path:
    """Two catalogues with half of the people in common, and a configuration."""
    rng = np.random.default_rng(0)
    lines = []
    for place, name in enumerate(DOMAINS):
        n = n_events // len(DOMAINS)
        n_users, n_items = max(n // 20, 2), max(n // 100, 2)
        user = rng.integers(0, n_users, n) + place * n_users // 2
        item = (n_items * rng.random(n) ** 2).astype(np.int64)
        day = rng.integers(15_000, 20_000, n)
        events = pl.DataFrame({"user": user, "item": item, "time": day * 86_400}).select(
            pl.format("person-{}", "user").alias("user_id"),
            pl.format("{}-{}", pl.lit(name), "item").alias("item_id"),
            pl.col("time").alias("timestamp"),
            pl.Series("rating", rng.integers(1, 6, n)),
        )
        items = pl.DataFrame({"item": np.arange(n_items)}).select(
            pl.format("{}-{}", pl.lit(name), "item").alias("item_id"),
            pl.format("The {} of number <b>{}</b> &amp; more", pl.lit(name), "item").alias("title"),
        )
        for frame, what in ((events, "interactions"), (items, "items")):
            path = folder / f"{name}.{what}.{kind}"
            if kind == "csv":
                frame.write_csv(path)
            else:
                frame.write_parquet(path)
        lines += [
            f"[domains.{name}]",
            f'interactions = "{name}.interactions.{kind}"',
            f'items = "{name}.items.{kind}"',
            'events = {time = "timestamp", rating = "rating"}',
            'catalogue = {title = "title"}',
        ]
    config = folder / "isthmus.toml"
    config.write_text("\n".join(lines), "utf-8")
    return config


def measure(config: Path) -> dict[str, float]:
    """Build once in this process."""
    from isthmus.config import Config
    from isthmus.data.build import build_dataset

    start = time.perf_counter()
    dataset, _ = build_dataset(Config.load(config))
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "events": len(dataset.events),
        "users": dataset.n_users,
        "items": dataset.n_items,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        config = write(Path(folder), arguments.events, arguments.format)
        command = [sys.executable, __file__, "--measure", str(config)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
    print(json.dumps({"format": arguments.format, **json.loads(result.stdout)}))


if __name__ == "__main__":
    main()
