"""A recommender over a larger snapshot: as it is, or gone on learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.continual.challenger import challenge
from isthmus.continual.grow import Encode, grown_features, grown_system
from isthmus.continual.judge import Verdict
from isthmus.continual.progress import Progress
from isthmus.data.features import ItemFeatures
from isthmus.data.growth import Growth
from isthmus.errors import DataError

if TYPE_CHECKING:
    from isthmus.recommender.facade import Recommender


@dataclass(frozen=True)
class Update:
    """What came of an update.

    Attributes:
        recommender: the challenger; whoever serves goes on with the old one where it is worse.
        verdict: whether it may go live, and why.
        progress: what it learnt, and what that took.
    """

    recommender: Recommender
    verdict: Verdict
    progress: Progress


def grown(recommender: Recommender, growth: Growth, encode: Encode | None) -> Recommender:
    """The same weights over a larger snapshot; see `Recommender.grown`."""
    before = recommender.dataset
    _belongs(recommender, growth)
    raw = grown_features(recommender.raw, growth.dataset, encode or _configured(recommender))
    fitted_items = recommender.progress.fitted_items or tuple(len(r) for r in recommender.raw)
    system = grown_system(
        recommender.system,
        before,
        growth.dataset,
        raw,
        recommender.config,
        fitted_items=fitted_items,
    )
    split = growth.split(recommender.split)
    # New events were not learnt: they are what the next update learns from.
    in_train = split.in_train.copy()
    in_train[growth.fresh] = False
    return type(recommender)(
        growth.dataset,
        recommender.config,
        replace(split, in_train=in_train),
        raw,
        system,
        recommender.log,
        replace(recommender.progress, fitted_items=fitted_items),
    )


def updated(
    recommender: Recommender,
    growth: Growth,
    encode: Encode | None,
    *,
    full: bool,
    folder: Path | None,
) -> Update:
    """A challenger; see `Recommender.update`."""
    champion = grown(recommender, growth, encode)
    found = challenge(
        champion.system,
        champion.dataset,
        champion.split.in_train,
        growth.fresh,
        champion.raw,
        champion.config,
        champion.progress,
        full=full,
        folder=folder,
    )
    successor = type(recommender)(
        champion.dataset,
        champion.config,
        found.split,
        champion.raw,
        found.system,
        champion.log,
        found.progress,
    )
    return Update(successor, found.verdict, found.progress)


def nothing_new(recommender: Recommender) -> Growth:
    """The snapshot as it is, grown by nothing."""
    n_events = len(recommender.dataset.events)
    none: NDArray[np.int64] = np.empty(0, np.int64)
    return Growth(recommender.dataset, np.arange(n_events), none)


def _belongs(recommender: Recommender, growth: Growth) -> None:
    old, new = recommender.dataset, growth.dataset
    grown_names, grown_ids = new.names, new.user_ids.head(old.n_users)
    if grown_names != old.names or not grown_ids.equals(old.user_ids):
        raise DataError(
            f"the larger snapshot holds {', '.join(grown_names)} and is none of this model's, "
            f"which holds {', '.join(old.names)}",
            hint="Grow the model's own dataset, with isthmus.data.growth.add_events",
        )
    for before, after in zip(old.domains, new.domains, strict=True):
        ids = before.items["item_id"]
        if not after.items["item_id"].head(len(ids)).equals(ids):
            raise DataError(
                "its items are not numbered as the model's are",
                where=after.name,
                hint="Grow the model's own dataset, with isthmus.data.growth.add_events",
            )


def _configured(recommender: Recommender) -> Encode:
    """The configured language model, loaded when the first text asks for it."""

    def encode(texts: Sequence[str | None]) -> ItemFeatures:
        from isthmus.language import TextEncoder

        config = recommender.config
        encoder = TextEncoder.load(config.language, device=config.training.device)
        return encoder.encode(texts)

    return encode
