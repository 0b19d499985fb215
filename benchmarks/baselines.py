"""What the baselines reach with their defaults, and what they cost.

    python benchmarks/baselines.py [--config benchmarks/configs/food-kitchen.toml]
        [--split leave-one-out] [--split global] [--queries test] [--only ease,als]
        [--out FILE.json]

Full ranking, seen items excluded. Defaults were chosen on the validation questions of Food–Kitchen;
`--queries validation` shows those. Prints one line per baseline and domain, and JSON with --out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.baselines.als import ALS
from isthmus.baselines.content import ContentKNN, ContentKNNConfig
from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.baselines.ease import EASE
from isthmus.baselines.popular import Popular, RecentPopular
from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.dataset import Dataset, Events
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import make_split
from isthmus.evaluation.evaluate import evaluate
from isthmus.language import TextEncoder
from isthmus.scoring import Scorer

METRICS = ("hit_rate@10", "ndcg@10", "hit_rate@100")
Fit = Callable[[Dataset, Events, list[ItemFeatures]], Scorer]
FITS: dict[str, Fit] = {
    "popular": lambda d, e, f: Popular.fit(d, e),
    "recent-popular": lambda d, e, f: RecentPopular.fit(d, e),
    "co-occurrence": lambda d, e, f: CoOccurrence.fit(d, e),
    "co-occurrence-target": lambda d, e, f: CoOccurrence.fit(
        d, e, CoOccurrenceConfig(merged=False)
    ),
    "ease": lambda d, e, f: EASE.fit(d, e),
    "als": lambda d, e, f: ALS.fit(d, e),
    "text": lambda d, e, f: ContentKNN.fit(d, e, f),
    "text-target": lambda d, e, f: ContentKNN.fit(d, e, f, ContentKNNConfig(merged=False)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent / "configs" / "food-kitchen.toml"
    parser.add_argument("--config", type=Path, default=default)
    parser.add_argument("--split", action="append", choices=["leave-one-out", "global"])
    parser.add_argument("--queries", choices=["test", "validation"], default="test")
    parser.add_argument("--only", default=",".join(FITS), help="baselines, comma-separated")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    config = Config.load(given.config)
    dataset, _ = build_dataset(config)
    encoder = TextEncoder.load(config.language)
    features = [encoder.encode(domain.items["text"].to_list()) for domain in dataset.domains]
    rows: list[dict[str, Any]] = []
    for kind in given.split or ["leave-one-out"]:
        split = make_split(dataset, kind)
        events = split.train_events(dataset)
        for name in given.only.split(","):
            began, busy = time.perf_counter(), time.process_time()
            scorer = FITS[name](dataset, events, features)
            cost = {
                "fit_seconds": round(time.perf_counter() - began, 1),
                "fit_cpu_seconds": round(time.process_time() - busy, 1),
            }
            for domain, target in enumerate(dataset.names):
                began = time.perf_counter()
                measured = evaluate(
                    scorer, dataset, split, domain, config=config.evaluation, queries=given.queries
                )
                seconds = round(time.perf_counter() - began, 1)
                row: dict[str, Any] = {"split": kind, "system": name, "target": target}
                row |= {metric: round(measured.mean(metric), 4) for metric in METRICS}
                rows.append(row | cost | {"evaluation_seconds": seconds})
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
