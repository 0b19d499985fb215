"""Are people who are asked as if they were new to the target served like people who are?

    python benchmarks/newcomers.py [--config FILE] [--target NAME] [--control NAME] [--seed N]
        [--share SHARE]

A share of the people keep what they did in the target, the others lose all of it. Both sides are
fitted on what is left, and test questions of either are asked without any history in the target: of
the first the network has learnt what they took there after what they did elsewhere, of the second
it has not. Prints, as JSON, the transferred blend's change against target-only in both, with 95 %
intervals over people. With `--control random-overlap` histories elsewhere are somebody else's, so
that nothing but memory can tell the two apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, configured_split
from isthmus.data.thinning import thin
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.evaluation.significance import resampled_means
from isthmus.experiment.controls import CONTROLS, alter
from isthmus.language import TextEncoder
from isthmus.scoring import Scorer
from isthmus.transfer.system import fit_system

HERE = Path(__file__).parent
METRICS = ("ndcg@10", "ndcg@100")


def asked_as_new(
    sides: tuple[Scorer, Scorer], dataset: Dataset, questions: Queries, target: int, config: Config
) -> dict[str, Any]:
    """Change of the first side against the second, by metric: value and both ends."""
    rankings = [
        rank(
            side,
            dataset,
            questions,
            target,
            config=config.evaluation,
            hide_target_history=True,
            lists=False,
        )
        for side in sides
    ]
    gains = [per_query(ranking, [10, 100]) for ranking in rankings]
    found: dict[str, Any] = {"questions": len(rankings[0])}
    for metric in METRICS:
        columns = np.column_stack([each[metric] for each in gains])
        means, draws = resampled_means(columns, rankings[0].user)
        drawn = draws[:, 0, 0] / draws[:, 0, 1] - 1
        low, high = np.quantile(drawn, [0.025, 0.975])
        change = means[0, 0] / means[0, 1] - 1
        found[metric] = [round(float(value), 3) for value in (change, low, high)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, default=HERE / "configs" / "food-kitchen.toml")
    parser.add_argument("--target", default="food")
    parser.add_argument("--control", choices=CONTROLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.5)
    asked = parser.parse_args()
    config = Config.load(asked.config, overrides=["training.threads=1", f"seed={asked.seed}"])
    dataset, _ = build_dataset(config)
    split = configured_split(dataset, config.split)
    encoder = TextEncoder.load(config.language)
    raw = [encoder.encode(domain.items["text"].to_list()) for domain in dataset.domains]
    target = dataset.domain_index(asked.target)
    if asked.control:
        dataset, raw = alter(asked.control, dataset, split, raw, target)
    left = thin(dataset, split, target, asked.share, "users")
    system = fit_system(left.dataset, left.split, raw, config, targets=[target])
    sides = (system.transferred.blend, system.alone[target].blend)

    events, questions = dataset.events, split.test.position
    questions = questions[events.domain[questions] == target]
    gone = np.isin(events.user[questions], events.user[left.hidden])
    judged = [part for part in system.gates[target].slices if part.asked_again]
    found = {
        "target": asked.target,
        "share": asked.share,
        "control": asked.control or "none",
        "seed": asked.seed,
        "asked as if they were new": asked_as_new(
            sides, dataset, Queries(questions[~gone]), target, config
        ),
        "gone from the target": asked_as_new(
            sides, dataset, Queries(questions[gone]), target, config
        ),
        "gate": [{"weight": part.weight, "measured": part.measured} for part in judged],
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
