"""Speed beside the peers, in one run on the same rows: training and full-ranking evaluation.

    .venv/bin/python benchmarks/peers/run.py

builds the peers' environments under `.peers/` where they are missing, runs every side in turn, and
writes every record and the ratios to `benchmarks/results/peers.json`. Rounds repeat the whole, side
by side, so that a busy moment of the machine does not fall on one side alone; a side's figure is
its median. RecBole's epoch, the longest part, is run once. `--users 300` is a quick look;
`--no-training --systems isthmus recbole` repeats the evaluation alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import environments
from common import Settings, arguments
from rows import write_rows

HERE = Path(__file__).resolve().parent
ROOT = environments.ROOT
WORK = ROOT / "benchmarks" / "work" / "peers"
SCRIPTS = {"isthmus": "ours.py", "rectools": "rectools_sasrec.py", "recbole": "recbole_sasrec.py"}

Record = dict[str, Any]


def measure(system: str, rows: Path, settings: Settings) -> list[Record]:
    """The records of one run of one side, in its own environment."""
    python = Path(sys.executable) if system == "isthmus" else environments.interpreter(system)
    script = HERE / SCRIPTS[system]
    run = subprocess.run(
        [str(python), str(script), *arguments(rows, settings)],
        env={**environments.variables(system), "OMP_NUM_THREADS": str(settings.threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    records = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    for found in records:
        print(json.dumps(found), flush=True)
    return records


def summary(records: list[Record]) -> Record:
    """Each side's median, and ours against the peers'; RecBole evaluates at its best batch."""

    def seconds(system: str, measure: str) -> float | None:
        by_batch: dict[int, list[float]] = {}
        for found in records:
            if (found["system"], found["measure"]) == (system, measure):
                by_batch.setdefault(found["batch"], []).append(found["seconds"])
        return min((median(times) for times in by_batch.values()), default=None)

    def targets_per_second(system: str) -> float | None:
        found = [
            r["targets_per_second"]
            for r in records
            if (r["system"], r["measure"]) == (system, "training")
        ]
        return median(found) if found else None

    def ratio(above: float | None, below: float | None) -> float | None:
        return above / below if above and below else None

    ours, theirs = targets_per_second("isthmus"), targets_per_second("rectools")
    return {
        "training_targets_per_second": {
            "isthmus": ours,
            "rectools": theirs,
            "isthmus_over_rectools": ratio(ours, theirs),
        },
        "epoch_seconds": {
            system: seconds(system, "training") for system in ("isthmus", "rectools", "recbole")
        },
        "evaluation_seconds": {
            "isthmus": seconds("isthmus", "evaluation"),
            "recbole_at_its_best_batch": seconds("recbole", "evaluation"),
            "recbole_over_isthmus": ratio(
                seconds("recbole", "evaluation"), seconds("isthmus", "evaluation")
            ),
            # Counting and metrics for nothing would reach this.
            "states_and_product_alone": seconds("isthmus", "floor"),
            "recbole_over_states_and_product": ratio(
                seconds("recbole", "evaluation"), seconds("isthmus", "floor")
            ),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared/data/amazon-food-kitchen"
    )
    parser.add_argument("--domains", nargs="+", default=["food", "kitchen"])
    parser.add_argument("--users", type=int, help="keep the first so many users")
    parser.add_argument("--systems", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=Settings.epochs, help="warm ones, each round")
    parser.add_argument("--negatives", type=int, default=Settings.negatives)
    parser.add_argument("--threads", type=int, default=Settings.threads)
    parser.add_argument(
        "--no-training", dest="training", action="store_false", help="evaluation alone"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/peers.json")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data}: no such folder. Name the folder of the tables with --data.")
    settings = Settings(epochs=options.epochs, negatives=options.negatives, threads=options.threads)
    rows = WORK / "rows.npz"
    write_rows(options.data, rows, domains=options.domains, users=options.users)
    records = [
        found
        for round_ in range(options.rounds)
        for system in options.systems
        # One epoch of RecBole takes longer than all the rest, and is no ratio of ours.
        for found in measure(
            system,
            rows,
            replace(settings, train=options.training and (round_ == 0 or system != "recbole")),
        )
    ]
    asked = {"users": options.users, "rounds": options.rounds, **asdict(settings)}
    result = {"settings": asked, "summary": summary(records), "records": records}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
