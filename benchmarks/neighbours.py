"""What the neighbouring cross-domain methods reach on real data, and what they cost.

    python benchmarks/neighbours.py [--config FILE] [--seeds 0] [--systems emcdr,cmf]
        [--set KEY=VALUE …] [--out FILE.json]

Only the baselines are fitted, with their defaults, which were chosen on validation questions; test
questions, full ranking. Methods without a seed are fitted once. What is measured is kept under
`benchmarks/work/neighbours`, so that a run that was killed goes on. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.splits import make_split
from isthmus.experiment.baselines import Ingredients, chosen
from isthmus.experiment.seed_run import Measured, measure_baseline
from isthmus.language import TextEncoder

HERE = Path(__file__).parent
SYSTEMS = "co-occurrence,als,emcdr,cmf,bitgcf,unisrec"
METRICS = ("ndcg@10", "hit_rate@10", "hit_rate@100")


def measure(options: argparse.Namespace) -> dict[str, list[tuple[int, Measured]]]:
    """Every system, with one entry for each of its seeds."""
    config = Config.load(options.config, overrides=options.set)
    dataset, _ = build_dataset(config)
    split = make_split(dataset, config.split.kind, quantiles=config.split.quantiles)
    events = split.train_events(dataset)
    encoder = TextEncoder.load(config.language)
    raw = [encoder.encode(domain.items["text"].to_list()) for domain in dataset.domains]
    targets = list(range(len(dataset.domains)))
    found: dict[str, list[tuple[int, Measured]]] = {}
    for seed in (int(seed) for seed in options.seeds.split(",")):
        settings = config.model_copy(update={"seed": seed})
        given = Ingredients(dataset, split, events, raw, settings, 0, None)
        for name, baseline in chosen(options.systems.split(",")).items():
            if name in found and not baseline.seeded:
                continue
            place = HERE / "work" / "neighbours" / config.name / f"seed-{seed}"
            mark = settings.model_dump_json()
            measured = Measured.load(place / name, mark)
            if measured is None:
                measured = measure_baseline(name, baseline, given, targets, place)
                measured.save(place / name, mark)
            found.setdefault(name, []).append((seed, measured))
    return found


def summary(name: str, measured: list[tuple[int, Measured]]) -> dict[str, Any]:
    """Means over the seeds, and what each gave."""
    targets = measured[0][1].evaluations[name]

    def of(target: str, metric: str) -> list[float]:
        return [m.evaluations[name][target].mean(metric) for _, m in measured]

    return {
        "seeds": [seed for seed, _ in measured],
        "seconds": round(float(np.mean([m.seconds[f"baseline {name}"] for _, m in measured])), 1),
        "test": {t: {m: round(float(np.mean(of(t, m))), 4) for m in METRICS} for t in targets},
        "ndcg@10_by_seed": {t: [round(v, 4) for v in of(t, "ndcg@10")] for t in targets},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, default=HERE / "configs" / "food-kitchen.toml")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--systems", default=SYSTEMS, help="baselines, comma-separated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {name: summary(name, measured) for name, measured in measure(options).items()}
    text = json.dumps({"systems": found}, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
