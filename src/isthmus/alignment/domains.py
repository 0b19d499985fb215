"""Feature alignment over any number of domains: text vectors in, what the item tower reads out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.alignment.features import Whitening, shared_axes
from isthmus.config import Config
from isthmus.data.features import ItemFeatures


def align_features(raw: Sequence[ItemFeatures], config: Config) -> list[ItemFeatures]:
    """Text vectors of every domain, aligned as configured, entries of about unit size.

    Args:
        raw: vectors as the language model gives them, one per domain and of one width.
        config: `alignment` and `language.whiten_dim` are read.

    Returns:
        One per domain, all of one width; rows without a text stay zero and masked.
    """
    dim = config.language.whiten_dim
    shared = config.alignment.basis == "shared"
    axes = shared_axes([f.vectors[f.present] for f in raw], dim) if shared else None
    features = []
    for feature in raw:
        if not feature.present.any():
            # As wide as the others, since one table holds the vectors of all domains.
            width = min(dim, feature.dim)
            features.append(ItemFeatures(feature.vectors[:, :width], feature.present))
            continue
        whitening = Whitening.fit(
            feature.vectors, feature.present, dim=dim, kind="zca" if shared else "pca", axes=axes
        )
        vectors = whitening.transform(feature.vectors, feature.present)
        vectors = vectors * np.float32(vectors.shape[1] ** 0.5)
        features.append(ItemFeatures(vectors, feature.present))
    return features
