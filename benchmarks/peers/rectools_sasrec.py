"""RecTools' SASRec: warm training epochs, with sampled softmax over uniform negatives.

RecTools draws its negatives anew for every position; each target meets as many as on the other
sides. The clock runs over batching, sampling and optimisation, not over data preparation.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import common
import pandas as pd
import pytorch_lightning as lightning
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Clock(lightning.Callback):
    """Seconds and non-padding targets of each epoch; the first one warms up."""

    def __init__(self, settings: common.Settings) -> None:
        self.settings, self.started, self.targets = settings, 0.0, 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.started, self.targets = time.perf_counter(), 0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, _: Any, batch: Any, *__: Any
    ) -> None:
        self.targets += int((batch["y"] != 0).sum())

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        seconds = time.perf_counter() - self.started
        if trainer.current_epoch > 0:
            common.record(
                system="rectools",
                version=version("rectools"),
                measure="training",
                seconds=seconds,
                targets=self.targets,
                targets_per_second=self.targets / seconds,
                batch=self.settings.batch,
                negatives=self.settings.negatives,
            )


def main() -> None:
    rows, settings = common.start()
    lightning.seed_everything(settings.seed)
    train = ~rows.held_out
    interactions = pd.DataFrame(
        {
            Columns.User: rows.user[train],
            Columns.Item: rows.item[train],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01")
            + pd.to_timedelta(rows.order[train], unit="D"),
        }
    )
    epochs = settings.epochs + 1
    model = SASRecModel(
        n_factors=settings.dim,
        n_blocks=settings.layers,
        n_heads=settings.heads,
        session_max_len=settings.length,
        dropout_rate=settings.dropout,
        loss="sampled_softmax",
        n_negatives=settings.negatives,
        batch_size=settings.batch,
        # The library's own trainer, and a clock.
        get_trainer_func=lambda: lightning.Trainer(
            max_epochs=epochs,
            min_epochs=epochs,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            devices=1,
            accelerator="cpu",
            callbacks=[Clock(settings)],
        ),
    )
    model.fit(Dataset.construct(interactions))


main()
