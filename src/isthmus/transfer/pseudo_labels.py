"""Pseudo-labels: what a model is sure that somebody would want next, as if it had happened.

Only training events go in: neither an answer that is held back nor the fact that it is one can
change a label.

Source: Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
Networks", ICML 2013 workshop; here on items instead of classes, weighted by confidence.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.dataset import Dataset, Events
from isthmus.data.splits import user_hash
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Requests
from isthmus.transfer.stages import PseudoLabel

RIVALS = 10
"""Best items among which the best one's share of the probability is its confidence."""


def with_pseudo_labels(
    scorer: NeuralScorer, dataset: Dataset, events: Events, stage: PseudoLabel, config: Config
) -> Events:
    """Training events with confident next items of people who have little history.

    Args:
        scorer: predicts.
        dataset: the snapshot.
        events: training events, without any pseudo-label.
        stage: whom to label, and how sure one must be.
        config: `evaluation.batch` and `max_history` are read.

    Returns:
        The events, each label after all else of its person's and at the same time as the last.
    """
    found = [_labels(scorer, dataset, events, d, stage, config) for d in stage.domains]
    user, domain, item, weight = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.argsort(np.concatenate([events.user, user]), kind="stable")
    time = events.time[events.offsets[user + 1] - 1]

    def column(own: NDArray[np.generic], new: object) -> NDArray[np.generic]:
        return np.concatenate([own, np.broadcast_to(np.asarray(new, own.dtype), user.shape)])[order]

    return Events(
        offsets=events.offsets
        + np.concatenate([[0], np.cumsum(np.bincount(user, minlength=events.n_users))]),
        domain=column(events.domain, domain),  # type: ignore[arg-type]
        item=column(events.item, item),  # type: ignore[arg-type]
        time=column(events.time, time),  # type: ignore[arg-type]
        kind=column(events.kind, 0),  # type: ignore[arg-type]
        rating=column(events.rating, np.nan),  # type: ignore[arg-type]
        weight=column(events.weight, weight),  # type: ignore[arg-type]
    )


def _labels(
    scorer: NeuralScorer,
    dataset: Dataset,
    events: Events,
    domain: int,
    stage: PseudoLabel,
    config: Config,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """User, domain, item and weight of each label in one domain."""
    own = events.user[events.domain == domain]
    known = np.bincount(own, minlength=events.n_users)
    asked = np.flatnonzero((np.diff(events.offsets) > 0) & (known < stage.fewer_than))
    trained_on = replace(dataset, events=events)
    size = config.evaluation.batch
    best = np.zeros(len(asked), np.int64)
    confidence = np.zeros(len(asked))
    for start in range(0, len(asked), size):
        users = asked[start : start + size]
        requests = Requests.of_users(trained_on, users, max_history=config.evaluation.max_history)
        part = slice(start, start + len(users))
        best[part], confidence[part] = _surest(scorer, requests, domain)
    salt = user_hash(dataset.user_ids.gather(asked).to_list(), stage.name)
    surest = np.lexsort((salt, -confidence))
    kept = surest[confidence[surest] >= stage.confidence][: int(stage.most * len(own))]
    kept = np.sort(kept)
    return (
        asked[kept],
        np.full(len(kept), domain, np.int64),
        best[kept],
        stage.weight * confidence[kept],
    )


def _surest(
    scorer: NeuralScorer, requests: Requests, domain: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best unseen item of each request and its share among the `RIVALS` best.

    One that ties with another is not known at all, and its share is 0.
    """
    logits = torch.from_numpy(scorer.score(requests, domain).total.astype(np.float64))
    own = requests.domain == domain
    logits[requests.rows[own], requests.item[own].astype(np.int64)] = -torch.inf
    top = logits.topk(min(RIVALS, logits.shape[1]), dim=1)
    share = top.values.softmax(1)[:, 0].nan_to_num(0.0)
    if top.values.shape[1] > 1:
        share = torch.where(top.values[:, 0] > top.values[:, 1], share, 0.0)
    return top.indices[:, 0].numpy(), share.numpy()
