"""Losses of ranking, and how losses of several domains become one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def sampled_softmax(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    n_items: int,
    collisions: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the answer against shared uniform negatives.

    The negatives stand for the whole catalogue: each logit gets log(n_items / n_negatives), so the
    loss estimates the full softmax (Bengio and Senécal 2008) and its size does not depend on how
    many are drawn.

    Args:
        queries: [n, dim].
        positives: [n, dim] vectors of the answers.
        negatives: [m, dim] vectors drawn uniformly from the answers' catalogue.
        n_items: size of that catalogue.
        collisions: bool [n, m], true where a negative is the answer itself.

    Returns:
        [n] nats.
    """
    answer = (queries * positives).sum(1)
    others = queries @ negatives.T
    if collisions is not None:
        others = others.masked_fill_(collisions, -torch.inf)
    weight = math.log(n_items / len(negatives))
    return torch.logaddexp(answer, others.logsumexp(1) + weight) - answer


def full_softmax(queries: Tensor, catalogue: Tensor, answer: Tensor, chunk: int = 8192) -> Tensor:
    """Cross-entropy of the answer against the whole catalogue, in chunks of items.

    Args:
        queries: [n, dim].
        catalogue: [n_items, dim].
        answer: int64 [n] index into the catalogue.
        chunk: items whose logits exist at once.

    Returns:
        [n] nats.
    """
    parts = [
        (queries @ catalogue[start : start + chunk].T).logsumexp(1)
        for start in range(0, len(catalogue), chunk)
    ]
    positive = (queries * F.embedding(answer, catalogue)).sum(1)
    return torch.stack(parts).logsumexp(0) - positive


def sum_of_means(
    losses: Mapping[int, Tensor], weights: Mapping[int, float] | None = None
) -> Tensor:
    """L = mean over domain 1 + mean over domain 2 + …, so that no domain counts by its size.

    Args:
        losses: [n] per example, by domain.
        weights: of a domain's mean, 1 where not named.

    Returns:
        A scalar.
    """
    scale = weights or {}
    return torch.stack([scale.get(d, 1.0) * of.mean() for d, of in losses.items()]).sum()
