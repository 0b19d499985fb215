"""A GPT of our own on Chinese titles, beside frozen English MiniLM and no text; prints JSON.

    python benchmarks/own_gpt.py [--data ../shared/data/microlens-videos] [--set KEY=VALUE …]
        [--queries validation] [--texts-only] [--out FILE.json]

Tokenizer and decoder are learnt from the titles alone. Two figures each, full ranking on the
source's own time split: texts alone (cosine to the history, whitened), and the recommender's blend,
which without text rests on ids, co-occurrence and popularity. What `--out` holds is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from isthmus import Recommender
from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split, user_hash
from isthmus.experiment.text_only import text_only
from isthmus.language.catalogues import encode_catalogues
from isthmus.language.pretraining.corpus import Corpus, texts_of
from isthmus.language.pretraining.pretrain import pretrain

DATA = Path(__file__).parents[2] / "shared" / "data" / "microlens-videos"
METRICS = ("ndcg@10", "hit_rate@10", "hit_rate@100")
PARTS = ("training", "validation", "testing")
SETTINGS: dict[str, Any] = {
    "pretraining": {"scratch": "gpt", "vocabulary": 8000, "dim": 192, "layers": 3, "heads": 4},
    "training": {"threads": 1, "epochs": 12},
}


def source_split(dataset: Dataset, events: Path) -> Split:
    """The source's parts, which follow each other within every history."""
    counts = (
        pl.read_parquet(events, columns=["user_id", "split"])
        .group_by("user_id")
        .agg(*[(pl.col("split") == part).sum().alias(part) for part in PARTS])
    )
    known = pl.DataFrame({"user_id": dataset.user_ids}).join(
        counts, on="user_id", how="left", maintain_order="left"
    )
    n = known.select(PARTS).fill_null(0).to_numpy()
    user = dataset.events.user
    place = np.arange(len(user)) - dataset.events.offsets[user]
    ends = np.cumsum(n, axis=1)[user]
    part = (place[:, None] >= ends).sum(axis=1)
    asked = place >= 1
    first = user_hash(dataset.user_ids.to_list(), "validation-half") < 0.5
    halves = [np.flatnonzero((part == 1) & asked & (first[user] == half)) for half in (True, False)]
    test = np.flatnonzero((part == 2) & asked)
    return Split("leave-one-out", part == 0, *map(Queries, halves), Queries(test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--queries", choices=["validation", "test"], default="validation")
    parser.add_argument("--texts-only", action="store_true")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    events = options.data.resolve() / "videos.interactions.parquet"
    domain = {
        "interactions": str(events),
        "items": str(options.data.resolve() / "videos.items.parquet"),
        "events": {"order": "position"},
        "catalogue": {"title": "title"},
    }
    raw = {"name": "own-gpt", "domains": {"videos": domain}, **SETTINGS}
    config = Config.parse(raw, overrides=options.set)
    dataset, _ = build_dataset(config)
    split = source_split(dataset, events)

    found: dict[str, Any] = {"cores": os.cpu_count(), "queries": options.queries}
    if options.out and options.out.is_file():
        found = json.loads(options.out.read_text())

    def keep(name: str, value: Any) -> None:
        found[name] = value
        print(name, json.dumps(value), flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")

    own = options.models / "own-gpt"
    if "pretraining" not in found or not own.is_dir():
        corpus = Corpus.of(texts_of(dataset.domains), config.pretraining.held_out)
        began, busy = time.perf_counter(), time.process_time()
        made = pretrain(corpus, config.language, config.pretraining, own, threads=1).to_dict()
        made |= {
            "wall_seconds": round(time.perf_counter() - began, 1),
            "cpu_seconds": round(time.process_time() - busy, 1),
        }
        keep("pretraining", {key: value for key, value in made.items() if key != "folder"})
    readers = {
        "own GPT": [f"language.model='{own.resolve()}'"],
        "frozen MiniLM": [],
        "no text": [
            "model.use_text=false",
            'blend.parts=["neural","co-occurrence","recent-popular"]',
        ],
    }
    for name, changes in readers.items():
        chosen = config.override(*changes)
        if name != "no text" and f"{name}, texts alone" not in found:
            vectors = encode_catalogues(dataset.domains, chosen.language)
            measured = text_only(dataset, split, vectors, chosen.evaluation, options.queries)
            mean = {metric: round(measured["videos"].mean(metric), 4) for metric in METRICS}
            keep(f"{name}, texts alone", mean)
        if not options.texts_only and f"{name}, blend" not in found:
            recommender = Recommender.fit(dataset, chosen, split=split)
            served = recommender.evaluate(queries=options.queries)["videos"]["gated"]
            keep(f"{name}, blend", {m: round(served.mean(m), 4) for m in METRICS})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
