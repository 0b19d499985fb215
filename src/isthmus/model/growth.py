"""A trained core model for more domains than it was trained on.

Nothing that it knows changes. A domain that joins is read and asked about as, on average, the
trained ones are; its items are known by their texts, since an ID without evidence is never read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel


@torch.no_grad()
def with_domains(
    model: CoreModel,
    features: Sequence[ItemFeatures],
    *,
    read: Sequence[int],
    asked: Sequence[int],
    evidence: NDArray[np.float32] | None = None,
) -> CoreModel:
    """A copy of `model` that knows further domains; IDs of their items start from zero.

    Args:
        model: trained; it is not changed.
        features: aligned text vectors of all domains, those of the model first.
        read: domains whose events it was trained to read; others are read like their mean.
        asked: domains that it was trained to be asked about, likewise.
        evidence: float32 [n_items] events that IDs may be trusted by, of all domains; None: as the
            model has it, and none for what joins.
    """
    before = model.items.evidence.cpu().numpy()
    if evidence is None:
        more = sum(len(f) for f in features) - len(before)
        evidence = np.concatenate([before, np.zeros(more, np.float32)])
    grown = CoreModel(features, evidence, model.config, seed=0)
    trained = model.state_dict()
    weights = {name: _extended(w, trained.get(name)) for name, w in grown.state_dict().items()}
    grown.load_state_dict(weights)
    for domain in range(len(features)):
        if domain not in read:
            grown.borrow_reading(domain, read)
            grown.items.table[grown.bounds[domain] : grown.bounds[domain + 1]] = 0
        if domain not in asked:
            grown.borrow_asking(domain, asked)
    return grown.to(model.items.table.device).eval()


def _extended(fresh: Tensor, trained: Tensor | None) -> Tensor:
    """Trained weights, with rows of zeros for what joins; what is all new stays as it is."""
    if trained is None:
        return fresh
    if trained.shape == fresh.shape:
        return trained
    out = torch.zeros_like(fresh)
    out[: len(trained)] = trained
    return out
