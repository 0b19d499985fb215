"""What each strategy gives at few target events, beside joint and target-only; prints JSON.

    python benchmarks/strategies.py [--config FILE] [--target DOMAIN] [--share 0.1 | --events 10,50]
        [--seeds 0,1] [--strategies joint,meta] [--set KEY=VALUE …] [--out FILE.json]

On a generated world (a new one per seed) or on the tables of a configuration. `--share` of the
target's people keep what they did there, all others are new to it; or the target has its latest
`--events` only, as if it had just opened. Every test question is asked.
Figures are NDCG@10 under full ranking, of the neural part alone and of the blend, before any gate.
A figure is printed as soon as it is known, and one that `--out` holds already is not measured
again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.alignment.domains import align_features
from isthmus.config import STRATEGIES, Config
from isthmus.data.build import build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split, make_split
from isthmus.data.thinning import Thinned, thin
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.language import TextEncoder
from isthmus.scoring import Scorer
from isthmus.transfer.sides import fit_side, roles_of
from isthmus.transfer.strategies import chosen_strategy

WORLD = {
    "model": {"dim": 32, "layers": 1},
    "training": {"epochs": 12, "batch_events": 512, "learning_rate": 0.004, "threads": 1},
    "evaluation": {"cutoffs": [10]},
}
"""Settings of the demo."""


def worlds(options: argparse.Namespace) -> Iterator[tuple[int, Dataset, Config]]:
    """Dataset and configuration of each seed."""
    for seed in (int(s) for s in options.seeds.split(",")):
        if options.config:
            config = Config.load(options.config, overrides=[*options.set, f"seed={seed}"])
            yield seed, build_dataset(config)[0], config
            continue
        domains = tuple(DomainSpec(name=name) for name in ("books", "films", "gear"))
        world = WorldConfig(
            n_users=options.users, seed=seed, domains=domains, transfer=options.transfer
        )
        config = Config.model_validate(WORLD).override(*options.set, f"seed={seed}")
        yield seed, generate_world(world).dataset, config


def ndcg(scorer: Scorer, dataset: Dataset, thinned: Thinned, target: int, config: Config) -> float:
    """NDCG@10 of every test question of the whole dataset; hidden events are no history."""
    ranking = rank(
        scorer,
        dataset,
        thinned.asked.test,
        target,
        config=config.evaluation,
        lists=False,
        hidden=thinned.hidden,
    )
    return float(per_query(ranking, [10])["ndcg@10"].mean())


def measure(
    strategy: str, dataset: Dataset, thinned: Thinned, target: int, config: Config
) -> dict[str, float]:
    """Fit one side and ask it."""
    config = config.override(f"transfer.strategy={strategy}")
    encoder = TextEncoder.load(config.language, device="cpu")
    raw = [encoder.encode(domain.items["text"].to_list()) for domain in dataset.domains]
    features = align_features(raw, config, dataset)
    began = time.perf_counter()
    side = fit_side(
        chosen_strategy(config.transfer, roles_of(thinned.dataset, config, target)),
        thinned.dataset,
        thinned.split,
        raw,
        features,
        config,
        target=target,
    )
    return {
        "neural": ndcg(side.neural, dataset, thinned, target, config),
        "blend": ndcg(side.blend, dataset, thinned, target, config),
        "seconds": round(time.perf_counter() - began, 1),
        "target_events": thinned.n_events,
    }


def amounts(
    options: argparse.Namespace, dataset: Dataset, split: Split, target: int
) -> Iterator[tuple[str, Thinned]]:
    """What is left of the target, by name."""
    if options.events is None:
        yield f"share {options.share:g}", thin(dataset, split, target, options.share, "users")
        return
    whole = int((split.in_train & (dataset.events.domain == target)).sum())
    for n in (int(word) for word in options.events.split(",")):
        yield f"{n} events", thin(dataset, split, target, min(n / whole, 1.0), "time")


def show(found: dict[str, Any]) -> None:
    """Means over seeds, a line for each amount and strategy."""
    for amount, by_strategy in found.items():
        for strategy, by_seed in by_strategy.items():
            means = {
                part: round(float(np.mean([f[part] for f in by_seed.values()])), 4)
                for part in ("neural", "blend")
            }
            neural, blend = means["neural"], means["blend"]
            print(f"{amount:12} {strategy:20} neural {neural:.4f}  blend {blend:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, help="real tables instead of a world")
    parser.add_argument("--users", type=int, default=2000, help="of the world")
    parser.add_argument("--transfer", type=float, default=1.0, help="of the world")
    parser.add_argument("--target", default="gear")
    parser.add_argument("--share", type=float, default=0.1, help="of the target's people")
    parser.add_argument("--events", metavar="N,…", help="instead: the target's latest events")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    found: dict[str, Any] = {}
    if options.out and options.out.is_file():
        found = json.loads(options.out.read_text())["figures"]
    for seed, dataset, config in worlds(options):
        split = make_split(dataset, config.split.kind, quantiles=config.split.quantiles)
        target = dataset.domain_index(options.target)
        for amount, thinned in amounts(options, dataset, split, target):
            for strategy in options.strategies.split(","):
                if str(seed) in found.get(amount, {}).get(strategy, {}):
                    continue
                figures = measure(strategy, dataset, thinned, target, config)
                print(seed, amount, strategy, json.dumps(figures), flush=True)
                found.setdefault(amount, {}).setdefault(strategy, {})[str(seed)] = figures
                if options.out:
                    described = {k: str(v) for k, v in vars(options).items() if k != "out"}
                    document = {"options": described, "figures": found}
                    options.out.write_text(json.dumps(document, indent=1) + "\n")
    show(found)
    print(json.dumps({"figures": found}))


if __name__ == "__main__":
    main()
