"""What does an update cost beside a refit, and on what does it spend its time? Prints JSON.

    python benchmarks/update_cost.py [--users 2000] [--quick] [--nights 1 7 15 30] [--out FILE]

A generated world of books and gear, as in `drift.py`. A model is fitted to the first half of the
time. Then the events of one night, of each length in days, are learnt by an update; and everything
is fitted anew with those of the shortest night, which is the cheapest refit. Process time on one
thread, of updates the best of three. Where the time goes is told by one more run of each under
`cProfile`, which itself takes time, so that those are shares and not seconds. `--quick` takes the
demo's settings, with which a refit takes two seconds. The base model is kept in
`benchmarks/work/update_cost`.
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
from numpy.typing import NDArray

from drift import settings_of, world_of
from isthmus import Recommender, TextEncoder
from isthmus.data.world import World
from isthmus.online.arms import fitted_anew, from_scratch, incrementally
from isthmus.threads import use_threads
from replay_by_time import grown_to

WORK = Path(__file__).resolve().parent / "work" / "update_cost"
DAY = 86_400.0
KNOWN = 0.5
STAGES = {
    "training": ("training/loop.py", "train"),
    "of which looking at validation": ("model/learn.py", "validate"),
    "asking the serving network": ("transfer/distillation.py", "teacher_lists"),
    "weighing parts": ("blend/weights.py", "fit_blend"),
    "of which fitting weights": ("blend/fitting.py", "fit_weights"),
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


def fitted(args: argparse.Namespace, world: World, since: float) -> Recommender:
    """The model before the night, as it was kept or now."""
    folder = WORK / f"{args.users}{'-quick' if args.quick else ''}"
    if not (folder / "current").is_file():
        config, whole = settings_of(args.quick, 0), world.dataset
        first = replace(whole, events=whole.events.keep(whole.events.time < since))
        encoder = TextEncoder.load(config.language)
        raw = [encoder.encode(domain.items["text"].to_list()) for domain in first.domains]
        fitted_anew(first, raw, config).save(folder)
    base = Recommender.load(folder)
    base.config = base.config.override(*args.set)
    return base


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="the demo's settings")
    parser.add_argument("--nights", type=float, nargs="+", default=[1, 7, 15, 30], help="days")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    use_threads(1)

    world = world_of(args.users, 0.5, 0)
    since = world.config.start + KNOWN * world.config.days * DAY
    base = fitted(args, world, since)
    nobody: NDArray[np.int64] = np.empty(0, np.int64)
    growth = {
        night: grown_to(world.dataset, since, since + night * DAY) for night in sorted(args.nights)
    }
    shortest, longest = min(growth), max(growth)

    def refit() -> object:
        return from_scratch(base, growth[shortest], nobody)

    def update(night: float) -> object:
        return incrementally(base, growth[night], nobody)

    refit_seconds = process_seconds(refit, 1)
    nights = []
    for night, grown in growth.items():
        seconds = process_seconds(lambda n=night: update(n), 3)
        nights.append(
            {
                "days": night,
                "new_events": len(grown.fresh),
                "process_seconds": seconds,
                "share_of_refit": round(seconds / refit_seconds, 3),
            }
        )
    found = {
        "users": args.users,
        "quick": args.quick,
        "set": args.set,
        "events": len(base.dataset.events),
        "refit_process_seconds": refit_seconds,
        "updates": nights,
        "stages": {
            "refit": shares(refit),
            f"update, {longest:g} days": shares(lambda: update(longest)),
            f"update, {shortest:g} days": shares(lambda: update(shortest)),
        },
    }
    text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
