"""What each alignment does to accuracy: one table, with intervals. Prints it as JSON.

    python benchmarks/alignment.py [--config FILE] [--seeds 0] [--only NAME …] [--set KEY=VALUE …]

Fits the transferred side of a configuration once for each way to align features or representations
and asks the test questions about every domain, full ranking. The first way, whitening in shared
axes without a loss, is the default, and all others are held against it on the same questions,
paired over people. Finished fits are kept under `benchmarks/work/alignment`, so a killed run goes
on with what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.alignment.domains import align_features
from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split, make_split
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.evaluation.significance import resampled_means
from isthmus.language import TextEncoder
from isthmus.transfer.sides import fit_side, roles_of
from isthmus.transfer.strategies import chosen_strategy

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work" / "alignment"
DEFAULT = "whiten, shared axes"
WAYS: dict[str, tuple[str, ...]] = {
    DEFAULT: (),
    "none": ("alignment.features=[]",),
    "whiten, own axes": ("alignment.basis=own",),
    "coral": ("alignment.features=['coral']",),
    "procrustes": ("alignment.features=['procrustes']",),
    "sinkhorn": ("alignment.features=['sinkhorn']",),
    "whiten + procrustes": ("alignment.features=['whiten', 'procrustes']",),
    "whiten + sinkhorn": ("alignment.features=['whiten', 'sinkhorn']",),
    "+ mmd on items": ("alignment.representations={mmd=0.1}",),
    "+ coral on items": ("alignment.representations={coral=0.1}",),
    "+ adversary on items": ("alignment.representations={adversarial=0.1}",),
    "+ infonce on items": ("alignment.representations={infonce=0.1}",),
    "+ infonce on people": ("alignment.user_representations={infonce=0.1}",),
    "attention penalty": ("model.cross_attention_penalty=0.1",),
    "null-space fusion": ("model.fusion=null-space",),
}
"""What is set for each way."""

Gains = dict[str, NDArray[np.float64]]


def measure(dataset: Dataset, split: Split, raw: list[ItemFeatures], config: Config) -> Gains:
    """NDCG@10 of every test question, by `part@domain`."""
    features = align_features(raw, config, dataset)
    strategy = chosen_strategy(config.transfer, roles_of(dataset, config, None))
    side = fit_side(strategy, dataset, split, raw, features, config)
    found: Gains = {}
    for d, name in enumerate(dataset.names):
        for part, scorer in (("neural", side.neural), ("blend", side.blend)):
            ranking = rank(scorer, dataset, split.test, d, config=config.evaluation, lists=False)
            found[f"{part}@{name}"] = per_query(ranking, [10])["ndcg@10"]
    return found


def against(way: Gains, default: Gains, users: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Means, and the change against the default with its 95 % interval."""
    row: dict[str, Any] = {}
    for key, gain in way.items():
        means, draws = resampled_means(
            np.column_stack([gain, default[key]]), users[key.partition("@")[2]]
        )
        ratios = draws[:, 0, 0] / draws[:, 0, 1] - 1
        row[key] = {
            "ndcg@10": round(float(means[0, 0]), 4),
            "change": round(float(means[0, 0] / means[0, 1] - 1), 3),
            "ci95": [round(float(q), 3) for q in np.quantile(ratios, [0.025, 0.975])],
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--config", type=Path, default=ROOT / "benchmarks" / "configs" / "food-kitchen.toml"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    torch.set_num_threads(1)

    base = Config.load(options.config, overrides=options.set)
    dataset, _ = build_dataset(base)
    split = make_split(dataset, base.split.kind, quantiles=base.split.quantiles)
    encoder = TextEncoder.load(base.language, device="cpu")
    raw = [encoder.encode(domain.items["text"].to_list()) for domain in dataset.domains]
    asked = split.test.position
    domain = dataset.events.domain[asked]
    users = {n: dataset.events.user[asked[domain == d]] for d, n in enumerate(dataset.names)}

    gains: dict[str, Gains] = {}
    for way in dict.fromkeys([DEFAULT, *options.only]):
        each = []
        for seed in options.seeds:
            config = base.override(*WAYS[way], f"seed={seed}")
            mark = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]
            kept = WORK / f"{mark}.npz"
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                aside = kept.with_suffix(".part.npz")
                np.savez(aside, **measure(dataset, split, raw, config))
                aside.replace(kept)
            each.append(dict(np.load(kept)))
        gains[way] = {key: np.mean([one[key] for one in each], axis=0) for key in each[0]}
    table = {way: against(found, gains[DEFAULT], users) for way, found in gains.items()}
    print(json.dumps({"seeds": options.seeds, "against": DEFAULT, "ways": table}, indent=1))


if __name__ == "__main__":
    main()
