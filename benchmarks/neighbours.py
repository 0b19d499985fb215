"""What the neighbouring cross-domain methods reach on real data, and what they cost.

    python benchmarks/neighbours.py [--config FILE] [--seeds 0,1,2] [--systems emcdr,cmf]
        [--targets food] [--set KEY=VALUE …] [--out FILE.json]

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
SYSTEMS = "co-occurrence,emcdr,cmf,bitgcf,unisrec"
SETTINGS = ("training.threads=1",)
METRICS = ("ndcg@10", "hit_rate@10", "hit_rate@100")


Part = tuple[int, str, Measured]
"""What one seed gave for one target."""


def measure(options: argparse.Namespace) -> dict[str, list[Part]]:
    """Every system, with one part for each seed and target."""
    config = Config.load(options.config, overrides=[*SETTINGS, *options.set])
    dataset, _ = build_dataset(config)
    split = make_split(dataset, config.split.kind, quantiles=config.split.quantiles)
    events = split.train_events(dataset)
    encoder = TextEncoder.load(config.language)
    raw = [encoder.encode(domain.items["text"].to_list()) for domain in dataset.domains]
    targets = options.targets.split(",") if options.targets else list(dataset.names)
    found: dict[str, list[Part]] = {}
    for seed in (int(seed) for seed in options.seeds.split(",")):
        settings = config.model_copy(update={"seed": seed})
        given = Ingredients(dataset, split, events, raw, settings, 0, None)
        for name, baseline in chosen(options.systems.split(",")).items():
            if name in found and not baseline.seeded:
                continue
            place = HERE / "work" / "neighbours" / config.name / f"seed-{seed}"
            mark = settings.model_dump_json()
            found.setdefault(name, [])
            for target in targets:
                part = place / f"{name}-{target}"
                measured = Measured.load(part, mark)
                if measured is None:
                    indices = [dataset.domain_index(target)]
                    measured = measure_baseline(name, baseline, given, indices, place)
                    measured.save(part, mark)
                found[name].append((seed, target, measured))
    return found


def summary(name: str, parts: list[Part]) -> dict[str, Any]:
    """By target: seconds and figures, each the mean over the seeds."""
    found: dict[str, Any] = {}
    for target in dict.fromkeys(target for _, target, _ in parts):
        own = [(seed, measured) for seed, t, measured in parts if t == target]
        given = [measured.evaluations[name][target] for _, measured in own]
        found[target] = {
            "seeds": [seed for seed, _ in own],
            "seconds": round(float(np.mean([m.seconds[f"baseline {name}"] for _, m in own])), 1),
            **{m: round(float(np.mean([e.mean(m) for e in given])), 4) for m in METRICS},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, default=HERE / "configs" / "food-kitchen.toml")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--systems", default=SYSTEMS, help="baselines, comma-separated")
    parser.add_argument("--targets", help="domains, comma-separated; default: all")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {name: summary(name, measured) for name, measured in measure(options).items()}
    text = json.dumps({"settings": [*SETTINGS, *options.set], "systems": found}, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
