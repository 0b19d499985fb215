"""A small generated world, a model of its beginning, and the rest of it as growth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.growth import Growth
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.recommender import Recommender
from word_encoder import WordEncoder

BOOKS, GEAR = 0, 1


def settings(*overrides: str) -> Config:
    """A narrow model that learns fast."""
    usual = {
        "model": {"dim": 16, "layers": 1, "heads": 2, "max_length": 20, "adapter_rank": 2},
        "training": {
            "epochs": 4,
            "evaluate_every": 2,
            "batch_events": 512,
            "negatives": 48,
            "learning_rate": 6e-3,
            "device": "cpu",
            "checkpoint_seconds": 0,
        },
        "evaluation": {"bootstrap": 100, "min_slice": 20, "cutoffs": [10]},
        "language": {"whiten_dim": 16},
        "learning": {"passes": 2, "rate": 0.5, "drift": False},
    }
    return Config.model_validate(usual).override(*overrides)


@cache
def whole() -> Dataset:
    domains = (
        DomainSpec(name="books", n_items=90, events_per_user=12),
        DomainSpec(name="gear", n_items=70, events_per_user=7),
    )
    world = WorldConfig(n_users=240, n_themes=6, domains=domains, missing_text=0.05, seed=3)
    return generate_world(world).dataset


def moment(share: float) -> float:
    """The time before which a share of the events lies."""
    return float(np.quantile(whole().events.time, share, method="higher"))


def until(share: float) -> Dataset:
    """The world's beginning."""
    return replace(whole(), events=whole().events.keep(whole().events.time < moment(share)))


def growth(before: float, after: float) -> Growth:
    """From one share of the events to a larger one."""
    time = whole().events.time
    end = np.inf if after == 1 else moment(after)
    old = (time < moment(before))[time < end]
    dataset = replace(whole(), events=whole().events.keep(time < end))
    return Growth(dataset, np.flatnonzero(old), np.flatnonzero(~old))


@cache
def base() -> Recommender:
    """Fitted to the first 60 % of the events; never changed by a test."""
    return Recommender.fit(until(0.6), settings(), encoder=WordEncoder())


def with_settings(recommender: Recommender, *overrides: str) -> Recommender:
    """The same model, configured otherwise."""
    return Recommender(
        recommender.dataset,
        recommender.config.override(*overrides),
        recommender.split,
        recommender.raw,
        recommender.system,
        recommender.log,
        recommender.progress,
    )


def scores(recommender: Recommender, domain: int) -> NDArray[np.float32]:
    """What the served system says to everybody of one domain, [n_users, n_items]."""
    from isthmus.scoring import Requests

    people = Requests.of_users(recommender.dataset, np.arange(recommender.dataset.n_users))
    return recommender.system.gated.score(people, domain).total
