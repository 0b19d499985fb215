"""Which validation questions weigh the parts of a blend, and judge it."""

from __future__ import annotations

from isthmus.config import BlendConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split


def judges(split: Split, dataset: Dataset, domain: int, config: BlendConfig) -> Queries:
    """The validation questions that weigh a blend and set the gate in `domain`.

    The half that stopped the training joins in where the other alone is too small to tell: it chose
    among epochs for both sides alike, and with a few hundred questions noise is the larger error.
    """
    about = dataset.events.domain[split.tuning.position] == domain
    return split.tuning if about.sum() >= config.enough_questions else split.validation
