"""The people: who acts where, their means and nerves, their friends and their circles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.world.spec import WorldConfig
from isthmus.data.world.streams import stream
from isthmus.data.world.tastes import Tastes
from isthmus.data.world.themes import Theme

_AGE_GROUPS = ("18-29", "30-44", "45-59", "60+")
# Share of links made to people of the same leading interest; the rest are made anywhere.
_ALIKE = 0.8


@dataclass(frozen=True)
class People:
    """What is true of each user whatever the domain; all arrays are [n_users].

    Attributes:
        ids: raw user ids.
        joined: float64, Unix seconds.
        budget: float32; standardised log price above which an item feels dear.
        tolerance: float32; 1 to 5, risk above it puts off.
        activity: float32; mean 1, how much more than others a user does.
        generosity: float32; stars added to every rating.
        everywhere: bool; active in all domains.
    """

    ids: NDArray[np.str_]
    joined: NDArray[np.float64]
    budget: NDArray[np.float32]
    tolerance: NDArray[np.float32]
    activity: NDArray[np.float32]
    generosity: NDArray[np.float32]
    everywhere: NDArray[np.bool_]


def populate(config: WorldConfig) -> People:
    """Draw the people."""
    rng = stream(config.seed, "people")
    n = config.n_users
    width = max(5, len(str(n - 1)))
    return People(
        ids=np.array([f"u{i:0{width}d}" for i in range(n)]),
        joined=config.start + rng.random(n) * 0.6 * config.days * 86_400.0,
        budget=rng.normal(0.7, 0.8, n).astype(np.float32),
        tolerance=rng.integers(1, 6, n).astype(np.float32),
        activity=rng.gamma(2.0, 0.5, n).astype(np.float32),
        generosity=rng.normal(0.0, 0.4, n).astype(np.float32),
        everywhere=rng.random(n) < config.overlap,
    )


def active(config: WorldConfig, people: People) -> dict[str, NDArray[np.bool_]]:
    """Who acts in each domain, bool [n_users]: everybody in all, or in the one they keep to.

    The busier a domain, the more people keep to it.
    """
    pull = [
        np.log(spec.events_per_user)
        + stream(config.seed, spec.name, "home").gumbel(size=config.n_users)
        for spec in config.domains
    ]
    home = np.argmax(pull, axis=0)
    return {name: people.everywhere | (home == i) for i, name in enumerate(config.names)}


def attributes(config: WorldConfig, people: People) -> pl.DataFrame:
    """What the shop knows of its users: columns user_id, joined, age_group, budget,
    risk_tolerance. Age has no bearing on taste."""
    age = stream(config.seed, "age").choice(4, config.n_users, p=[0.28, 0.32, 0.25, 0.15])
    return pl.DataFrame(
        {
            "user_id": people.ids,
            "joined": people.joined.astype(np.int64),
            "age_group": np.array(_AGE_GROUPS)[age],
            "budget": np.round(40 * np.exp(people.budget - 0.7), 0),
            "risk_tolerance": people.tolerance.astype(np.int8),
        }
    )


def friendships(config: WorldConfig, people: People, tastes: Mapping[str, Tastes]) -> pl.DataFrame:
    """Links between people of like taste: columns user_id, other_id, each pair once."""
    rng = stream(config.seed, "friends")
    n = config.n_users
    if n < 2:
        return pl.DataFrame(schema={"user_id": pl.String, "other_id": pl.String})
    leading = np.argmax(_interests(tastes), axis=1)
    maker = np.repeat(np.arange(n), rng.poisson(config.friends_per_user, n))
    by_interest = np.argsort(leading, kind="stable")
    counts = np.bincount(leading, minlength=leading.max() + 1)
    first = np.cumsum(counts) - counts
    group = leading[maker]
    like = by_interest[first[group] + (rng.random(len(maker)) * counts[group]).astype(np.int64)]
    other = np.where(rng.random(len(maker)) < _ALIKE, like, rng.integers(0, n, len(maker)))
    pairs = np.stack([np.minimum(maker, other), np.maximum(maker, other)], axis=1)
    pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    return pl.DataFrame({"user_id": people.ids[pairs[:, 0]], "other_id": people.ids[pairs[:, 1]]})


def memberships(
    config: WorldConfig,
    people: People,
    tastes: Mapping[str, Tastes],
    themes: tuple[Theme, ...],
) -> pl.DataFrame:
    """Circles of a theme that people join by interest: columns user_id, group_id."""
    rng = stream(config.seed, "groups")
    n = config.n_users
    member = np.repeat(np.arange(n), rng.integers(0, 4, n))
    cumulated = np.cumsum(_interests(tastes), axis=1)[member]
    theme = (cumulated <= rng.random(len(member))[:, None] * cumulated[:, -1:]).sum(axis=1)
    # Three circles a theme, such as coffee-circle-2.
    names = np.array([theme.name.lower().replace(" ", "-") for theme in themes])
    circle = rng.integers(1, 4, len(member)).astype(str)
    group = np.char.add(np.char.add(names[theme], "-circle-"), circle)
    return pl.DataFrame({"user_id": people.ids[member], "group_id": group}).unique(
        maintain_order=True
    )


def _interests(tastes: Mapping[str, Tastes]) -> NDArray[np.float64]:
    """Shares of interest in each theme, over all domains and times, [n_users, n_themes]."""
    return np.asarray(np.mean([taste.theme.mean(axis=1) for taste in tastes.values()], axis=0))
