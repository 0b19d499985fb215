"""The long evidence: every figure that the README quotes, measured again.

    python benchmarks/proof.py [NAME …] [--again]

Each study writes `benchmarks/results/NAME.json`; a study whose result is there is not repeated
without `--again`, and a comparison that was killed goes on with what is missing. Real data are read
from `../shared/data`; a study that needs them is passed over where they are missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
WORK = BENCHMARKS / "work"
DATA = ROOT.parent / "shared" / "data"
SHOWN = ("ndcg@10", "hit_rate@5", "hit_rate@10", "hit_rate@100", "mrr")


def comparison(
    config: str,
    *options: str,
    name: str,
    seeds: str = "0",
    settings: tuple[str, ...] = (),
    baselines: str = "",
) -> dict[str, Any]:
    """Run `isthmus compare` with `options` in a process of its own and sum up its records."""
    command = [
        *(sys.executable, "-m", "isthmus", "compare"),
        *("--config", str(BENCHMARKS / "configs" / config)),
        *("--seeds", seeds, "--runs", str(WORK / "runs"), "--model", str(WORK / "models" / name)),
        *("--set", f"name={name}"),
        *(part for setting in settings for part in ("--set", setting)),
        *(("--baselines", baselines) if baselines else ()),
        *options,
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    return {"command": _shown(command), **summary(WORK / "runs" / name)}


def summary(run: Path) -> dict[str, Any]:
    """Figures of a run folder: every system, what is ahead of what, gates and slices."""
    metrics = json.loads((run / "metrics.json").read_text())
    about = json.loads((run / "run.json").read_text())
    table = pl.read_parquet(run / "metrics.parquet")
    return {
        "systems": {
            system: {
                target: {m: figures[m] for m in SHOWN if m in figures}
                for target, figures in by_target.items()
            }
            for system, by_target in metrics["systems"].items()
        },
        "differences": [
            row
            for row in metrics["differences"]
            if (row["metric"] == "ndcg@10" or (row["slice"], row["metric"]) == NEW_FOUND)
            and (row["slice"] in AGAINST_ALL or row["against"] == "target-only")
        ],
        "seeds": table.filter(
            pl.col("seed").is_not_null(), pl.col("slice") == "all", pl.col("metric").is_in(SHOWN)
        )
        .select("system", "target", "seed", "metric", "value")
        .to_dicts(),
        "verdicts": [verdict["sentence"] for verdict in about["verdicts"]],
        "gates": about["gates"],
        "cost": about["cost"],
        **({"curve": metrics["curve"], "new": newcomers(table)} if "curve" in metrics else {}),
    }


def newcomers(table: pl.DataFrame) -> list[dict[str, Any]]:
    """At each share, paired differences among people whose whole target history is gone."""
    return (
        table.filter(
            pl.col("slice") == "new to the target",
            pl.col("metric") == "ndcg@10",
            pl.col("against").is_not_null(),
        )
        .select(
            *("target", "share", "control", "system", "against", "n"),
            *("relative", "rel_low", "rel_high", "p_holm"),
        )
        .to_dicts()
    )


def food_kitchen() -> dict[str, Any]:
    """Leave-one-out, ties shuffled, full ranking, three seeds."""
    return comparison("food-kitchen.toml", name="food-kitchen", seeds="0,1,2")


def food_kitchen_tuned() -> dict[str, Any]:
    """The same with texts that behaviour tuned, one seed."""
    tuned = WORK / "models" / "food-kitchen-side"
    command = [sys.executable, "-m", "isthmus", "tune-language"]
    command += ["--config", str(BENCHMARKS / "configs" / FOOD_KITCHEN)]
    command += ["--output", str(tuned), "--runs", str(WORK / "runs")]
    subprocess.run(command, check=True, cwd=ROOT)
    found = comparison(
        FOOD_KITCHEN,
        name="food-kitchen-tuned",
        settings=(f"language.tuned={tuned}",),
        baselines=TRAINING_FREE,
    )
    return {"tuning": _shown(command), **found}


def food_kitchen_global() -> dict[str, Any]:
    """The same under the global cut."""
    return comparison(
        "food-kitchen.toml",
        name="food-kitchen-global",
        seeds="0,1,2",
        settings=("split.kind=global",),
    )


def food_kitchen_shuffled() -> dict[str, Any]:
    """Items renumbered and file rows shuffled: figures must stay within seed noise."""
    folder = WORK / "shuffled"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = ["split.shuffle_items=1"]
    for domain in ("food", "kitchen"):
        for table in ("interactions", "items"):
            file = DATA / "amazon-food-kitchen" / f"{domain}.{table}.parquet"
            shuffled = folder / file.name
            pl.read_parquet(file).sample(fraction=1.0, shuffle=True, seed=7).write_parquet(shuffled)
            settings.append(f'domains.{domain}.{table}="{shuffled}"')
    return comparison(
        "food-kitchen.toml",
        name="food-kitchen-shuffled",
        settings=tuple(settings),
        baselines="co-occurrence,text,recent-popular",
    )


def published() -> dict[str, Any]:
    """The published table's rows, order and 999 sampled candidates; five seeds."""
    return comparison(
        "food-kitchen-published.toml",
        name="food-kitchen-published",
        seeds="0,1,2,3,4",
        baselines="co-occurrence",
    )


def published_shuffled() -> dict[str, Any]:
    """The same with items renumbered: no figure may rest on an item's number."""
    return comparison(
        "food-kitchen-published.toml",
        name="food-kitchen-published-shuffled",
        settings=("split.shuffle_items=1",),
        baselines="co-occurrence",
    )


def games() -> dict[str, Any]:
    """Video games alone, on rows that played no part in any choice."""
    return comparison("games.toml", name="games")


def ciao() -> dict[str, Any]:
    """Two review categories without texts, global cut, on rows that played no part either."""
    return comparison("ciao.toml", name="ciao", seeds="0,1,2")


def beauty() -> dict[str, Any]:
    """Beauty alone, leave-one-out in the source's order, full ranking."""
    return comparison("beauty.toml", name="beauty")


def toys() -> dict[str, Any]:
    """Toys alone, likewise."""
    return comparison("toys.toml", name="toys")


NEW_FOUND = ("new items", "hit_rate@10")
AGAINST_ALL = ("all", "cold users", "new items")
"""Slices in which every competitor is held against ours."""
TRAINING_FREE = "recent-popular,co-occurrence,text"
CONTROLS = ("shuffled-text", "shuffled-source", "random-overlap")


def curve(config: str, *options: str, name: str, seeds: str) -> Callable[[], dict[str, Any]]:
    """Uplift over target-only with less of each target's data.

    Studies of one `name` share a run folder, and with it what they measure on all data.
    """

    def run() -> dict[str, Any]:
        return comparison(config, *options, name=name, seeds=seeds, baselines=TRAINING_FREE)

    return run


def zero_shot(config: str, target: str, *settings: str) -> Callable[[], dict[str, Any]]:
    """One target without any event in training, beside text alone and trained competitors."""

    def run() -> dict[str, Any]:
        return comparison(
            config,
            *("--target", target, "--strategy", "zero-shot"),
            name=f"zero-shot-{target}",
            settings=settings,
            baselines="text,recent-popular,co-occurrence,sasrec",
        )

    return run


def script(*arguments: str) -> Callable[[], dict[str, Any]]:
    """A benchmark that prints its figures as JSON on the last line of its output."""

    def run() -> dict[str, Any]:
        command = [sys.executable, *arguments]
        out = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        return {"command": _shown(command), **_last_json(out.stdout)}

    return run


def load() -> dict[str, Any]:
    """The service under load, on the model of Food–Kitchen, beside a plain handler."""
    model = WORK / "models" / "served"
    if not (model / "current").exists():
        config = str(BENCHMARKS / "configs" / FOOD_KITCHEN)
        command = [sys.executable, "-m", "isthmus", "fit", "--config", config]
        command += ["--model", str(model), "--runs", str(WORK / "runs")]
        subprocess.run(command, check=True, cwd=ROOT)
    return script("benchmarks/load/run.py", "--model", str(model))()


def _last_json(output: str) -> dict[str, Any]:
    # What a peer prints before it may begin with a brace, too.
    start = output.rfind("\n{") + 1
    found: dict[str, Any] = json.loads(output[start:])
    return found


def _shown(command: list[str]) -> str:
    """A command as a reader would type it, from the project's root."""
    words = ["python", *command[1:]]
    return " ".join(word.replace(f"{ROOT}/", "").replace(f"{DATA}/", "") for word in words)


FEW_SHOT = (
    *("benchmarks/strategies.py", "--events", "10,50,200"),
    *("--strategies", "joint,meta,target-only", "--set", "training.threads=1"),
)
FOOD_KITCHEN, THREE = "food-kitchen.toml", "beauty-toys-games.toml"
PAIR = ("--target", "beauty", "--target", "toys")

STUDIES: dict[str, Callable[[], dict[str, Any]]] = {
    "food-kitchen": food_kitchen,
    "food-kitchen-tuned": food_kitchen_tuned,
    "food-kitchen-global": food_kitchen_global,
    "beauty": beauty,
    "toys": toys,
    "food-kitchen-shuffled": food_kitchen_shuffled,
    "published": published,
    "published-shuffled": published_shuffled,
    "games": games,
    "ciao": ciao,
    "neighbours": script("benchmarks/neighbours.py"),
    "uplift-food-kitchen": curve(
        *(FOOD_KITCHEN, "--curve", "0.1,1"), name="food-kitchen", seeds="0,1,2,3,4"
    ),
    "uplift-food-kitchen-quarter": curve(
        *(FOOD_KITCHEN, "--curve", "0.25,1"), name="food-kitchen", seeds="0,1,2"
    ),
    # A fifth of the people lose all that they did in the target: they are new to it indeed.
    "cold-users-food-kitchen": curve(
        *(FOOD_KITCHEN, "--curve", "0.8,1"), name="food-kitchen", seeds="0,1,2"
    ),
    "asked-as-new": script("benchmarks/newcomers.py"),
    "asked-as-new-swapped": script("benchmarks/newcomers.py", "--control", "random-overlap"),
    "asked-as-new-swapped-kitchen": script(
        *("benchmarks/newcomers.py", "--control", "random-overlap", "--target", "kitchen")
    ),
    "uplift-food-kitchen-time": curve(
        *(FOOD_KITCHEN, "--curve", "0.1,1", "--curve-by", "time"),
        name="food-kitchen",
        seeds="0,1,2",
    ),
    "uplift-beauty-toys": curve(
        *(THREE, *PAIR, "--curve", "0.1,1"), name="uplift-beauty-toys", seeds="0,1"
    ),
    "controls-food-kitchen": curve(
        *(FOOD_KITCHEN, "--curve", "0.1,1", *(w for c in CONTROLS for w in ("--control", c))),
        name="food-kitchen",
        seeds="0",
    ),
    "controls-beauty-toys": curve(
        *(THREE, *PAIR, "--curve", "0.1", *(w for c in CONTROLS for w in ("--control", c))),
        name="uplift-beauty-toys",
        seeds="0",
    ),
    "zero-shot-food": zero_shot(FOOD_KITCHEN, "food", "split.kind=global"),
    "zero-shot-kitchen": zero_shot(FOOD_KITCHEN, "kitchen", "split.kind=global"),
    "zero-shot-beauty": zero_shot(THREE, "beauty"),
    "zero-shot-toys": zero_shot(THREE, "toys"),
    "few-shot-world": script(*FEW_SHOT),
    "few-shot-ciao": script(
        *FEW_SHOT,
        *("--config", "benchmarks/configs/ciao-categories.toml", "--target", "category-10"),
    ),
    "new-domain": script("benchmarks/new_domain.py"),
    "alignment": script("benchmarks/alignment.py"),
    "pretrain-language": script("benchmarks/pretrain_language.py"),
    "pretrain-short": script(
        "benchmarks/pretrain_language.py",
        *("--set", "pretraining.head_steps=200", "--set", "pretraining.steps=150"),
    ),
    "text-layers": script("benchmarks/text_layers.py", "--queries", "test"),
    "tune-language": script("benchmarks/tune_language.py", "--queries", "test"),
    "own-gpt": script("benchmarks/own_gpt.py", "--queries", "test"),
    "rate-ciao": script("benchmarks/rate_ciao.py"),
    "click-beauty-toys": script("benchmarks/click_beauty_toys.py"),
    "tuning-speed": script("benchmarks/tuning_speed.py"),
    "rerank": script(
        *("benchmarks/rerank.py", "--config", f"benchmarks/configs/{FOOD_KITCHEN}"),
        *("--questions", "150", "--set", "training.epochs=3"),
        *("--set", "tasks.cross_encoder.most_pairs=1000", "--set", "tasks.cross_encoder.epochs=1"),
        *("--set", "tasks.cross_encoder.max_tokens=48", "--set", "tasks.cross_encoder.history=3"),
    ),
    "search-food-kitchen": script("benchmarks/search_food_kitchen.py"),
    "step-time": script("benchmarks/step_time.py"),
    "encode": script("benchmarks/encode.py"),
    "encode-bf16": script("benchmarks/encode.py", "--texts", "3000"),
    "encode-floor": script("benchmarks/encode.py", "--texts", "4000"),
    "load-events": script("benchmarks/load_events.py"),
    "evaluate-speed": script("benchmarks/evaluate_speed.py"),
    "gate-strengths": script("benchmarks/gate_strengths.py"),
    "kill-resume": script("benchmarks/kill_resume.py"),
    "crash": script("benchmarks/crash.py"),
    "event-log": script("benchmarks/event_log.py"),
    "fuzz-service": script("benchmarks/fuzz_service.py"),
    "load": load,
    "drift": script("benchmarks/drift.py", "--seeds", *"012"),
    "drift-quick": script("benchmarks/drift.py", "--quick", "--users", "600", "--seeds", *"012"),
    "replay-by-time": script("benchmarks/replay_by_time.py", "--people", "1"),
    "peers": script("benchmarks/peers/run.py"),
    "peers-evaluation": script(
        *("benchmarks/peers/run.py", "--no-training", "--systems", "isthmus", "recbole"),
        *("--out", "benchmarks/results/peers-evaluation.json"),
    ),
}
NEEDS_DATA = {
    *("food-kitchen", "food-kitchen-global", "food-kitchen-shuffled", "beauty", "toys"),
    *("published", "published-shuffled", "games", "ciao", "few-shot-ciao", "alignment"),
    *("neighbours", "load", "replay-by-time", "pretrain-language", "pretrain-short", "own-gpt"),
    *("tune-language", "text-layers", "rate-ciao", "click-beauty-toys", "search-food-kitchen"),
    *("food-kitchen-tuned", "rerank", "asked-as-new", "asked-as-new-swapped"),
    "asked-as-new-swapped-kitchen",
    *(n for n in STUDIES if n.startswith(("uplift", "cold-users", "controls", "zero-shot"))),
}


def main() -> None:
    """Run the named studies, or all, passing over those that are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--again", action="store_true", help="repeat what is done")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(STUDIES):
        parser.error(f"no study is called {sorted(unknown)[0]!r}; known: {', '.join(STUDIES)}")
    RESULTS.mkdir(exist_ok=True)
    for name, study in STUDIES.items():
        result = RESULTS / f"{name}.json"
        if chosen.names and name not in chosen.names:
            continue
        if result.exists() and not (chosen.again and (not chosen.names or name in chosen.names)):
            print(f"{name}: done, see {result.relative_to(ROOT)}")
            continue
        if name in NEEDS_DATA | {"peers", "peers-evaluation"} and not DATA.exists():
            print(f"{name}: passed over, there is no ../shared/data")
            continue
        print(f"{name}: {(study.__doc__ or '').strip().splitlines()[0] if study.__doc__ else ''}")
        start = time.perf_counter()
        found = study()
        aside = result.with_suffix(".part")
        aside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        aside.replace(result)
        print(f"{name}: {time.perf_counter() - start:.0f} s, {result.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
