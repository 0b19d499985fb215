"""What a new domain gets before and after its first events.

    python benchmarks/new_domain.py [--food-kitchen FOLDER [--opens 0.8]] [--users N]
        [--seeds 0,1,2,3,4] [--events 10,50,100,200,1000] [--set KEY=VALUE …] [--out FILE.json]

A model is fitted without the domain: on a generated world without gear (books and films stay), or
on Amazon food without kitchenware, which opens when `--opens` of its events have passed: what sold
in its first years is no longer what sells at the end. The domain's catalogue then joins the model,
and its first N events by time are given. Then all systems are asked two sets of questions, each
after what the person did elsewhere and those of the N events that are theirs; everything else that
happened in the domain is hidden:

- what comes next: the 500 events of the domain that follow the N;
- what comes at the end: the last event of everybody whose last event of all lies in the domain.

Full ranking; figures are NDCG@10 and HR@10. A figure is printed as soon as it is known, all of them
at the end as JSON; a seed that `--out` holds already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.baselines.content import ContentKNN
from isthmus.baselines.popular import Popular
from isthmus.config import Config
from isthmus.data.build import dataset_from_frames
from isthmus.data.dataset import Dataset
from isthmus.data.frames import DomainFrames
from isthmus.data.splits import Queries, leave_one_out
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.recommender import Recommender
from isthmus.scoring import Requests, Scorer, Scores, pick

WORLD = {
    "model": {"dim": 32, "layers": 1},
    "training": {"epochs": 12, "batch_events": 512, "learning_rate": 0.004, "threads": 1},
    "split": {"kind": "leave-one-out"},
    "evaluation": {"cutoffs": [10]},
}
"""Settings of the demo, with the split that the questions follow."""

FOOD_KITCHEN = {
    "training": {"epochs": 12, "threads": 1},
    "split": {"kind": "leave-one-out"},
    "evaluation": {"cutoffs": [10]},
}

FIRST = "fit of the others"
NEXT = 500
"""Events that are asked of as what comes next."""

METRICS = [f"{when} {metric}" for when in ("next", "end") for metric in ("ndcg@10", "hr@10")]

Figures = dict[str, float]


class Random:
    """Scores drawn once for all."""

    name = "random"

    def __init__(self, n_items: int, seed: int) -> None:
        self.order = np.random.default_rng(seed).random(n_items, np.float32)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """See `Scorer`."""
        return Scores(pick(np.tile(self.order, (len(requests), 1)), items))


@dataclass(frozen=True)
class Case:
    """A domain that is kept out.

    Attributes:
        name: of the domain.
        old: the tables of the others when it opens.
        new: its own, from then on.
        config: how to fit.
        later: the tables of the others, with all that people do there afterwards.
    """

    name: str
    old: dict[str, DomainFrames]
    new: DomainFrames
    config: Config
    later: dict[str, DomainFrames]

    @property
    def log(self) -> pl.DataFrame:
        """Its events."""
        assert self.new.events is not None
        return self.new.events


def world(seed: int, users: int, transfer: float, overrides: list[str]) -> Case:
    """Books and films, and gear that joins them."""
    domains = tuple(DomainSpec(name=name) for name in ("books", "films", "gear"))
    made = generate_world(WorldConfig(n_users=users, seed=seed, domains=domains, transfer=transfer))
    frames = dict(made.frames)
    new = frames.pop("gear")
    config = Config.model_validate(WORLD).override(*overrides, f"seed={seed}")
    return Case("gear", frames, new, config, frames)


def food_kitchen(folder: Path, opens: float, seed: int, overrides: list[str]) -> Case:
    """Food, and kitchenware that joins it late; ties in time are broken at random."""
    frames = {}
    for name in ("food", "kitchen"):
        events = pl.read_parquet(folder / f"{name}.interactions.parquet")
        items = pl.read_parquet(folder / f"{name}.items.parquet")
        events = events.select("user_id", "item_id", time="timestamp")
        frames[name] = DomainFrames(events, items, text=("title",))
    new, food = frames.pop("kitchen"), frames["food"]
    assert new.events is not None
    assert food.events is not None
    moment = new.events["time"].quantile(opens, "higher")
    young = replace(new, events=new.events.filter(pl.col("time") >= moment))
    old = {"food": replace(food, events=food.events.filter(pl.col("time") < moment))}
    config = Config.model_validate(FOOD_KITCHEN).override(*overrides, f"seed={seed}")
    return Case("kitchen", old, young, config, frames)


class Judge:
    """The questions, and how a system answers them at one number of known events."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.full = dataset_from_frames({**case.later, case.name: case.new})[0]
        self.domain = len(self.full.domains) - 1
        self.own = self.full.events.domain == self.domain
        self.last = leave_one_out(self.full).test

    def keep_those_after(self, known: Dataset) -> None:
        """Ask of no event at the end that `known` holds."""
        told = self._told(known)
        self.last = self.last.where(~told[self.last.position])

    def ask(self, scorer: Scorer, known: Dataset | None) -> Figures:
        """Figures of both sets, with those events of the domain as history that `known` holds."""
        hidden = self.own & ~self._told(known)
        to_come = np.flatnonzero(hidden)
        in_time = np.argsort(self.full.events.time[to_come], kind="stable")
        coming = Queries(np.sort(to_come[in_time[:NEXT]]))
        found: Figures = {}
        for name, asked in {"next": coming, "end": self.last}.items():
            ranking = rank(
                scorer,
                self.full,
                asked,
                self.domain,
                config=self.case.config.evaluation,
                lists=False,
                hidden=hidden,
            )
            values = per_query(ranking, [10])
            found |= {
                f"{name} ndcg@10": round(float(values["ndcg@10"].mean()), 5),
                f"{name} hr@10": round(float(values["hit_rate@10"].mean()), 5),
                f"{name} n": len(ranking.position),
            }
        return found

    def _told(self, known: Dataset | None) -> NDArray[np.bool_]:
        told = np.zeros(len(self.own), bool)
        if known is None:
            return told
        for mine, theirs in zip(self.full.domains, known.domains, strict=True):
            assert mine.items["item_id"].equals(theirs.items["item_id"]), "one numbering"
        keys = ["user_id", "item_id", "time"]
        mine = _facts(self.full, self.domain).with_row_index("row")
        both = mine.join(_facts(known, self.domain), on=keys, how="semi")
        told[np.flatnonzero(self.own)[both["row"].to_numpy()]] = True
        return told


def _facts(dataset: Dataset, domain: int) -> pl.DataFrame:
    """Person, item and time of every event of a domain."""
    events = dataset.events.only(domain)
    return pl.DataFrame(
        {
            "user_id": dataset.user_ids.gather(events.user),
            "item_id": dataset.domains[domain].items["item_id"].gather(events.item),
            "time": events.time,
        }
    )


def measured(case: Case, counts: list[int], seed: int) -> Iterator[tuple[str, Figures]]:
    """Figures of every system, as soon as they are there."""
    judge = Judge(case)
    fitted, seconds = _timed(lambda: Recommender.fit(dataset_from_frames(case.old)[0], case.config))
    yield FIRST, {"seconds": seconds}
    catalogue = DomainFrames(items=case.new.items, text=case.new.text)
    joined, join_seconds = _timed(lambda: fitted.add_domain(case.name, catalogue))
    d = judge.domain

    def adapted(n: int) -> tuple[Recommender, float]:
        return _timed(lambda: joined.adapt_domain(case.name, DomainFrames(case.log), limit=n))

    most = adapted(counts[-1])
    judge.keep_those_after(most[0].dataset)
    yield "random", judge.ask(Random(judge.full.domains[d].n_items, seed), None)
    text = ContentKNN.fit(joined.dataset, joined.dataset.events, joined.raw)
    yield "text similarity alone, 0", judge.ask(text, None)
    yield "add_domain, 0", judge.ask(joined.system.gated, None) | {"seconds": join_seconds}
    yield "its neural part, 0", judge.ask(joined.system.joined[d].arrived.neural, None)
    for n in counts:
        grown, seconds = most if n == counts[-1] else adapted(n)
        known, gate = grown.dataset, grown.system.gates[d]
        yield f"popularity, {n}", judge.ask(Popular.fit(known, known.events.only(d)), known)
        yield f"text similarity alone, {n}", judge.ask(text, known)
        yield f"add_domain, {n} as history", judge.ask(joined.system.gated, known)
        served = judge.ask(grown.system.gated, known)
        yield f"adapt_domain, {n}", served | {"seconds": seconds, "gate": round(gate.weight, 3)}
        print(f"    {gate.reason}", flush=True)
        if (side := grown.system.joined[d].adapted) is not None:
            yield f"adapt_domain without its gate, {n}", judge.ask(side.blend, known)
            yield f"its neural part, {n}", judge.ask(side.neural, known)


def _timed(make: Callable[[], Recommender]) -> tuple[Recommender, float]:
    began = time.perf_counter()
    return make(), round(time.perf_counter() - began, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--food-kitchen", type=Path, metavar="FOLDER", help="instead of a world")
    parser.add_argument(
        "--opens", type=float, default=0.8, help="share of kitchen events before it opens, dropped"
    )
    parser.add_argument("--users", type=int, default=2000, help="of the world")
    parser.add_argument("--transfer", type=float, default=1.0, help="of the world")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--events", default="10,50,100,200,1000")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    counts = sorted(int(n) for n in options.events.split(","))
    found: dict[str, dict[str, Figures]] = {}
    if options.out and options.out.is_file():
        found = json.loads(options.out.read_text())["figures"]
    for seed in options.seeds.split(","):
        if seed in found.get(FIRST, {}):
            continue
        if options.food_kitchen:
            case = food_kitchen(options.food_kitchen, options.opens, int(seed), options.set)
        else:
            case = world(int(seed), options.users, options.transfer, options.set)
        for system, figures in measured(case, counts, int(seed)):
            print(seed, system, json.dumps(figures), flush=True)
            found.setdefault(system, {})[seed] = figures
        if options.out:
            options.out.write_text(json.dumps(_document(options, found), indent=1) + "\n")
    print(json.dumps(_document(options, found), indent=1))


def _document(options: argparse.Namespace, found: dict[str, dict[str, Figures]]) -> dict[str, Any]:
    """Means over the seeds, and every seed's figures."""
    means = {
        system: {
            metric: round(float(np.mean([figures[metric] for figures in by_seed.values()])), 4)
            for metric in METRICS
        }
        for system, by_seed in found.items()
        if all(METRICS[0] in figures for figures in by_seed.values())
    }
    asked = {k: str(v) for k, v in vars(options).items() if k not in ("out", "food_kitchen")}
    asked["data"] = "food-kitchen" if options.food_kitchen else "world"
    return {"options": asked, "means": means, "figures": found}


if __name__ == "__main__":
    main()
