"""NDCG@10 of what is served, and with its best items put in order anew. Prints figures as JSON.

    python benchmarks/rerank.py [--config FILE] [--set KEY=VALUE …] [--questions N]

A cross-encoder is tuned on held-back events against items drawn by popularity (`isthmus teach click
--way language`), on validation questions alone, and re-orders the best fifty (`--set
tasks.cross_encoder.rerank=…`) of a random sample of test questions of each domain. Without --config
on the generated world, whose titles tell an item's theme; else on the domains of a configuration
such as benchmarks/configs/food-kitchen.toml. Only the transferred side is fitted: no gate is set.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from isthmus import Config, Recommender, build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.world import WorldConfig, generate_world
from isthmus.evaluation.compare import compare
from isthmus.evaluation.result import Evaluation

METRICS = ("ndcg@10", "hit_rate@10", "mrr@10")


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Metric → value and interval over people, all questions."""
    rows = evaluation.records().filter(slice="all").to_dicts()
    return {
        row["metric"]: {
            "value": round(row["value"], 4),
            "ci95": [round(row["ci_low"], 4), round(row["ci_high"], 4)],
        }
        for row in rows
        if row["metric"] in METRICS
    }


def difference(after: Evaluation, before: Evaluation) -> dict[str, Any]:
    """Re-ordered minus served in NDCG@10, on the same questions and draws of people."""
    (row,) = compare(after, before).filter(slice="all", metric="ndcg@10").to_dicts()
    return {
        "ndcg@10": round(row["value"], 4),
        "ci95": [round(row["ci_low"], 4), round(row["ci_high"], 4)],
        "relative": None if row["relative"] is None else round(row["relative"], 3),
    }


def study(dataset: Dataset, config: Config, questions: int) -> dict[str, Any]:
    start = time.perf_counter()
    recommender = Recommender.fit(dataset, config, targets=[])
    fitted = time.perf_counter()
    encoder = recommender.teach_language("click")
    taught = time.perf_counter()
    found = recommender.evaluate(rerank=encoder, most=questions)
    return {
        "cross_encoder": {
            "settings": encoder.config.model_dump(mode="json", exclude_defaults=True),
            "rerank": encoder.config.rerank,
            # Beside the order that is there; 0: validation did not find that it helps.
            "weights": {name: round(w, 3) for name, w in (encoder.weights or {}).items()},
            # ln 2 = .693 a domain is what a coin would have.
            "validation_loss": round(-encoder.log.best, 4),
        },
        "domains": {
            name: {
                "questions": int(systems["gated"].slices["all"].sum()),
                "served": figures(systems["gated"]),
                "reranked": figures(systems["reranked"]),
                "difference": difference(systems["reranked"], systems["gated"]),
            }
            for name, systems in found.items()
        },
        "seconds": {
            "fit": round(fitted - start, 1),
            "tune the cross-encoder": round(taught - fitted, 1),
            "evaluate": round(time.perf_counter() - taught, 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--users", type=int, default=1500, help="of the generated world")
    parser.add_argument("--questions", type=int, default=300, help="test questions a domain")
    args = parser.parse_args()
    torch.set_num_threads(1)

    usual = ["training.threads=1", "tasks.cross_encoder.tune=lora", *args.set]
    if args.config is None:
        config = Config.parse({}, overrides=usual)
        dataset = generate_world(WorldConfig(n_users=args.users)).dataset
    else:
        config = Config.load(args.config, overrides=usual)
        dataset, _ = build_dataset(config)
    print(json.dumps(study(dataset, config, args.questions), indent=1))


if __name__ == "__main__":
    main()
