"""A recommender over a larger snapshot: as it is, or gone on learning."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.continual.challenger import challenge
from isthmus.continual.grow import grown_features, grown_system, rows_to_read, up_to_date
from isthmus.continual.judge import Verdict
from isthmus.continual.progress import Progress
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.growth import Growth
from isthmus.data.splits import Split
from isthmus.errors import ConfigError, DataError, RequestError
from isthmus.recommender.encoding import Encoder, encoder_of
from isthmus.recommender.storage import LogPosition
from isthmus.threads import one_thread_for_blas

if TYPE_CHECKING:
    from isthmus.recommender.facade import Recommender

_log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Snapshot:
    """A larger snapshot, and what a recommender knows of it.

    Attributes:
        dataset: with everything that has come.
        split: the recommender's, about this snapshot; what is in training was learnt.
        fresh: int64 [n] positions of events that have come.
        log: how far it has followed which event log.
        guided: int64 [n] positions of events that answer a recommendation; None: none does.
    """

    dataset: Dataset
    split: Split
    fresh: NDArray[np.int64]
    log: LogPosition | None
    guided: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        recommender: Recommender,
        growth: Growth | None,
        guided: NDArray[np.int64] | None = None,
    ) -> Snapshot:
        """The recommender's own snapshot, grown; None: by nothing.

        Raises:
            DataError: the growth is not of this recommender's dataset.
        """
        before, split = recommender.dataset, recommender.split
        if growth is None:
            return cls(before, split, np.empty(0, np.int64), recommender.log)
        _belongs(before, growth.dataset)
        moved = growth.split(split)
        return cls(growth.dataset, moved, growth.fresh, recommender.log, guided)


def grown(recommender: Recommender, snapshot: Snapshot, encoder: Encoder | None) -> Recommender:
    """The same weights over a larger snapshot; see `Recommender.grown`."""
    if joined := recommender.system.joined:
        names = ", ".join(recommender.dataset.names[d] for d in sorted(joined))
        raise RequestError(
            f"{names} joined this model after it was fitted, and what joined cannot go on learning",
            where="update",
            hint=f"Fit all domains together with 'isthmus fit', or teach {names} with "
            "'isthmus adapt-domain'",
        )

    def encode(domain: str, texts: Sequence[str | None]) -> ItemFeatures:
        return encoder_of(recommender.config, encoder, domain).encode(texts)

    fitted_items = recommender.fitted_items
    rows = rows_to_read(recommender.dataset, snapshot.dataset, fitted_items)
    raw = grown_features(recommender.raw, snapshot.dataset, rows, encode)
    system = grown_system(
        recommender.system,
        recommender.dataset,
        snapshot.dataset,
        raw,
        recommender.config,
        fitted_items=fitted_items,
        rows=rows,
    )
    # New events were not learnt: they are what the next update learns from.
    in_train = snapshot.split.in_train.copy()
    in_train[snapshot.fresh] = False
    return type(recommender)(
        snapshot.dataset,
        recommender.config,
        replace(snapshot.split, in_train=in_train),
        raw,
        up_to_date(system, snapshot.dataset),
        snapshot.log,
        replace(recommender.progress, fitted_items=fitted_items),
    )


def updated(
    recommender: Recommender,
    snapshot: Snapshot,
    encoder: Encoder | None,
    *,
    full: bool,
    folder: Path | None,
    settings: Sequence[str] = (),
) -> Update:
    """A challenger; see `Recommender.update`."""
    config = learning_as(recommender.config, settings)
    if idle := config.learning.without_effect():
        _log.warning(
            "Without effect while learning.passes is 0, since networks do not learn then: %s",
            ", ".join(f"learning.{name}" for name in idle),
        )
    champion = grown(recommender, snapshot, encoder)
    # Most updates run beside a service, which needs the other cores.
    with one_thread_for_blas():
        found = challenge(
            champion.system,
            champion.dataset,
            champion.split.in_train,
            snapshot.fresh,
            champion.raw,
            config,
            champion.progress,
            guided=snapshot.guided,
            full=full,
            folder=folder,
        )
    progress = replace(found.progress, settings=tuple(settings))
    successor = type(recommender)(
        champion.dataset,
        champion.config,
        found.split,
        champion.raw,
        found.system,
        champion.log,
        progress,
    )
    return Update(successor, found.verdict, progress)


def learning_as(config: Config, settings: Sequence[str]) -> Config:
    """The configuration with keys of its `learning` set otherwise, as `learning.passes=1`.

    Raises:
        ConfigError: another key, which a fitted model cannot change, or a value that cannot be.
    """
    for setting in settings:
        key, equals, _ = setting.partition("=")
        if equals and not key.strip().startswith("learning."):
            raise ConfigError(
                f"{key.strip()!r} is settled when a model is fitted",
                where="--set",
                hint="An update can change keys of learning alone, such as learning.passes=1",
            )
    return config.override(*settings) if settings else config


def _belongs(old: Dataset, new: Dataset) -> None:
    hint = "Grow the model's own dataset, with isthmus.data.appending.append_events"
    if new.names != old.names:
        raise DataError(
            f"the larger snapshot holds {', '.join(new.names)}, and the model's own "
            f"{', '.join(old.names)}",
            where="growth",
            hint=hint,
        )
    if not new.user_ids.head(old.n_users).equals(old.user_ids):
        raise DataError("people are not numbered as the model's are", where="growth", hint=hint)
    for before, after in zip(old.domains, new.domains, strict=True):
        ids = before.items["item_id"]
        if not after.items["item_id"].head(len(ids)).equals(ids):
            raise DataError(
                "its items are not numbered as the model's are", where=after.name, hint=hint
            )
