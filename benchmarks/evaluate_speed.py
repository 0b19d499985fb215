"""How long ranking and metrics take beyond scoring, on a catalogue of real size.

    python benchmarks/evaluate_speed.py [--users 7144] [--items 28095] [--out FILE.json]

A scorer that hands out ready-made blocks answers one question per user over the whole catalogue;
its own time is subtracted. `distinct` has no equal scores, `tied` has ten levels, as counting
models do. Prints JSON: wall and processor seconds, best of `--repeats` runs; on a machine that is
busy otherwise only the latter says much.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from isthmus.config import EvaluationConfig
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.splits import leave_one_out
from isthmus.evaluation.compare import compare
from isthmus.evaluation.evaluate import evaluate
from isthmus.evaluation.metrics import per_query, popularity_of, whole_ranking
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Requests, Scores, pick

LIMIT_SECONDS = 3.0


class ReadyMade:
    """Hands out rows of one block and counts the time that this takes."""

    def __init__(self, name: str, block: NDArray[np.float32]) -> None:
        self.name, self.block, self.seconds, self.cpu = name, block, 0.0, 0.0

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        start, cpu = time.perf_counter(), time.process_time()
        scores = Scores(pick(self.block[: len(requests)], items))
        self.seconds += time.perf_counter() - start
        self.cpu += time.process_time() - cpu
        return scores


def world(n_users: int, n_items: int, rng: np.random.Generator) -> Dataset:
    """Two dozen events a user in two domains, the last one always in the first domain."""
    per_user = 24
    n = n_users * per_user
    domain = rng.integers(0, 2, n).astype(np.int16)
    domain[per_user - 1 :: per_user] = 0
    events = Events.from_columns(
        n_users,
        np.repeat(np.arange(n_users), per_user),
        domain,
        (rng.random(n) ** 3 * n_items).astype(np.int32),
        np.tile(np.arange(per_user, dtype=np.float64), n_users),
    )
    ids = [f"item{i}" for i in range(n_items)]
    domains = tuple(Domain(name, pl.DataFrame({"item_id": ids})) for name in ("target", "source"))
    return Dataset(domains, pl.Series([f"user{u}" for u in range(n_users)]), events)


def beyond_scoring(scorer: ReadyMade, repeats: int, work: Callable[[], object]) -> dict[str, float]:
    """Fewest seconds of `work` without those spent in `scorer`, on the wall and on all cores."""
    wall, cpu = [], []
    for _ in range(repeats):
        scorer.seconds = scorer.cpu = 0.0
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start - scorer.seconds)
        cpu.append(time.process_time() - cpu_start - scorer.cpu)
    return {"wall": round(min(wall), 3), "cpu": round(min(cpu), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=7144)
    parser.add_argument("--items", type=int, default=28095)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    dataset = world(args.users, args.items, rng)
    split = leave_one_out(dataset)
    config = EvaluationConfig()
    popularity = popularity_of(split.train_events(dataset), 0, args.items)
    shape = (config.batch, args.items)
    scorers = (
        ReadyMade("distinct", rng.random(shape, dtype=np.float32)),
        ReadyMade("tied", np.floor(rng.random(shape, dtype=np.float32) ** 8 * 10)),
    )
    found: dict[str, object] = {
        "queries": len(split.test),
        "items": args.items,
        "cutoffs": config.cutoffs,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "limit_seconds": LIMIT_SECONDS,
    }

    for scorer in scorers:

        def all_metrics(scorer: ReadyMade = scorer) -> None:
            ranking = rank(scorer, dataset, split.test, 0, config=config)
            per_query(ranking, config.cutoffs, popularity)
            whole_ranking(ranking, config.cutoffs)

        def with_slices_and_intervals(scorer: ReadyMade = scorer) -> None:
            evaluate(scorer, dataset, split, 0, config=config).records()

        found[scorer.name] = {
            "all_metrics": beyond_scoring(scorer, args.repeats, all_metrics),
            "with_cold_users_slices_and_intervals": beyond_scoring(
                scorer, args.repeats, with_slices_and_intervals
            ),
        }
    a, b = (evaluate(s, dataset, split, 0, config=config) for s in scorers)
    found["compare"] = beyond_scoring(scorers[0], args.repeats, lambda: compare(a, b))

    text = json.dumps(found, indent=2)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
