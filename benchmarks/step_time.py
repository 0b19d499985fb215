"""How long a training step takes as the catalogue grows; prints seconds and ratios as JSON.

    python benchmarks/step_time.py [--items 5000 50000 500000] [--threads 1] [--out FILE.json]

The batch is the same at every size: sequences of the same shape, 1,024 events with the same items
in common, 512 negatives. Sizes take turns, round by round, so that a busy moment of the machine
does not fall on one of them alone; a size's figure is its best round. The largest may take at most
1.3 times as long as the smallest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from isthmus.config import ModelConfig, TrainingConfig
from isthmus.data.batches import PackedBatch
from isthmus.data.dataset import Events
from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel
from isthmus.training.loop import train
from isthmus.training.next_item import NextItemTask

LIMIT_RATIO = 1.3
EVENTS, NEGATIVES, TEXT_DIM = 1024, 512, 200
STEPS = 10


class Clocked(NextItemTask):
    """An epoch of a few steps, timed from the first batch handed out to the end of the last."""

    seconds: float = 0.0

    def batches(self, rng: np.random.Generator) -> Iterator[PackedBatch]:
        batches = cycle(list(super().batches(rng)))
        start = time.perf_counter()
        for _ in range(STEPS):
            yield next(batches)
        self.seconds = (time.perf_counter() - start) / STEPS


def events(n_items: int) -> Events:
    """Histories of 3 to 51 events over the same 5,000 or fewer items, spread over the catalogue."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 52, 400)
    total = int(lengths.sum())
    place = np.floor(5_000 * rng.random(total) ** 2) / 5_000
    return Events.from_columns(
        len(lengths),
        np.repeat(np.arange(len(lengths)), lengths),
        np.zeros(total, np.int16),
        np.floor(place * n_items).astype(np.int32),
        np.arange(total) * 3600.0,
    )


def task(n_items: int) -> Clocked:
    """The core model with text over one catalogue."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((n_items, TEXT_DIM), dtype=np.float32)
    features = [ItemFeatures(vectors, np.ones(n_items, bool))]
    model = CoreModel(features, np.full(n_items, 5, np.float32), ModelConfig(), seed=0)
    return Clocked(
        model,
        events(n_items),
        np.array([0, n_items]),
        TrainingConfig(batch_events=EVENTS, negatives=NEGATIVES),
        weights=[1.0],
        max_length=model.config.max_length,
        device=torch.device("cpu"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[5_000, 50_000, 500_000])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    config = TrainingConfig(epochs=1)
    tasks = {n_items: task(n_items) for n_items in args.items}
    rounds: dict[int, list[float]] = {n_items: [] for n_items in tasks}
    for _ in range(args.rounds + 1):
        for n_items, clocked in tasks.items():
            train(clocked, lambda: 0.0, config, seed=0)
            rounds[n_items].append(clocked.seconds)
    best = {n_items: min(seconds[1:]) for n_items, seconds in rounds.items()}
    smallest = best[min(best)]
    ratio = {n_items: round(seconds / smallest, 3) for n_items, seconds in best.items()}
    found = {
        "events_per_batch": EVENTS,
        "negatives": NEGATIVES,
        "threads": args.threads,
        "seconds_per_step": {n_items: round(seconds, 5) for n_items, seconds in best.items()},
        "ratio_to_smallest": ratio,
        "limit_ratio": LIMIT_RATIO,
        "within_limit": max(ratio.values()) <= LIMIT_RATIO,
    }
    text = json.dumps(found, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
