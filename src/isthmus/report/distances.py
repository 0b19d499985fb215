"""Distances of domains as a table's columns and cells."""

from __future__ import annotations

import numpy as np

from isthmus.alignment.distance import DomainDistance
from isthmus.experiment.schema import Distance

MEANINGS = {
    "MMD²": "squared maximum mean discrepancy with Gaussian kernels; 0: the two clouds look alike",
    "proxy-A": "how well a linear classifier tells the catalogues apart on held-out items; 0: as "
    "well as chance, 2: always",
    "covariance": "difference of the covariances as a share of the larger one",
    "pairs": "mean squared distance of items that belong together, as a share of that of any two",
    "cosine between": "mean cosine of an item of one catalogue and one of the other",
    "cosine within": "mean cosine of two items of one catalogue",
}
"""Columns, and what each says."""


def cells(distance: DomainDistance | Distance) -> list[str]:
    """Figures in the order of `MEANINGS`, as text."""
    figures = {
        "MMD²": (distance.mmd, 4),
        "proxy-A": (distance.proxy_a, 2),
        "covariance": (distance.coral, 3),
        "pairs": (distance.pairs, 3),
        "cosine between": (distance.between, 3),
        "cosine within": (distance.within, 3),
    }
    return [
        "–" if value is None or np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")
        for value, digits in figures.values()
    ]
