"""How well texts alone rank: cosine to the history, behind whitening, with nothing trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from isthmus.baselines.content import ContentKNN
from isthmus.config import EvaluationConfig
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.evaluation.compare import compare
from isthmus.evaluation.evaluate import QueryName, evaluate
from isthmus.evaluation.result import Evaluation
from isthmus.evaluation.slices import ALL, NEW

SHOWN = (("ndcg@10", ALL), ("hit_rate@100", ALL), ("hit_rate@10", NEW))
"""Metric and slice of what is reported; the last is asked where there are enough new items."""


def text_only(
    dataset: Dataset,
    split: Split,
    features: Sequence[ItemFeatures],
    config: EvaluationConfig,
    queries: QueryName = "tuning",
) -> dict[str, Evaluation]:
    """Full ranking of the split's questions by text alone, by domain that is asked about."""
    scorer = ContentKNN.fit(dataset, split.train_events(dataset), features)
    asked = set(dataset.events.domain[getattr(split, queries).position].tolist())
    return {
        name: evaluate(scorer, dataset, split, d, config=config, queries=queries)
        for d, name in enumerate(dataset.names)
        if d in asked
    }


def figures(
    tuned: dict[str, Evaluation], frozen: dict[str, Evaluation]
) -> dict[str, dict[str, dict[str, Any]]]:
    """By domain and figure: both values, and the relative gain with its 95 % interval."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, evaluation in tuned.items():
        rows = compare(evaluation, frozen[name])
        found[name] = {}
        for metric, piece in SHOWN:
            row = rows.filter((pl.col("metric") == metric) & (pl.col("slice") == piece))
            if row.is_empty():
                continue
            gain = row.row(0, named=True)
            found[name][f"{metric}, {piece}" if piece != ALL else metric] = {
                "frozen": frozen[name].mean(metric, piece),
                "tuned": evaluation.mean(metric, piece),
                "gain": gain["relative"],
                "ci95": [gain["rel_low"], gain["rel_high"]],
                "questions": gain["n"],
            }
    return found
