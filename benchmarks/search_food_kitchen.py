"""A search on Food–Kitchen, killed midway, and its best settings held against the configured ones.

    python benchmarks/search_food_kitchen.py [--trials N] [--seeds 1 2 3] [--workers N] [--out FILE]

Food–Kitchen under the global cut. The search is killed by SIGKILL when half of the trials are
finished, and begun again; no finished trial may be lost. Then both configurations are fitted with
fresh seeds, and asked the test questions once: the transferred blend's NDCG@10 by domain, the
difference with its interval. Reported either way: a search need not win. Hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus import Config, Recommender, build_dataset
from isthmus.evaluation.significance import paired
from isthmus.evaluation.slices import ALL

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "configs" / "food-kitchen.toml"
SYSTEM = "transferred"


def finished(study: Path) -> dict[int, float]:
    """Figure of every trial on disk that ran to its end or was pruned, by its number."""
    if not study.exists():
        return {}
    with sqlite3.connect(study) as read:
        try:
            rows = read.execute(
                "select t.number, v.value from trials t join trial_values v using (trial_id) "
                "where t.state in ('COMPLETE', 'PRUNED')"
            ).fetchall()
        except sqlite3.OperationalError:
            return {}
    return dict(rows)


def killed_midway(command: list[str], study: Path, trials: int) -> dict[str, Any]:
    """Run the search, kill it at half, run it again to the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while len(finished(study)) < trials // 2:
        if process.poll() is not None:
            raise SystemExit(f"the search ended with {process.returncode} before it was killed")
        time.sleep(1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = finished(study)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = finished(study)
    return {
        "finished_when_killed": len(before),
        "lost": sum(after.get(number) != value for number, value in before.items()),
        "search": json.loads(done.stdout),
    }


def confirmed(configs: dict[str, Config], seeds: list[int]) -> dict[str, Any]:
    """Test NDCG@10 of each configuration with fresh seeds, and what the best has over the usual."""
    dataset, _ = build_dataset(configs["default"])
    values: dict[str, dict[str, list[Any]]] = {name: {} for name in configs}
    users = {}
    for name, config in configs.items():
        for seed in seeds:
            # No target: the target-only sides and the gates have no part in this.
            recommender = Recommender.fit(dataset, config.override(f"seed={seed}"), targets=[])
            found = recommender.evaluate(systems={SYSTEM: recommender.system.transferred.blend})
            for domain, systems in found.items():
                rows = systems[SYSTEM].slices[ALL]
                values[name].setdefault(domain, []).append(systems[SYSTEM].values["ndcg@10"][rows])
                users[domain] = systems[SYSTEM].user[rows]
    return {
        domain: {
            **{name: round(float(np.mean(values[name][domain])), 4) for name in configs},
            "best_over_default": vars_of(
                paired(
                    np.stack(values["best"][domain]),
                    np.stack(values["default"][domain]),
                    users[domain],
                )
            ),
        }
        for domain in users
    }


def vars_of(found: Any) -> dict[str, float]:
    return {key: round(value, 4) for key, value in found._asdict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=HERE / "work" / "search")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    settings = ["split.kind=global", "training.threads=1"]
    usual = Config.load(args.config, overrides=settings)
    command = [sys.executable, "-m", "isthmus", "search", "--config", str(args.config)]
    command += ["--trials", str(args.trials), "--workers", str(args.workers), "--json"]
    command += ["--runs", str(args.runs), *(word for s in settings for word in ("--set", s))]
    folder = args.runs / usual.name / "search"
    start = time.perf_counter()
    kill = killed_midway(command, folder / "study.db", args.trials)
    searched = time.perf_counter() - start
    best = Config.load(folder / "best.toml")
    found = {
        "trials": len(kill["search"]["trials"]),
        "pruned": sum(t["state"] == "pruned" for t in kill["search"]["trials"]),
        "finished_when_killed": kill["finished_when_killed"],
        "lost": kill["lost"],
        "importance": kill["search"]["importance"],
        "test_ndcg@10": confirmed({"default": usual, "best": best}, args.seeds),
        "seeds": args.seeds,
        "seconds": {"search": round(searched), "all": round(time.perf_counter() - start)},
    }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
