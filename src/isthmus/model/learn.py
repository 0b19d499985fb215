"""Fit a core model to events, with early stopping on questions of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.dataset import Dataset, Events
from isthmus.data.splits import Queries, Split
from isthmus.evaluation.stopping import fixed_sample, mean_ndcg
from isthmus.model.attention import ForeignAttention
from isthmus.model.core import CoreModel
from isthmus.model.scorer import NeuralScorer
from isthmus.training.loop import Log, pick_device, train
from isthmus.training.memory import enough_memory
from isthmus.training.next_item import ExtraLoss, NextItemTask
from isthmus.training.tracking import Several, Tracker, tracker

TaskMaker = Callable[..., NextItemTask]
"""Takes what `NextItemTask` takes."""


def evidence(dataset: Dataset, events: Events) -> NDArray[np.float32]:
    """Events per item in flat numbering, float32 [n_items]."""
    flat = dataset.flat(events.domain, events.item)
    return np.bincount(flat, minlength=dataset.n_items).astype(np.float32)


def learn(
    model: CoreModel,
    dataset: Dataset,
    split: Split,
    config: Config,
    *,
    reads: Sequence[int],
    weights: Sequence[float],
    events: Events | None = None,
    task: TaskMaker = NextItemTask,
    name: str = "neural",
    label: str | None = None,
    folder: Path | None = None,
    curves: Path | None = None,
    depends: str = "",
    extra: Sequence[ExtraLoss] = (),
    watch: Tracker | None = None,
) -> tuple[NeuralScorer, Log]:
    """Train `model` and give it back as a scorer.

    Args:
        model: initial weights, changed in place.
        dataset: the snapshot.
        split: gives the training events and the questions for early stopping.
        config: how to train.
        reads: domains whose events are read as history.
        weights: weight of each domain's mean loss, [n_domains]; 0 for a domain not to be learnt.
        events: what is learnt from; None: the split's training events of the domains in `reads`.
        task: makes of them what is trained on.
        name: of the scorer.
        label: of the progress bar; None: the name.
        folder: checkpoints to resume from.
        curves: folder of TensorBoard event files.
        depends: whatever else the outcome depends on, as a text; a checkpoint of another is not
            gone on from.
        extra: losses beside that of the next item.
        watch: takes the figures of every epoch as well, and may raise to break off.

    Raises:
        TrainingError: memory ran out, or the loss is not a number.
    """
    settings = config.training
    device = pick_device(settings.device)
    model.to(device)
    if events is None:
        events = split.train_events(dataset).only(*reads)
    penalty = model.config.cross_attention_penalty
    # One domain has no other to attend to.
    model.users.watched = penalty > 0 and len(reads) > 1
    if model.users.watched:
        extra = [*extra, ForeignAttention(model.users, penalty)]
    to_learn = task(
        model,
        events,
        dataset.item_offsets,
        settings,
        weights=weights,
        max_length=config.model.max_length,
        device=device,
        extra=extra,
    )
    most = config.training.stopping_questions
    asked = {
        d: questions
        for d, weight in enumerate(weights)
        if weight > 0 and len(questions := fixed_sample(dataset, split.stopping, d, most))
    }

    def validate() -> float | None:
        # A scorer keeps the item vectors it has computed, so each look takes a new one.
        scorer = NeuralScorer(model, tuple(reads))
        with enough_memory("evaluation.batch"):
            return mean_ndcg(scorer, dataset, asked, config.evaluation)

    told = "".join([depends, *(x.mark for x in extra)])
    mark = _mark(model, events, asked, config, weights, told)
    with enough_memory("training.batch_events", "training.negatives", "model.max_length"):
        log = train(
            to_learn,
            validate,
            settings,
            seed=config.seed,
            label=label or name,
            folder=folder,
            mark=mark,
            tracking=Several([tracker(curves, config.tracking), *([watch] if watch else [])]),
        )
    return NeuralScorer(model, tuple(reads), name=name), log


def _mark(
    model: CoreModel,
    events: Events,
    asked: Mapping[int, Queries],
    config: Config,
    weights: Sequence[float],
    depends: str,
) -> str:
    """What the outcome of training depends on, the initial weights included, as a short text."""
    digest = hashlib.blake2b(digest_size=16)
    settings = {
        "model": model.config.model_dump(mode="json"),
        "training": config.training.model_dump(
            mode="json", exclude={"checkpoint_seconds", "threads"}
        ),
        "evaluation": config.evaluation.model_dump(mode="json"),
        "seed": config.seed,
        "weights": list(weights),
        "depends": depends,
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for array in (events.offsets, events.domain, events.item, events.time, events.weight):
        digest.update(array.tobytes())
    for domain, questions in asked.items():
        digest.update(f"{domain}:{len(questions)}".encode() + questions.position.tobytes())
    for tensor in (model.items.text, *model.state_dict().values()):
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
