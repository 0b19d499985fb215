"""What a cross-domain baseline needs of the data, asked before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.data.dataset import Dataset, Events
from isthmus.errors import ConfigError


def need_shared_people(name: str, dataset: Dataset, events: Events, target: int) -> None:
    """Refuse a target that shares no person with any other domain.

    Args:
        name: of the baseline, for the message.
        dataset: the snapshot.
        events: what may be learned from.
        target: index of the domain that is asked about.

    Raises:
        ConfigError: one domain only, or nobody with events in the target and in another domain.
    """
    _need_several(name, dataset)
    own = events.domain == target
    if not np.isin(events.user[own], events.user[~own]).any():
        raise ConfigError(
            f"it carries over by people in common, and nobody with training events in "
            f"{dataset.names[target]} has any in another domain",
            where=f"baseline {name}",
            hint="Link their ids with people.mapping, or leave it out of --baselines",
        )


def need_texts(name: str, dataset: Dataset, told: Sequence[bool], target: int) -> None:
    """Refuse a target, or other domains, without any text.

    Args:
        name: of the baseline, for the message.
        dataset: the snapshot.
        told: of each domain, whether any item has a text.
        target: index of the domain that is asked about.

    Raises:
        ConfigError: one domain only, or nothing to read on one side.
    """
    _need_several(name, dataset)
    if not told[target] or sum(told) < 2:
        without = "any other domain" if told[target] else dataset.names[target]
        raise ConfigError(
            f"it carries over by texts, and no item of {without} has one",
            where=f"baseline {name}",
            hint="Map a title column under catalogue, or leave it out of --baselines",
        )


def _need_several(name: str, dataset: Dataset) -> None:
    if len(dataset.domains) == 1:
        raise ConfigError(
            f"it carries over from other domains, and {dataset.names[0]} is the only one",
            where=f"baseline {name}",
            hint="Add a second domain, or leave it out of --baselines",
        )
