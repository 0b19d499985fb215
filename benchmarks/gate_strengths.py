"""Does the gate open as far as one domain tells of another? Prints weights and figures as JSON.

    python benchmarks/gate_strengths.py [--strengths 0 .25 .5 1] [--seeds 0 1 2 3 4] [--out FILE]

Generated worlds of books and gear, the demo's settings and one thread. For each strength, the mean
over seeds (of world and training) of the gate's weight, for all and by group of people, and test
NDCG@10 of what is served, of the transferred and of the target-only side. Required: the mean weight
rises with the strength, it is shut without any transfer, and what is served is never significantly
worse than target-only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isthmus import Config, Recommender
from isthmus.cli.demo import QUICK
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.evaluation.compare import compare, harm
from isthmus.evaluation.slices import COLD
from isthmus.threads import use_threads

TARGET = "gear"
SYSTEMS = ("gated", "transferred", "target-only")
SHUT = 0.1
"""Mean weight up to which the gate counts as shut without any transfer."""


def one_world(transfer: float, seed: int, users: int) -> dict[str, Any]:
    """Fit one world, and say what the gate did and what came of it."""
    domains = (DomainSpec(name="books"), DomainSpec(name=TARGET))
    world = WorldConfig(n_users=users, seed=seed, transfer=transfer, domains=domains)
    config = Config.model_validate({**QUICK, "seed": seed, "target": TARGET})
    recommender = Recommender.fit(generate_world(world).dataset, config)
    gate = recommender.gates[TARGET]
    found = recommender.evaluate(domains=[TARGET])[TARGET]
    gated = compare(found["gated"], found["target-only"])
    groups = [part for part in gate.slices if part.shrunk is not None]
    return {
        "strength": transfer,
        "seed": seed,
        "weight": round(gate.weight, 3),
        "weight_newcomers": next((p.weight for p in groups if p.most == 0), None),
        "validation_change": rounded(gate.relative),
        "groups": [
            {
                "people": part.people(TARGET),
                "n": part.n,
                "weight": round(part.weight, 3),
                "measured": rounded(part.measured),
                "shrunk": rounded(part.shrunk),
            }
            for part in groups
        ],
        "ndcg@10": {name: round(found[name].mean("ndcg@10"), 4) for name in SYSTEMS},
        "ndcg@10_newcomers": {name: round(found[name].mean("ndcg@10", COLD), 4) for name in SYSTEMS}
        if COLD in found["gated"].slices
        else None,
        "harmed_slices": harm(gated)["slice"].to_list(),
    }


def rounded(change: tuple[float, float, float] | None) -> list[float] | None:
    """A change with its interval, to a tenth of a per cent."""
    return [round(value, 3) for value in change] if change else None


def summed_up(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Means over the seeds of one strength, strengths rising."""
    for strength in sorted({row["strength"] for row in rows}):
        here = [row for row in rows if row["strength"] == strength]
        new = [row["weight_newcomers"] for row in here if row["weight_newcomers"] is not None]
        yield {
            "strength": strength,
            "weight": round(float(np.mean([row["weight"] for row in here])), 3),
            "weight_newcomers": round(float(np.mean(new)), 3) if new else None,
            "ndcg@10": {
                name: round(float(np.mean([row["ndcg@10"][name] for row in here])), 4)
                for name in SYSTEMS
            },
            "harmed_slices": sum(len(row["harmed_slices"]) for row in here),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.25, 0.5, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--users", type=int, default=2500)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    use_threads(1)

    start = time.perf_counter()
    rows = [
        one_world(strength, seed, args.users) for strength in args.strengths for seed in args.seeds
    ]
    table = list(summed_up(rows))
    weights = [row["weight"] for row in table]
    found = {
        "users": args.users,
        "seeds": args.seeds,
        "by_strength": table,
        "weight_rises": bool((np.diff(weights) >= 0).all() and weights[-1] > weights[0]),
        "shut_without_transfer": weights[0] <= SHUT if table[0]["strength"] == 0 else None,
        "harmed_slices": sum(row["harmed_slices"] for row in table),
        "worlds": rows,
        "seconds": round(time.perf_counter() - start, 1),
    }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
