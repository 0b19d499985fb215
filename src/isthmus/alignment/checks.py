"""What can be refused before anything long begins, whatever the texts will say."""

from __future__ import annotations

from isthmus.alignment.domains import unknown_anchor, usable_maps
from isthmus.alignment.pairs import read_pairs
from isthmus.alignment.representations import ITEMS, PEOPLE, loss_class, must_have_company
from isthmus.config import Config
from isthmus.data.dataset import Dataset


def check_alignment(dataset: Dataset, config: Config) -> None:
    """Look up every map, loss, domain and pair that the alignment names.

    Raises:
        ConfigError: a map or a loss that cannot be found or used, an anchor that is no domain, or
            a single domain for something that takes two.
        DataError: a file of pairs that cannot be read or names what the dataset does not hold.
    """
    settings = config.alignment
    if settings.anchor is not None and settings.anchor not in dataset.names:
        raise unknown_anchor(settings.anchor, dataset.names)
    usable_maps(config, len(dataset.domains))
    must_have_company(dataset, config)
    for where, table in (
        (ITEMS, settings.representations),
        (PEOPLE, settings.user_representations),
    ):
        for name in table:
            loss_class(name, where)
    if settings.pairs is not None:
        read_pairs(settings.pairs, dataset)
