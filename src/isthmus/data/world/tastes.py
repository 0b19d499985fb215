"""What people like, domain by domain: the truth that behaviour only hints at.

Log tastes are Gaussian. Each interest of a person is carried through all domains with the chance
that is the transfer dial, and is drawn anew in every domain otherwise: so log tastes in two
domains correlate as the dial says, and a single domain looks alike whatever it says. Over time
tastes follow a stationary walk whose step is the drift dial.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.data.world.spec import WorldConfig
from isthmus.data.world.streams import stream
from isthmus.data.world.themes import TOPICS_PER_THEME, Theme, relatedness

N_STYLES = 8
# One point of the walk a quarter: seasons are how slowly a hobby comes and goes.
_DAYS_PER_STEP = 91.25
_TOPIC_FOCUS = 1.5


@dataclass(frozen=True)
class Tastes:
    """Tastes of all users in one domain.

    Attributes:
        theme: float32 [n_users, n_steps, n_themes]; shares of interest at each point of the walk,
            rows sum to 1. One step where nothing drifts.
        topic: float32 [n_users, n_themes, TOPICS_PER_THEME]; shares within a theme.
        style: float32 [n_users, N_STYLES]; liking of what no text tells.
        start: Unix seconds of the first point of the walk.
    """

    theme: NDArray[np.float32]
    topic: NDArray[np.float32]
    style: NDArray[np.float32]
    start: float

    def of_topic(
        self,
        user: NDArray[np.int64],
        topic: NDArray[np.int64],
        time: NDArray[np.float64] | float,
    ) -> NDArray[np.float32]:
        """Share of interest of each user in each topic at each time, float32 [n]."""
        theme, part = np.divmod(topic, TOPICS_PER_THEME)
        before, after, share = self._between(time)
        interest = self.theme[user, before, theme] * (1 - share)
        interest += self.theme[user, after, theme] * share
        return np.asarray(interest * self.topic[user, theme, part], np.float32)

    def at(self, users: NDArray[np.int64], time: float) -> NDArray[np.float32]:
        """Shares of interest in all topics, float32 [len(users), n_topics]; rows sum to 1."""
        before, after, share = self._between(time)
        interest = self.theme[users, before] * (1 - share) + self.theme[users, after] * share
        shares = interest[:, :, None] * self.topic[users]
        return np.asarray(shares.reshape(len(users), -1), np.float32)

    def draw_topic(
        self, user: NDArray[np.int64], time: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """One topic per row, drawn by the user's shares at that time, int64 [n]."""
        before, after, share = self._between(time)
        step = np.where(rng.random(len(user)) < share, after, before)
        theme = _draw(self.theme[user, step], rng)
        return theme * TOPICS_PER_THEME + _draw(self.topic[user, theme], rng)

    def _between(
        self, time: NDArray[np.float64] | float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """The points of the walk on either side of a time, and how far it is between them."""
        last = self.theme.shape[1] - 1
        place = np.clip((np.asarray(time) - self.start) / (_DAYS_PER_STEP * 86_400), 0, last)
        before = np.floor(place).astype(np.int64)
        return before, np.minimum(before + 1, last), (place - before).astype(np.float32)


def draw_tastes(config: WorldConfig, themes: tuple[Theme, ...]) -> dict[str, Tastes]:
    """Tastes of every user in every domain."""
    near = relatedness(themes)
    base = 0.5 * stream(config.seed, "themes", "popularity").standard_normal(len(themes))
    shared = _Latent(config, near, "person")
    rng = stream(config.seed, "person", "carried")
    # Uniform draws against the dial: what a low dial carries, a higher one carries too.
    theme_carried = rng.random((config.n_users, len(themes))) < config.transfer
    style_carried = rng.random((config.n_users, N_STYLES)) < config.transfer
    tastes = {}
    for name in config.names:
        own = _Latent(config, near, name)
        theme = np.where(theme_carried[:, None, :], shared.theme, own.theme)
        topic = np.where(theme_carried[:, :, None], shared.topic, own.topic)
        tastes[name] = Tastes(
            theme=_softmax(config.focus * theme + base),
            topic=_softmax(_TOPIC_FOCUS * topic),
            style=np.where(style_carried, shared.style, own.style),
            start=config.start,
        )
    return tastes


class _Latent:
    """Standard normal log tastes of one stream; float32, shapes as in `Tastes`."""

    def __init__(self, config: WorldConfig, near: NDArray[np.float64], name: str) -> None:
        rng = stream(config.seed, name, "taste")
        n, n_themes = config.n_users, len(near)
        self.topic = rng.standard_normal((n, n_themes, TOPICS_PER_THEME), np.float32)
        self.style = rng.standard_normal((n, N_STYLES), np.float32)
        n_steps = 1 + (int(np.ceil(config.days / _DAYS_PER_STEP)) if config.drift else 0)
        walk = rng.standard_normal((n, n_steps, n_themes), np.float32)
        keep = np.float32(1 - 0.5 * config.drift)
        for step in range(1, n_steps):
            walk[:, step] = keep * walk[:, step - 1] + np.sqrt(1 - keep**2) * walk[:, step]
        # Related themes share part of their liking; the norm keeps each at unit variance.
        spread = np.eye(n_themes) + 0.35 * near
        spread /= np.linalg.norm(spread, axis=1, keepdims=True)
        # Not a matrix product: its last bits would hang on the number of threads.
        self.theme = np.einsum("utk,jk->utj", walk, spread.astype(np.float32))


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)


def _draw(shares: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """One column per row of [n, k] by the row's shares, int64 [n]."""
    cumulated = np.cumsum(shares, axis=1)
    mark = rng.random(len(shares), np.float32)[:, None] * cumulated[:, -1:]
    return np.asarray(np.minimum((cumulated <= mark).sum(axis=1), shares.shape[1] - 1), np.int64)
