"""What can be refused before anything long begins, whatever the texts will say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from isthmus.alignment.domains import (
    anchor_domain,
    must_be_pairable,
    no_text,
    unknown_anchor,
    usable_maps,
)
from isthmus.alignment.pairs import read_pairs
from isthmus.alignment.representations import (
    ITEMS,
    PEOPLE,
    loss_class,
    must_have_company,
    must_share_people,
)
from isthmus.config import Config
from isthmus.data.dataset import Dataset, Events
from isthmus.data.features import ItemFeatures


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


def check_maps(dataset: Dataset, config: Config) -> None:
    """Whether each map of features has the texts and the pairs that it needs.

    Raises:
        DataError: a domain without any text, or two domains that nothing can join.
    """
    texts = _texts(dataset)
    if not any(each.present.any() for each in texts):
        return
    anchor = anchor_domain(texts, config, dataset)
    kinds = usable_maps(config, len(texts))
    for name, kind in zip(config.alignment.features, kinds, strict=True):
        if getattr(kind, "moves_anchor", False):
            continue
        for d in range(len(texts)):
            if not texts[d].present.any():
                raise no_text(dataset.names[d], name)
            if d == anchor:
                continue
            if getattr(kind, "needs_pairs", False):
                must_be_pairable(texts, config, dataset, d, anchor)


def check_losses(dataset: Dataset, events: Events, config: Config, reads: Sequence[int]) -> None:
    """Whether the losses on representations have the people and the pairs that they need.

    Args:
        dataset: the snapshot.
        events: training events.
        config: `alignment` is read.
        reads: the domains that one stage of training reads.

    Raises:
        DataError: too few people in both of two domains, or two domains that nothing can join.
    """
    if len(reads) < 2:
        return
    settings, texts = config.alignment, _texts(dataset)
    anchor = anchor_domain(texts, config, dataset, reads)
    for d in sorted({*reads} - {anchor}):
        if _any_needs_pairs(settings.user_representations, PEOPLE):
            must_share_people(events, dataset, anchor, d)
        if _any_needs_pairs(settings.representations, ITEMS):
            must_be_pairable(texts, config, dataset, anchor, d)


def _any_needs_pairs(names: Iterable[str], where: str) -> bool:
    return any(getattr(loss_class(name, where), "needs_pairs", False) for name in names)


def _texts(dataset: Dataset) -> list[ItemFeatures]:
    """Which items have a text, before there is a vector of any."""
    held = [domain.items["text"].is_not_null().to_numpy() for domain in dataset.domains]
    return [ItemFeatures(np.zeros((len(there), 0), np.float32), there) for there in held]
