"""What does an update spend its time on, and a refit of the same events? Prints JSON.

    python benchmarks/update_cost.py [--users 2000] [--quick] [--night 30] [--out FILE]

A generated world of books and gear, as in `drift.py`. A model is fitted to the first 60 % of the
time; then the events of one night are learnt by an update, and everything is fitted anew. Process
time on one thread, the best of three updates; the shares come from one more of each under
`cProfile`, which itself costs time, so they are shares and not seconds. `--quick` takes the demo's
settings, with which a refit takes two seconds.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drift import settings_of, world_of
from isthmus import Recommender, TextEncoder
from isthmus.online.arms import fitted_anew, from_scratch, incrementally
from replay_by_time import grown_to

DAY = 86_400.0
STAGES = {
    "training": ("training/loop.py", "train"),
    "of which looking at validation": ("model/learn.py", "validate"),
    "asking the serving network": ("transfer/distillation.py", "teacher_lists"),
    "weighing parts": ("blend/weights.py", "fit_blend"),
    "of which fitting weights": ("blend/weights.py", "fit_weights"),
    "counting co-occurrence": ("baselines/cooccurrence.py", "fit"),
    "counting popularity": ("baselines/popular.py", "fit"),
    "text similarity": ("baselines/content.py", "fit"),
    "setting gates": ("blend/gate.py", "decide"),
    "judging": ("continual/judge.py", "served_gains"),
    "choosing lessons": ("continual/lessons.py", "choose_lessons"),
    "copying networks": ("continual/grow.py", "grown_scorer"),
    "aligning texts": ("alignment/domains.py", "align_features"),
}
"""Where the time of a stage is read: in which file, and of which function, with what it calls."""


def shares(run: Callable[[], Any]) -> dict[str, float]:
    """Part of the time that each stage takes, of those that take any."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(run)
    stats = pstats.Stats(profile)
    whole = stats.total_tt  # type: ignore[attr-defined]
    found = {}
    for stage, (file, name) in STAGES.items():
        spent = sum(
            row[3]
            for (path, _, function), row in stats.stats.items()  # type: ignore[attr-defined]
            if path.endswith(f"isthmus/{file}") and function == name
        )
        if spent >= 0.005 * whole:
            found[stage] = round(spent / whole, 3)
    return found


def process_seconds(run: Callable[[], Any], times: int) -> float:
    """The least of several runs."""
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return round(min(found), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="the demo's settings")
    parser.add_argument("--night", type=float, default=30.0, help="days that an update learns")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    world = world_of(args.users, 0.5, 0)
    config = settings_of(args.quick, 0)
    whole, since = world.dataset, world.config.start + 0.6 * world.config.days * DAY
    first = replace(whole, events=whole.events.keep(whole.events.time < since))
    encoder = TextEncoder.load(config.language)
    raw = [encoder.encode(domain.items["text"].to_list()) for domain in first.domains]
    base: Recommender = fitted_anew(first, raw, config)
    base.config = config.override(*args.set)
    growth = grown_to(whole, since, since + args.night * DAY)
    nobody: NDArray[np.int64] = np.empty(0, np.int64)
    learn = {
        "update": lambda: incrementally(base, growth, nobody),
        "refit": lambda: from_scratch(base, growth, nobody),
    }
    seconds = {
        name: process_seconds(run, 3 if name == "update" else 1) for name, run in learn.items()
    }
    found = {
        "users": args.users,
        "quick": args.quick,
        "events": len(first.events),
        "new_events": len(growth.fresh),
        "process_seconds": seconds,
        "share": round(seconds["update"] / seconds["refit"], 3),
        "stages": {name: shares(run) for name, run in learn.items()},
    }
    text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
