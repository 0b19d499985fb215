"""How far domains are from each other by the item vectors that a model has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from isthmus.alignment.distance import DomainDistance
from isthmus.alignment.domains import find_pairs, pairs_of_texts
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel
from isthmus.transfer.system import System


@dataclass(frozen=True)
class LearnedDistance:
    """Distances of one pair of domains.

    Attributes:
        a, b: indices of the domains.
        pairs: pairs of items that the distance of pairs speaks of; a loss may have learnt of them.
        texts: of the texts as the language model gives them.
        aligned: of the same after the maps of features.
        initial: of the item vectors of the neural part before training.
        trained: of those after it.
    """

    a: int
    b: int
    pairs: int
    texts: DomainDistance
    aligned: DomainDistance
    initial: DomainDistance
    trained: DomainDistance

    @property
    def stages(self) -> dict[str, DomainDistance]:
        """All four, in the order in which they come about, by what they are of."""
        return {
            "texts": self.texts,
            "texts, aligned": self.aligned,
            "learned, before training": self.initial,
            "learned": self.trained,
        }


def learned_distances(
    dataset: Dataset, raw: Sequence[ItemFeatures], system: System, config: Config
) -> list[LearnedDistance]:
    """Measure every pair of domains that the transferred side knows.

    Text vectors are of the items with a text; learned ones, of items with a text or an event.

    Args:
        dataset: the snapshot.
        raw: text vectors as the language model gives them, per domain.
        system: fitted.
        config: as it was fitted; the seed gives the weights before training again.
    """
    trained = system.transferred.neural.model
    sizes = np.diff(trained.bounds)
    # What came later stands at the end, and the model knows none of it.
    raw, features = (
        [ItemFeatures(f.vectors[:n], f.present[:n]) for f, n in zip(vectors, sizes, strict=False)]
        for vectors in (raw, system.features)
    )
    evidence = trained.items.evidence.cpu().numpy()
    initial = CoreModel(features, evidence, trained.config, config.seed)
    kinds = (raw, features, *(_vectors(model, raw) for model in (initial, trained)))
    found = []
    for a, b in combinations(range(len(sizes)), 2):
        if min(int(raw[d].present.sum()) for d in (a, b)) < 2:
            continue
        pairs = find_pairs(raw, config, dataset, a, b)
        pairs = pairs[(pairs < sizes[[a, b]]).all(1)]
        each = []
        for vectors in kinds:
            rows = [vectors[d].vectors[vectors[d].present] for d in (a, b)]
            joined = pairs_of_texts(pairs, vectors[a], vectors[b])
            each.append(DomainDistance.measure(rows[0], rows[1], joined))
        found.append(LearnedDistance(a, b, len(pairs), *each))
    return found


@torch.inference_mode()
def _vectors(model: CoreModel, raw: Sequence[ItemFeatures]) -> list[ItemFeatures]:
    """Item vectors of a model, and which items it knows by a text or an event."""
    seen = model.items.evidence.cpu().numpy() > 0
    found = []
    for d, feature in enumerate(raw):
        vectors = model.eval().catalogue(d).float().cpu().numpy()
        known = feature.present | seen[model.bounds[d] : model.bounds[d + 1]]
        found.append(ItemFeatures(vectors, known))
    return found
