"""SASRec on item ids alone, trained on the target's own history: the sequence baseline.

Source: Kang and McAuley 2018, with the sampled softmax over many shared negatives that later
work found it needs. It is the core model with text, adapters and time gaps switched off.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.model.core import CoreModel
from isthmus.model.learn import evidence, learn
from isthmus.model.scorer import NeuralScorer
from isthmus.training.loop import Log


def fit_sasrec(
    dataset: Dataset, split: Split, domain: int, config: Config, *, folder: Path | None = None
) -> tuple[NeuralScorer, Log]:
    """Train SASRec on the events of one domain.

    Args:
        dataset: the snapshot.
        split: training events and early-stopping questions.
        domain: index of the target.
        config: sizes and training settings, shared with the core model.
        folder: checkpoints to resume from.
    """
    sizes = config.model.model_copy(
        update={
            "use_ids": True,
            "use_text": False,
            "head": "low-rank",
            "adapter_rank": 0,
            "time_gaps": False,
            "cross_attention_penalty": 0.0,
        }
    )
    config = config.model_copy(update={"model": sizes})
    nothing = [
        ItemFeatures(np.zeros((d.n_items, 1), np.float32), np.zeros(d.n_items, bool))
        for d in dataset.domains
    ]
    counts = evidence(dataset, split.train_events(dataset).only(domain))
    weights = [float(d == domain) for d in range(len(dataset.domains))]
    return learn(
        CoreModel(nothing, counts, sizes, config.seed),
        dataset,
        split,
        config,
        reads=[domain],
        weights=weights,
        name="sasrec",
        folder=folder,
    )
