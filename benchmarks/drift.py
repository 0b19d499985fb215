"""Does learning every night pay when tastes drift, and is nothing lost when they do not? JSON.

    python benchmarks/drift.py [--drift .5 0] [--seeds 0 1] [--users 2000] [--night 30] [--quick]
                               [--set KEY=VALUE] [--out FILE]

Generated worlds of books and gear. A model is fitted to the first 40 % of the time; then traffic
flows, half of the visits past recommendations, with a night every 30 days. Three answerers live in
copies of the world of their own, all with live histories: one keeps its weights (popularity is
counted on), one updates incrementally every night, one is fitted anew every night on everything.
The figure is true-preference click-through, as only a generated world can tell it.

Models are as the library makes them when nothing is configured, and the worlds large enough for
that: how an update compares with a refit depends on both, since a refit goes over all that was ever
seen until it has converged, and what every learning costs besides does not grow. `--quick` takes
the demo's settings; with 600 people a refit then takes two seconds.

Required over the last third of the stream: incremental above frozen, interval above zero, and at
least 90 % of the nightly refit's gain at 10 % of its compute; without drift no significant loss.
And what was known is kept: at most 3 % less than before the stream on the first period's people.
Two figures tell, both about questions as they were asked at the end of that period: click-through
by the tastes of then, of everybody with a few events (`as_of_then`), which only a generated world
can tell and which has little noise; and NDCG on events that were kept from everybody (`probes`).

Base models and every answerer's stream are kept in `benchmarks/work/drift`, by settings alone; a
killed run goes on with what is missing. Remove the folder after a change of code.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus import Config, Recommender, TextEncoder
from isthmus.cli.demo import QUICK
from isthmus.continual.judge import served_gains
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, user_hash
from isthmus.data.world import DomainSpec, World, WorldConfig, generate_world
from isthmus.evaluation.significance import paired
from isthmus.online.arms import Local, fitted_anew
from isthmus.online.simulation import ARMS
from isthmus.online.traffic import Traffic, TrafficConfig, Visit, run_traffic
from isthmus.threads import use_threads

WORK = Path(__file__).resolve().parent / "work" / "drift"
BEGINS = 0.4
PROBED = 0.5
"""Share of the first period's people whose last event of it is kept from everybody."""
FEW = 4
"""Events of the first period with which somebody's knowledge is asked for again."""
ASPECTS = ("as_of_then", "ndcg@10", "ndcg@100")
"""Ways to ask what is still known of the first period."""


def world_of(users: int, drift: float, seed: int) -> World:
    """A world of books and gear; its catalogues grow with it up to their usual sizes."""
    sizes = {"books": min(800, 400 * users // 600), "gear": min(500, 300 * users // 600)}
    domains = tuple(DomainSpec(name=name, n_items=size) for name, size in sizes.items())
    return generate_world(WorldConfig(n_users=users, seed=seed, drift=drift, domains=domains))


def settings_of(quick: bool, seed: int) -> Config:
    """The demo's settings, or the library's own."""
    given = QUICK if quick else {"training": {"threads": 1}}
    return Config.model_validate({**given, "seed": seed})


def one_stream(
    arm: str, world: World, base: Recommender, first: Dataset, night: float, settings: Sequence[str]
) -> dict[str, Any]:
    """Let one world's traffic flow past one answerer that begins as `base`."""
    seed = world.config.seed
    base.config = base.config.override(*settings)
    traffic = Traffic(world, TrafficConfig(beginning(world), seed=seed))
    before = known(base, base, first, traffic)
    answerer = Local(arm, base, ARMS[arm])
    stream = run_traffic(traffic, [answerer], days=night)
    after = known(answerer.recommender, base, first, traffic)
    return {
        "events_before": len(base.dataset.events),
        "events_after": len(answerer.recommender.dataset.events),
        "nights": [
            {
                "user": day.user.tolist(),
                "expected": np.round(day.expected, 5).tolist(),
                "clicks": int(day.clicks.sum()),
            }
            for day in stream[arm]
        ],
        "learning_seconds": np.round(answerer.seconds, 3).tolist(),
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
        "first_period": {
            name: {"user": user.tolist(), "before": value.tolist(), "after": later.tolist()}
            for name, (user, value), (_, later) in zip(ASPECTS, before, after, strict=True)
        },
    }


def beginning(world: World) -> float:
    """When the first period ends and traffic begins."""
    return world.config.start + BEGINS * (world.config.end - world.config.start)


def first_period(world: World) -> tuple[Dataset, Dataset]:
    """All events of the first period, and those that are not kept from everybody."""
    whole = world.dataset
    first = replace(whole, events=whole.events.keep(whole.events.time < beginning(world)))
    hidden = np.isin(np.arange(len(first.events)), probes(first))
    return first, replace(first, events=first.events.keep(~hidden))


def probes(first: Dataset) -> NDArray[np.int64]:
    """Positions of events that nobody learns: the last one of some people with a few."""
    offsets = first.events.offsets
    drawn = user_hash(first.user_ids.to_list(), "probe") < PROBED
    return offsets[1:][(np.diff(offsets) >= FEW) & drawn] - 1


def known(
    answers: Recommender, base: Recommender, first: Dataset, traffic: Traffic
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Who was asked about the first period, and the figure of each question, by aspect.

    Histories are those of the end of the period, whatever has happened since.
    """
    scorer, config = answers.system.gated, base.config
    then = Recommender(base.dataset, config, base.split, base.raw, answers.system)
    asked = Local("then", then)
    since = traffic.config.since
    for domain, items in traffic.released(since).items():
        asked.release(domain, items)
    events = base.dataset.events
    visits = [
        Visit(base.dataset.user_ids[row], base.dataset.names[d], since)
        for row in np.flatnonzero(np.diff(events.offsets) >= FEW).tolist()
        for d in np.unique(events.domain[events.offsets[row] : events.offsets[row + 1]]).tolist()
    ]
    liked, _ = traffic.shown(visits, asked.answer(visits, traffic.config.k))
    people = np.array([traffic.row_of(visit) for visit in visits], np.int64)
    found = [(people, np.round(liked, 5))]
    for cutoff in (10, 100):
        gains = served_gains(scorer, first, Queries(probes(first)), config, cutoff=cutoff)
        found.append((gains.user, np.round(gains.value, 5)))
    return found


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


def kept(streams: list[dict[str, Any]]) -> dict[str, Any]:
    """What is still known of the first period after the stream, pooled over worlds."""
    found = {}
    for aspect in ASPECTS:
        asked = [stream["first_period"][aspect] for stream in streams]
        before, after = (np.concatenate([a[when] for a in asked]) for when in ("before", "after"))
        people = np.concatenate([n * 1_000_000 + np.array(a["user"]) for n, a in enumerate(asked)])
        found[aspect] = {
            "questions": len(people),
            "before": round(float(before.mean()), 5),
            "after": round(float(after.mean()), 5),
            "change": relative(after, before, people.astype(np.int64)),
        }
    return found


def relative(
    value: NDArray[np.float64], against: NDArray[np.float64], people: NDArray[np.int64]
) -> list[float]:
    """Relative change with its 95 % interval over people."""
    change = paired(value, against, people)
    return [round(x, 4) for x in (change.relative, change.rel_low, change.rel_high)]


def summed_up(drift: float, arms: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What is required, pooled over the seeds of one drift."""
    through = {arm: last_third(streams) for arm, streams in arms.items()}
    frozen, people = through["frozen"]
    found: dict[str, Any] = {
        "drift": drift,
        "visits": len(frozen),
        "events": {
            when: [stream[when] for stream in arms["frozen"]]
            for when in ("events_before", "events_after")
        },
        "click_through": {arm: round(float(v.mean()), 5) for arm, (v, _) in through.items()},
    }
    for arm, (value, _) in through.items():
        if arm != "frozen":
            found[f"{arm}_against_frozen"] = relative(value, frozen, people)
    seconds = {
        arm: np.sum([stream["learning_seconds"] for stream in streams], axis=0)
        for arm, streams in arms.items()
    }
    found["learning_seconds"] = {arm: round(float(s.sum()), 1) for arm, s in seconds.items()}
    if "nightly" in arms:
        gained = found["click_through"]["nightly"] - found["click_through"]["frozen"]
        ours = found["click_through"]["incremental"] - found["click_through"]["frozen"]
        found["share_of_nightly_gain"] = round(ours / gained, 3) if gained > 0 else None
        each = seconds["incremental"] / seconds["nightly"]
        found["share_of_nightly_compute"] = round(
            float(seconds["incremental"].sum() / seconds["nightly"].sum()), 3
        )
        found["share_by_night"] = np.round(each, 3).tolist()
    found["first_period"] = {arm: kept(streams) for arm, streams in arms.items()}
    found["by_night"] = {
        arm: [
            round(float(np.mean(np.concatenate([s["nights"][n]["expected"] for s in streams]))), 4)
            for n in range(len(streams[0]["nights"]))
        ]
        for arm, streams in arms.items()
    }
    found["updates"] = [stream["updates"] for stream in arms["incremental"]]
    return found


def streams_of(drift: float, seed: int, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every answerer's stream in one world; without drift no refits."""
    size = f"{args.users}-{args.night:g}{'-quick' if args.quick else ''}"
    world = world_of(args.users, drift, seed)
    first, rest = first_period(world)
    folder = WORK / f"base-{drift}-{size}-{seed}"
    if not (folder / "current").is_file():
        config = settings_of(args.quick, seed)
        encoder = TextEncoder.load(config.language)
        raw = [encoder.encode(domain.items["text"].to_list()) for domain in rest.domains]
        fitted_anew(rest, raw, config).save(folder)
    found = {}
    for arm in ARMS if drift else ("frozen", "incremental"):
        settings = args.set if arm == "incremental" else []
        name = "-".join([arm, str(drift), size, *settings, str(seed)]).replace("/", "-")
        found[arm] = cached(
            name,
            lambda a=arm, s=settings: one_stream(
                a, world, Recommender.load(folder), first, args.night, s
            ),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--drift", type=float, nargs="+", default=[0.5, 0.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--night", type=float, default=30.0, help="days between two nights")
    parser.add_argument("--quick", action="store_true", help="the demo's settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    use_threads(1)

    rows = []
    for drift in args.drift:
        each = [streams_of(drift, seed, args) for seed in args.seeds]
        rows.append(summed_up(drift, {arm: [s[arm] for s in each] for arm in each[0]}))
    asked = {name: getattr(args, name) for name in ("users", "night", "quick", "seeds", "set")}
    text = json.dumps({**asked, "by_drift": rows}, indent=1, ensure_ascii=False)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
