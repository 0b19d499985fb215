"""Titles by more of MiniLM's layers against its final states, texts alone; prints JSON.

    python benchmarks/text_layers.py [--only food-kitchen] [--queries test] [--layers 0,3]

Food–Kitchen by leave-one-out and by one global cut, Beauty–Toys by leave-one-out. Full ranking by
cosine to the history (`baselines/content.py`), both whitened, with nothing trained or chosen: a run
asks the questions it is told to. Intervals are of 95 %, over users.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from isthmus.data.build import build_dataset
from isthmus.data.splits import make_split
from isthmus.experiment.text_only import figures, text_only
from isthmus.language.catalogues import encode_catalogues
from tune_language import CONFIGS, RUNS, load, rounded


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(RUNS))
    parser.add_argument("--queries", choices=("validation", "test"), default="validation")
    parser.add_argument("--layers", default="0,3")
    asked = parser.parse_args()
    layers = [int(layer) for layer in asked.layers.split(",")]
    found: dict[str, Any] = {"layers": layers, "queries": asked.queries}
    for name in asked.only.split(","):
        config = load(name, CONFIGS, [])
        dataset, _ = build_dataset(config)
        split = make_split(dataset, config.split.kind, quantiles=config.split.quantiles)
        final, wide = (
            text_only(
                dataset,
                split,
                encode_catalogues(
                    dataset.domains, config.language.model_copy(update={"layers": read})
                ),
                config.evaluation,
                asked.queries,
            )
            for read in ([], layers)
        )
        # `figures` speaks of tuned and frozen texts; here they are the wide and the final ones.
        found[name] = {
            domain: {
                metric: {"final": row.pop("frozen"), "layers": row.pop("tuned"), **row}
                for metric, row in by_metric.items()
            }
            for domain, by_metric in rounded(figures(wide, final)).items()
        }
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
