"""Behaviour-tuned MiniLM against frozen MiniLM, texts alone, both whitened; prints JSON.

    python benchmarks/tune_language.py [--only food-kitchen-global] [--seeds 0,1,2]
        [--queries validation,test] [--method side] [--set KEY=VALUE …] [--out FILE.json]

Food–Kitchen by leave-one-out and by one global cut, which alone has new items enough, and
Beauty–Toys by leave-one-out, their only split. Pairs come from each split's training events. Full
ranking by cosine to the history (`baselines/content.py`), nothing else trained. Choices are made on
validation questions; test is to be asked once. Gains are of the mean over seeds, with a
95 % interval over users. A data set that `--out` holds already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.splits import make_split
from isthmus.evaluation.result import Evaluation, pool
from isthmus.experiment.text_only import figures, text_only
from isthmus.experiment.tune_language import tune_language
from isthmus.language.catalogues import encode_catalogues

CONFIGS = Path(__file__).parent / "configs"
RUNS = {
    "food-kitchen": ("food-kitchen.toml", "leave-one-out"),
    "food-kitchen-global": ("food-kitchen.toml", "global"),
    "beauty-toys": ("beauty-toys-games.toml", "leave-one-out"),
}


def load(name: str, configs: Path, overrides: list[str]) -> Config:
    """The tables of one run; Beauty–Toys leaves games out."""
    file, split = RUNS[name]
    config = Config.load(configs / file, overrides=[*overrides, f"split.kind='{split}'"])
    raw = config.model_dump(mode="json")
    if name == "beauty-toys":
        del raw["domains"]["games"]
    return Config.parse(raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(RUNS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--queries", default="validation", help="validation, test or both")
    parser.add_argument("--method", default="side")
    parser.add_argument("--configs", type=Path, default=CONFIGS, help="folder of the tables' TOML")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    found: dict[str, Any] = {}
    if options.out and options.out.is_file():
        found = json.loads(options.out.read_text())["figures"]
    for name in options.only.split(","):
        config = load(name, options.configs, [*options.set, f"tuning.method='{options.method}'"])
        dataset, _ = build_dataset(config)
        split = make_split(dataset, config.split.kind, quantiles=config.split.quantiles)
        asked = [q for q in options.queries.split(",") if f"{name}, {q}" not in found]
        if not asked:
            continue
        vectors = encode_catalogues(dataset.domains, config.language)
        frozen = {q: text_only(dataset, split, vectors, config.evaluation, q) for q in asked}
        seeds: dict[str, Any] = {}
        pooled: dict[str, dict[str, list[Evaluation]]] = {q: {} for q in asked}
        for seed in options.seeds.split(","):
            began, busy = time.perf_counter(), time.process_time()
            with TemporaryDirectory() as folder:
                out = Path(folder) / "tuned"
                run = tune_language(dataset, config.override(f"seed={seed}"), out, split=split)
                spent = time.perf_counter() - began, time.process_time() - busy
                language = config.language.model_copy(update={"tuned": out})
                vectors = encode_catalogues(dataset.domains, language)
            cost = {key: value for key, value in run.row().items() if key != "quality"}
            seeds[seed] = rounded(cost | {"wall_seconds": spent[0], "cpu_seconds": spent[1]})
            for q in asked:
                measured = text_only(dataset, split, vectors, config.evaluation, q)
                print(name, q, seed, json.dumps(rounded(figures(measured, frozen[q]))), flush=True)
                for domain, evaluation in measured.items():
                    pooled[q].setdefault(domain, []).append(evaluation)
        for q, by_domain in pooled.items():
            together = {domain: pool(evaluations) for domain, evaluations in by_domain.items()}
            gains = rounded(figures(together, frozen[q]))
            found[f"{name}, {q}"] = {"seeds": seeds, "gains": gains}
        described = {k: str(v) for k, v in vars(options).items() if k not in ("out", "configs")}
        document = {
            "options": described,
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "figures": found,
        }
        if options.out:
            options.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({"figures": found}, indent=1, ensure_ascii=False))


def rounded(value: Any) -> Any:
    """Figures with four digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
