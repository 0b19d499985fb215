"""Kill a fit at random moments, resume it, and compare with one that was left alone; prints JSON.

    python benchmarks/kill_resume.py [--kills 10] [--users 1000] [--epochs 12]
        [--strategy distil] [--out FILE.json]

A child process fits both sides of a small generated world and writes a checkpoint at the end of
every epoch. SIGKILL strikes at random moments after it began; every checkpoint folder must be
loadable then. The next child goes on in the same folders. A child that ends first is compared with
the uninterrupted fit, test metrics and gates within 1e-6, and a new fit is begun until all kills
are done. Exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMIT_DIFFERENCE = 1e-6
READY = "fitting"


def fit(folder: Path, users: int, epochs: int, strategy: str) -> None:
    """The child: fit in `folder`, and write its figures there at the very end."""
    import torch

    from isthmus.config import Config
    from isthmus.data.features import ItemFeatures
    from isthmus.data.splits import global_cut
    from isthmus.data.world import DomainSpec, WorldConfig, generate_world
    from isthmus.evaluation.metrics import per_query
    from isthmus.evaluation.ranks import rank
    from isthmus.transfer.system import fit_system

    torch.set_num_threads(1)
    domains = (DomainSpec(name="books", n_items=200), DomainSpec(name="gear", n_items=150))
    dataset = generate_world(WorldConfig(n_users=users, n_themes=8, domains=domains)).dataset
    rng = np.random.default_rng(0)
    vectors = [
        ItemFeatures(rng.normal(size=(d.n_items, 24)).astype(np.float32), np.ones(d.n_items, bool))
        for d in dataset.domains
    ]
    config = Config.model_validate(
        {
            "model": {"dim": 32, "layers": 1, "max_length": 30},
            "training": {
                "epochs": epochs,
                "patience": epochs,
                "evaluate_every": 1,
                "checkpoint_seconds": 0,
                "device": "cpu",
            },
            "evaluation": {"cutoffs": [10]},
            "language": {"whiten_dim": 16},
            "transfer": {"strategy": strategy},
        }
    )
    split = global_cut(dataset)
    print(READY, flush=True)
    started = time.perf_counter()
    system = fit_system(dataset, split, vectors, config, folder=folder)
    figures = {"seconds": time.perf_counter() - started}
    for domain, name in enumerate(dataset.names):
        ranking = rank(system.gated, dataset, split.test, domain, config=config.evaluation)
        for metric, values in per_query(ranking, [10]).items():
            figures[f"{name} {metric}"] = float(values.mean())
        figures[f"{name} gate"] = system.gates[domain].weight
    (folder / "figures.json").write_text(json.dumps(figures))


def start(folder: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """A child that has begun to fit."""
    size = [str(options.users), str(options.epochs), options.strategy]
    child = subprocess.Popen(
        [sys.executable, __file__, "--fit", str(folder), *size], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    while (line := child.stdout.readline()).strip() != READY:
        if not line:
            raise SystemExit(f"the fit ended with {child.wait()} before it began")
    return child


def figures(folder: Path, child: subprocess.Popen[str]) -> dict[str, float]:
    """What a child that was left alone has found."""
    if child.wait():
        raise SystemExit(f"the fit ended with {child.returncode}")
    found: dict[str, float] = json.loads((folder / "figures.json").read_text())
    return found


def epochs_kept(folder: Path) -> int:
    """Epochs in the checkpoints of a killed fit, every one of which must load."""
    from isthmus.training.checkpoint import read_folder
    from isthmus.training.versions import never_finished

    stages = [stage for stage in (folder / "checkpoints").glob("*") if not never_finished(stage)]
    return sum(len(read_folder(stage, kind="training").meta["log"]["epochs"]) for stage in stages)


def difference(a: dict[str, float], b: dict[str, float]) -> float:
    """Largest difference of any figure but the seconds."""
    return max(abs(a[name] - b[name]) for name in a if name != "seconds")


def main() -> None:
    if sys.argv[1:2] == ["--fit"]:
        fit(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--strategy", default="joint", help="of the transferred side")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    rng = np.random.default_rng(options.seed)
    kills: list[dict[str, float]] = []
    differences: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "whole")
        whole.mkdir()
        expected = figures(whole, start(whole, options))
        folder = Path(scratch, "killed-0")
        folder.mkdir()
        ended = False
        # Not until there are figures: a fit can be killed after it has written them.
        while len(kills) < options.kills or not ended:
            child, ended = start(folder, options), False
            if len(kills) < options.kills:
                after = float(rng.uniform(0, expected["seconds"]))
                try:
                    child.wait(timeout=after)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                    kept = epochs_kept(folder)
                    kills.append({"after_seconds": round(after, 3), "epochs_kept": kept})
                    continue
            differences.append(difference(expected, figures(folder, child)))
            ended = True
            if len(kills) < options.kills:
                folder = Path(scratch, f"killed-{len(differences)}")
                folder.mkdir()
    found = {
        "kills": kills,
        "fits_ended": len(differences),
        "differences": differences,
        "uninterrupted": expected,
        "largest_difference": max(differences),
        "limit_difference": LIMIT_DIFFERENCE,
        "within_limit": max(differences) <= LIMIT_DIFFERENCE,
    }
    text = json.dumps(found, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    if not found["within_limit"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
