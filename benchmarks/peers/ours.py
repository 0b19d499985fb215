"""Isthmus' SASRec: warm training epochs, and full-ranking evaluation.

The core model on item ids alone, as `isthmus.baselines.sasrec` sets it up, over one catalogue. A
batch holds as many sequences on average as a batch of the other sides; its negatives are shared, so
each target meets as many as there. The clock runs over batching, sampling and optimisation, then
over scoring, ranking and metrics.
"""

from __future__ import annotations

import time
from importlib.metadata import version

import common
import numpy as np
import polars as pl
import torch

from isthmus.config import EvaluationConfig, ModelConfig, TrainingConfig
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Queries
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.model.core import CoreModel
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Requests
from isthmus.training.loop import Log, train
from isthmus.training.next_item import NextItemTask

REPEATS = 2


def dataset_of(rows: common.Rows) -> Dataset:
    """All rows as one domain."""
    n_users = int(rows.user.max()) + 1
    events = Events.from_columns(
        n_users, rows.user, np.zeros(len(rows.user), np.int16), rows.item, rows.time
    )
    ids = pl.DataFrame({"item_id": [f"i{item}" for item in range(len(rows.domain))]})
    users = pl.Series("user_id", [f"u{user}" for user in range(n_users)])
    return Dataset((Domain("rows", ids),), users, events)


def latest(events: Events, n: int) -> Events:
    """The last `n` events of each user."""
    age = np.repeat(events.offsets[1:], np.diff(events.offsets)) - 1 - np.arange(len(events))
    return events.keep(age < n)


def task_of(dataset: Dataset, learnt: Events, settings: common.Settings) -> NextItemTask:
    """SASRec over windows of the latest events, in batches of `settings.batch` windows."""
    sizes = ModelConfig(
        dim=settings.dim,
        layers=settings.layers,
        heads=settings.heads,
        max_length=settings.length,
        dropout=settings.dropout,
        use_text=False,
        adapter_rank=0,
        time_gaps=False,
    )
    n_items = dataset.n_items
    nothing = ItemFeatures(np.zeros((n_items, 1), np.float32), np.zeros(n_items, bool))
    evidence = np.bincount(learnt.item, minlength=n_items).astype(np.float32)
    lengths = np.diff(learnt.offsets) - 1
    return NextItemTask(
        CoreModel([nothing], evidence, sizes, settings.seed),
        learnt,
        dataset.item_offsets,
        TrainingConfig(
            negatives=settings.negatives,
            batch_events=round(settings.batch * lengths[lengths > 0].mean()),
        ),
        weights=[1.0],
        max_length=settings.length,
        device=torch.device("cpu"),
    )


def measure_training(task: NextItemTask, settings: common.Settings) -> None:
    """One record per epoch after the first, which warms up."""
    config = task.config.model_copy(
        update={"epochs": settings.epochs + 1, "evaluate_every": settings.epochs + 1}
    )
    log: Log = train(task, lambda: 0.0, config, seed=settings.seed)
    for epoch in log.epochs[1:]:
        common.record(
            system="isthmus",
            version=version("isthmus"),
            measure="training",
            seconds=epoch["seconds"],
            targets=task.windows.n_targets,
            targets_per_second=task.windows.n_targets / epoch["seconds"],
            batch=settings.batch,
            negatives=settings.negatives,
        )


def measure_evaluation(model: CoreModel, dataset: Dataset, held_out: np.ndarray) -> None:
    """Rank the catalogue for every held-out event."""
    config = EvaluationConfig(cutoffs=[10])
    questions = Queries(np.flatnonzero(held_out))
    seconds = []
    for _ in range(REPEATS):
        scorer = NeuralScorer(model, (0,))
        started = time.perf_counter()
        ranking = rank(scorer, dataset, questions, 0, config=config, lists=False)
        figures = per_query(ranking, config.cutoffs)
        means = {name: figures[f"{name}@10"].mean() for name in ("hit_rate", "ndcg", "mrr")}
        seconds.append(time.perf_counter() - started)
    common.record(
        system="isthmus",
        version=version("isthmus"),
        measure="evaluation",
        seconds=min(seconds),
        queries=len(ranking),
        batch=config.batch,
        **{name: float(mean) for name, mean in means.items()},
    )
    measure_floor(model, dataset, questions, config)


@torch.inference_mode()
def measure_floor(
    model: CoreModel, dataset: Dataset, questions: Queries, config: EvaluationConfig
) -> None:
    """User states and their product with the catalogue, and nothing else.

    Exact full ranking with this model needs at least that, so it bounds what counting and metrics
    could still gain. The product is taken in the layout that is fastest here, items by questions,
    in which nothing could be counted as cheaply.
    """
    scorer, seconds = NeuralScorer(model, (0,)), []
    items = scorer.catalogue(0)
    lengths = questions.position - dataset.events.offsets[dataset.events.user[questions.position]]
    position = questions.position[np.argsort(lengths, kind="stable")]
    for _ in range(REPEATS):
        started = time.perf_counter()
        for start in range(0, len(position), config.batch):
            asked = position[start : start + config.batch]
            requests = Requests.at(dataset, asked, max_history=config.max_history)
            items @ scorer.queries(requests, 0).T
        seconds.append(time.perf_counter() - started)
    common.record(
        system="isthmus",
        version=version("isthmus"),
        measure="floor",
        seconds=min(seconds),
        queries=len(position),
        batch=config.batch,
    )


def main() -> None:
    rows, settings = common.start()
    dataset = dataset_of(rows)
    learnt = latest(dataset.events.keep(~rows.held_out), settings.length + 1)
    task = task_of(dataset, learnt, settings)
    if settings.train:
        measure_training(task, settings)
    assert isinstance(task.module, CoreModel)
    measure_evaluation(task.module, dataset, rows.held_out)


main()
