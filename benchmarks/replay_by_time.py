"""Food and kitchenware replayed by time: is a model that learns better than one that stands still?

    python benchmarks/replay_by_time.py [--from .5] [--people .5] [--steps N] [--set KEY=VALUE]

A model is fitted to the first half of the events by time; the other half comes month by month, or
in `--steps` of about equal numbers of events, cut between days. Each step is first asked, event by
event with the live history, and then learnt (prequential). For both, what is popular is counted
from day to day, as a service does, and a question sees the days before its own. `frozen` keeps its
weights; `incremental` is updated after every step, its challenger going live only where it is no
worse. Prints NDCG@10 and @100 over all steps on a share of the people, drawn by a hash, the gain
with its interval over these, and each step's figures, as JSON.

Required: incremental at least as good as frozen on NDCG@10, interval above zero. What is measured
is kept step by step in `benchmarks/work/replay`, by settings alone; a killed run goes on. Remove
the folder after a change of code. Real data are read from `../shared/data`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus import Config, Recommender, TextEncoder, build_dataset
from isthmus.continual.grow import up_to_date
from isthmus.continual.judge import Gains, gains_at
from isthmus.data.dataset import Dataset
from isthmus.data.growth import Growth
from isthmus.data.splits import Queries, user_hash
from isthmus.evaluation.significance import paired
from isthmus.online.arms import counting_only, fitted_anew, incrementally
from isthmus.scoring import Scorer
from isthmus.threads import use_threads

HERE = Path(__file__).resolve().parent
WORK = HERE / "work" / "replay"
ARMS = ("frozen", "incremental")
CUTOFFS = (10, 100)
"""Of the NDCG; a challenger is judged by the second."""


def until(dataset: Dataset, moment: float) -> Dataset:
    """The snapshot with the events before a moment."""
    return replace(dataset, events=dataset.events.keep(dataset.events.time < moment))


def grown_to(dataset: Dataset, before: float, after: float) -> Growth:
    """From the events before one moment to those before another."""
    taken = dataset.events.time < after
    old = (dataset.events.time < before)[taken]
    return Growth(until(dataset, after), np.flatnonzero(old), np.flatnonzero(~old))


def moments(dataset: Dataset, start: float, steps: int | None) -> list[float]:
    """Bounds of the steps: the beginnings of months, or days that leave them equally many events.

    Args:
        dataset: with times.
        start: share of the events before the first step; months begin with the one it falls in.
        steps: how many; None: months.
    """
    time = dataset.events.time
    shares = np.linspace(start, 1, (steps or 1) + 1)[:-1]
    cuts = np.unique(np.quantile(time, shares, method="higher"))
    last = float(time.max()) + 1
    if steps is None:
        month = np.datetime64(int(cuts[0]), "s").astype("datetime64[M]")
        months = np.arange(month, np.datetime64(int(last), "s").astype("datetime64[M]") + 1)
        cuts = months.astype("datetime64[s]").astype(np.float64)
    return [*cuts.tolist(), last]


def asked(
    scorer: Scorer, dataset: Dataset, start: float, people: float, config: Config
) -> list[Gains]:
    """NDCG on events from a moment on, of a share of the people with something before.

    Returns:
        One for each of `CUTOFFS`.
    """
    events = dataset.events
    drawn = user_hash(dataset.user_ids.to_list(), "replayed") < people
    behind = np.arange(len(events)) > events.offsets[events.user]
    position = np.flatnonzero((events.time >= start) & behind & drawn[events.user])
    return gains_at(scorer, dataset, Queries(position), config, CUTOFFS)


def step(
    number: int,
    bounds: list[float],
    whole: Dataset,
    arms: dict[str, Recommender],
    people: float,
    folder: Path,
) -> dict[str, Recommender]:
    """Ask one step, learn it, and keep what came of it."""
    start, end = bounds[number], bounds[number + 1]
    growth = grown_to(whole, start, end)
    found: dict[str, Any] = {"start": start, "end": end, "events": len(growth.fresh)}
    for name, recommender in arms.items():
        counting = up_to_date(recommender.system, growth.dataset)
        found_at = asked(counting.gated, growth.dataset, start, people, recommender.config)
        for cutoff, gains in zip(CUTOFFS, found_at, strict=True):
            found[f"{name}@{cutoff}"] = np.round(gains.value, 5).tolist()
            found["user"], found["domain"] = gains.user.tolist(), gains.domain.tolist()
    nobody: NDArray[np.int64] = np.empty(0, np.int64)
    began = time.process_time()
    incremental, made = incrementally(arms["incremental"], growth, nobody)
    found["seconds"] = round(time.process_time() - began, 1)
    verdict = made.verdict
    found["update"] = {
        "kind": made.kind,
        "live": bool(verdict.no_worse),
        "learnt": made.learnt,
        "replayed": made.replayed,
        "drift": list(made.drift),
        "change": [round(x, 4) for x in verdict.relative or ()],
        "questions": verdict.n_questions,
    }
    arms = {
        "frozen": counting_only(arms["frozen"], growth, nobody)[0],
        "incremental": incremental,
    }
    for name, recommender in arms.items():
        recommender.save(folder / name)
    aside = folder / "step.writing"
    aside.write_text(json.dumps(found))
    aside.replace(folder / f"step-{number:02d}.json")
    return arms


def summed_up(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Figures over all steps, and each step's."""
    answers = [f"{arm}@{cutoff}" for arm in ARMS for cutoff in CUTOFFS]
    pooled = {
        key: np.concatenate([row[key] for row in rows]) for key in (*answers, "user", "domain")
    }
    found: dict[str, Any] = {"questions": len(pooled["user"])}
    groups = {"all": np.ones(len(pooled["user"]), bool)}
    groups |= {name: pooled["domain"] == d for d, name in enumerate(names)}
    for name, mask in groups.items():
        people = pooled["user"][mask].astype(int)
        found[name] = {}
        for cutoff in CUTOFFS:
            values = {arm: pooled[f"{arm}@{cutoff}"][mask] for arm in ARMS}
            gain = paired(values["incremental"], values["frozen"], people)
            found[name][f"ndcg@{cutoff}"] = {
                arm: round(float(value.mean()), 5) for arm, value in values.items()
            } | {"gain": [round(x, 4) for x in (gain.relative, gain.rel_low, gain.rel_high)]}
    found["steps"] = [
        {
            "from": time.strftime("%Y-%m-%d", time.gmtime(row["start"])),
            "events": row["events"],
            "questions": len(row["user"]),
            **{
                f"ndcg@{cutoff}": {
                    arm: round(float(np.mean(row[f"{arm}@{cutoff}"])), 5) for arm in ARMS
                }
                for cutoff in CUTOFFS
            },
            "update": row["update"],
            "seconds": row["seconds"],
        }
        for row in rows
    ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, help="of equally many events; not given: months")
    parser.add_argument("--from", dest="start", type=float, default=0.5)
    parser.add_argument("--people", type=float, default=0.5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--base-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--config", type=Path, default=HERE / "configs" / "food-kitchen.toml")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    use_threads(1)

    base_config = Config.load(args.config, overrides=args.base_set)
    config = base_config.override(*args.set)
    whole, _ = build_dataset(base_config)
    bounds = moments(whole, args.start, args.steps)
    base_folder = WORK / "-".join([f"base-{bounds[0]:.0f}", *args.base_set])
    folder = WORK / "-".join(
        [f"{args.start}-{args.steps or 'months'}-{args.people}", *args.base_set, *args.set]
    )
    if not (base_folder / "current").is_file():
        first = until(whole, bounds[0])
        encoder = TextEncoder.load(base_config.language)
        raw = [encoder.encode(domain.items["text"].to_list()) for domain in first.domains]
        fitted_anew(first, raw, base_config).save(base_folder)
    done = len(list(folder.glob("step-*.json")))
    arms = {name: Recommender.load(folder / name if done else base_folder) for name in ARMS}
    arms["incremental"].config = config
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(done, len(bounds) - 1):
        arms = step(number, bounds, whole, arms, args.people, folder)
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("step-*.json"))]
    found = {"settings": args.set, "base_settings": args.base_set} | summed_up(rows, whole.names)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
