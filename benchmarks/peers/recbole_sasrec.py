"""RecBole's SASRec as its users run it, and its full-ranking evaluation at its best batch.

Training keeps the library's defaults: every prefix of a history is a row of its own, 2,048 rows a
batch, cross-entropy over the whole catalogue. Evaluation is tried at several batch sizes, since
the default is not the fastest; it does not depend on how well the model is trained.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import recbole
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.utils import get_model, get_trainer, init_seed

EVALUATION_BATCHES = (64, 256, 1024, 4096, 40960)
REPEATS = 2


def prepare(rows: common.Rows, settings: common.Settings, folder: Path) -> tuple[Config, Any, Any]:
    """Configuration, training and test loaders, through RecBole's own file format."""
    (folder / "rows").mkdir()
    table = np.column_stack([rows.user, rows.item, rows.order])
    header = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(folder / "rows/rows.inter", table, "%d", "\t", header=header, comments="")
    config = Config(
        model="SASRec",
        dataset="rows",
        config_dict={
            "data_path": str(folder),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "use_gpu": False,
            "seed": settings.seed,
            "state": "ERROR",
            "show_progress": False,
            "hidden_size": settings.dim,
            "n_layers": settings.layers,
            "n_heads": settings.heads,
            "inner_size": 4 * settings.dim,
            "MAX_ITEM_LIST_LENGTH": settings.length,
            "train_neg_sample_args": None,
            "eval_args": {
                "split": {"LS": "test_only"},
                "order": "TO",
                "group_by": "user",
                "mode": "full",
            },
            "metrics": ["Hit", "NDCG", "MRR"],
            "topk": [10],
            "valid_metric": "MRR@10",
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    train, _, test = data_preparation(config, create_dataset(config))
    return config, train, test


def main() -> None:
    rows, settings = common.start()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        config, train, test = prepare(rows, settings, Path(folder))
        model = get_model("SASRec")(config, train._dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
        for batch in EVALUATION_BATCHES:
            config["eval_batch_size"] = batch
            loader = FullSortEvalDataLoader(config, test._dataset, test._sampler)
            seconds = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                trainer.evaluate(loader, load_best_model=False)
                seconds.append(time.perf_counter() - started)
            common.record(
                system="recbole",
                version=recbole.__version__,
                measure="evaluation",
                seconds=min(seconds),
                queries=len(test._dataset),
                batch=batch,
            )
        if not settings.train:
            return
        trainer._train_epoch([next(iter(train))], 0)  # Warms up: PyTorch loads parts of itself.
        started = time.perf_counter()
        trainer._train_epoch(train, 0)
        seconds = time.perf_counter() - started
        common.record(
            system="recbole",
            version=recbole.__version__,
            measure="training",
            seconds=seconds,
            targets=len(train._dataset),
            targets_per_second=len(train._dataset) / seconds,
            batch=config["train_batch_size"],
            negatives=len(rows.domain),
        )


main()
