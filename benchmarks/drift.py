"""Does learning every night pay when tastes drift, and is nothing lost when they do not? JSON.

    python benchmarks/drift.py [--drift .5 0] [--seeds 0 1 2] [--users 600] [--out FILE]

Generated worlds of books and gear. A model is fitted to the first 40 % of the time; then traffic
flows, half of the visits past recommendations, with a night every 30 days. Three answerers live in
copies of the world of their own, all with live histories: one keeps its weights (popularity is
counted on), one updates incrementally every night, one is fitted anew every night on everything.
The figure is true-preference click-through, as only a generated world can tell it.

Required over the last third of the stream: incremental above frozen, interval above zero, and at
least 90 % of the nightly refit's gain at 10 % of its compute; without drift no significant loss;
on held-out events of the first period's people at most 3 % less NDCG@10 than before the stream.
Every answerer's stream is kept in `benchmarks/work/drift`; a killed run goes on with what is
missing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus import Config, TextEncoder
from isthmus.cli.demo import QUICK
from isthmus.continual.judge import Gains, served_gains
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, user_hash
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.evaluation.significance import paired
from isthmus.online.arms import Local, fitted_anew
from isthmus.online.simulation import ARMS
from isthmus.online.traffic import Traffic, TrafficConfig, run_traffic

WORK = Path(__file__).resolve().parent / "work" / "drift"
BEGINS, NIGHT = 0.4, 30.0
PROBED = 0.3
"""Share of the first period's people whose last event of it is kept from everybody."""


def one_stream(
    arm: str, drift: float, seed: int, users: int, settings: list[str]
) -> dict[str, Any]:
    """Let one world's traffic flow past one answerer."""
    domains = (DomainSpec(name="books", n_items=400), DomainSpec(name="gear", n_items=300))
    world = generate_world(WorldConfig(n_users=users, seed=seed, drift=drift, domains=domains))
    since = world.config.start + BEGINS * (world.config.end - world.config.start)
    config = Config.model_validate({**QUICK, "seed": seed}).override(*settings)
    whole = world.dataset
    first = replace(whole, events=whole.events.keep(whole.events.time < since))
    probe = probes(first)
    known = replace(first, events=first.events.keep(~np.isin(np.arange(len(first.events)), probe)))
    encoder = TextEncoder.load(config.language)
    raw = [encoder.encode(domain.items["text"].to_list()) for domain in known.domains]
    base = fitted_anew(known, raw, config)
    before = served_gains(base.system.gated, first, Queries(probe), config, cutoff=10)
    answerer = Local(arm, base, ARMS[arm])
    start = time.process_time()
    stream = run_traffic(Traffic(world, TrafficConfig(since, seed=seed)), [answerer], days=NIGHT)
    after = served_gains(
        answerer.recommender.system.gated, first, Queries(probe), config, cutoff=10
    )
    return {
        "events_before": len(known.events),
        "events_after": len(answerer.recommender.dataset.events),
        "nights": [
            {
                "user": day.user.tolist(),
                "expected": np.round(day.expected, 5).tolist(),
                "clicks": int(day.clicks.sum()),
            }
            for day in stream[arm]
        ],
        "learning_seconds": round(sum(answerer.seconds), 2),
        "all_seconds": round(time.process_time() - start, 2),
        "updates": [
            {
                "kind": made.kind,
                "live": bool(made.verdict.no_worse),
                "learnt": made.learnt,
                "replayed": made.replayed,
                "drift": list(made.drift),
                "change": [round(x, 3) for x in made.verdict.relative or ()],
            }
            for made in answerer.progress
            if made.verdict is not None and arm == "incremental"
        ],
        "first_period": kept(before, after),
    }


def probes(first: Dataset) -> NDArray[np.int64]:
    """Positions of events that nobody learns: the last one of some people with a few."""
    offsets = first.events.offsets
    drawn = user_hash(first.user_ids.to_list(), "probe") < PROBED
    return offsets[1:][(np.diff(offsets) >= 4) & drawn] - 1


def kept(before: Gains, after: Gains) -> dict[str, Any]:
    """NDCG@10 on the probes before and after the stream."""
    change = paired(after.value, before.value, before.user)
    return {
        "n": len(before),
        "before": round(float(before.value.mean()), 4),
        "after": round(float(after.value.mean()), 4),
        "relative": [round(x, 4) for x in (change.relative, change.rel_low, change.rel_high)],
    }


def cached(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured before, or now."""
    path = WORK / f"{name}.json"
    if not path.is_file():
        WORK.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".writing")
        aside.write_text(json.dumps(make()))
        aside.replace(path)
    return json.loads(path.read_text())


def last_third(streams: list[dict[str, Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Click-through of every visit, and who visited, pooled over worlds."""
    values, people = [], []
    for world, stream in enumerate(streams):
        nights = stream["nights"][-(len(stream["nights"]) // 3) :]
        values += [value for night in nights for value in night["expected"]]
        people += [world * 1_000_000 + user for night in nights for user in night["user"]]
    return np.array(values), np.array(people, np.int64)


def summed_up(drift: float, arms: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What is required, pooled over the seeds of one drift."""
    through = {arm: last_third(streams) for arm, streams in arms.items()}
    frozen, people = through["frozen"]
    found: dict[str, Any] = {"drift": drift, "visits": len(frozen)}
    found["click_through"] = {arm: round(float(v.mean()), 5) for arm, (v, _) in through.items()}
    for arm, (value, _) in through.items():
        if arm != "frozen":
            gain = paired(value, frozen, people)
            found[f"{arm}_against_frozen"] = [
                round(x, 4) for x in (gain.relative, gain.rel_low, gain.rel_high)
            ]
    seconds = {
        arm: round(sum(s["learning_seconds"] for s in streams), 1) for arm, streams in arms.items()
    }
    found["learning_seconds"] = seconds
    if "nightly" in arms:
        gained = found["click_through"]["nightly"] - found["click_through"]["frozen"]
        ours = found["click_through"]["incremental"] - found["click_through"]["frozen"]
        found["share_of_nightly_gain"] = round(ours / gained, 3) if gained > 0 else None
        found["share_of_nightly_compute"] = round(seconds["incremental"] / seconds["nightly"], 3)
    found["first_period"] = [stream["first_period"] for stream in arms["incremental"]]
    found["by_night"] = {
        arm: [
            round(float(np.mean(np.concatenate([s["nights"][n]["expected"] for s in streams]))), 4)
            for n in range(len(streams[0]["nights"]))
        ]
        for arm, streams in arms.items()
    }
    found["updates"] = [stream["updates"] for stream in arms["incremental"]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--drift", type=float, nargs="+", default=[0.5, 0.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    rows = []
    for drift in args.drift:
        arms: dict[str, list[dict[str, Any]]] = {}
        for arm in ARMS if drift else ("frozen", "incremental"):
            settings = args.set if arm == "incremental" else []
            name = "-".join([f"{arm}-{drift}-{args.users}", *settings]).replace("/", "-")
            arms[arm] = [
                cached(
                    f"{name}-{seed}",
                    lambda a=arm, d=drift, s=seed, o=settings: one_stream(a, d, s, args.users, o),
                )
                for seed in args.seeds
            ]
        rows.append(summed_up(drift, arms))
    found = {"users": args.users, "seeds": args.seeds, "settings": args.set, "by_drift": rows}
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
