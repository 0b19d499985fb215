"""A fitted recommender on a small world of rated and shown items, for tests nearby."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "recommender"))

from recommender_world import quick_config, small_world

from isthmus.config import Config
from isthmus.recommender import Recommender
from word_encoder import WordEncoder

TASKS = {"hidden": 8, "epochs": 6, "batch": 256}


def task_config(**sections: object) -> Config:
    """Quick settings with a narrow shared part."""
    return quick_config(**{"tasks": TASKS, **sections})


@cache
def once() -> Recommender:
    """Fitted and taught nothing; not to be changed."""
    world = small_world(300)
    assert world.impressions is not None
    shown = world.impressions.sample(20_000, seed=0)
    return Recommender.fit(replace(world, impressions=shown), task_config(), encoder=WordEncoder())


def fresh(*, impressions: bool = True) -> Recommender:
    """The same, to be taught."""
    usual = once()
    dataset = usual.dataset if impressions else replace(usual.dataset, impressions=None)
    return Recommender(dataset, usual.config, usual.split, usual.raw, usual.system)
