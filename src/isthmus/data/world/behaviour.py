"""What happens in a domain: pages are shown, some of what they show is clicked and rated.

A page has `slate` places. Each is filled on its own, by popularity or by a guess of the user's
taste, so the chance that a page shows an item is known exactly: that is the propensity. An item is
clicked with the true preference as its probability, once; after that it is not shown again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from isthmus.data.world.catalogue import Catalogue
from isthmus.data.world.society import People
from isthmus.data.world.spec import DomainSpec, WorldConfig
from isthmus.data.world.streams import stream
from isthmus.data.world.tastes import N_STYLES, Tastes

_TOPIC_WEIGHT = 1.3
_QUALITY_WEIGHT = 0.4
# Few act at night, most in the evening.
_BY_HOUR = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 6, 6, 6, 8, 7, 6, 6, 6, 7, 9, 11, 13, 12, 8, 4.0])
_CHUNK = 200_000


@dataclass(frozen=True)
class Shown:
    """Every item that a page showed, in order of user and time; all arrays are [n].

    Attributes:
        user: int64 row of the user.
        item: int64 local item index.
        time: float64 Unix seconds.
        propensity: float32 in (0, 1]; chance that the page showed the item.
        preference: float32 in (0, 1); chance that it is clicked.
        clicked: bool.
        stars: int8 from 1 to 5 where clicked, 0 elsewhere.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    time: NDArray[np.float64]
    propensity: NDArray[np.float32]
    preference: NDArray[np.float32]
    clicked: NDArray[np.bool_]
    stars: NDArray[np.int8]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Shown:
        """These rows, by index or mask."""
        return Shown(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class Market:
    """One domain's items, people and tastes together: preferences, pages and clicks."""

    def __init__(
        self,
        config: WorldConfig,
        spec: DomainSpec,
        catalogue: Catalogue,
        tastes: Tastes,
        people: People,
    ) -> None:
        self.config, self.spec = config, spec
        self.catalogue, self.tastes, self.people = catalogue, tastes, people
        # Items of one topic side by side, so that one of them can be drawn by bisection.
        self._by_topic = np.argsort(catalogue.topic, kind="stable")
        self._reach = np.concatenate([[0.0], np.cumsum(catalogue.popularity[self._by_topic])])
        sizes = np.bincount(catalogue.topic, minlength=config.n_topics)
        ends = np.cumsum(sizes)
        self._topic_start = self._reach[ends - sizes]
        self._topic_mass = self._reach[ends] - self._topic_start
        self._reserve = 0.0
        self._reserve = self._calibrated()

    def log_odds(
        self, user: NDArray[np.int64], item: NDArray[np.int64], time: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Log odds of a click for each user with each item at each time, float32 [n]."""
        items, n_topics = self.catalogue, self.config.n_topics
        interest = self.tastes.of_topic(user, items.topic[item], time)
        odds = _TOPIC_WEIGHT * np.log1p(n_topics * interest) + self._common(item)
        hidden = np.einsum("ij,ij->i", self.tastes.style[user], items.style[item])
        odds += self.config.hidden / N_STYLES**0.5 * hidden
        dear = items.cost[item] - self.people.budget[user]
        risky = items.risk[item] - self.people.tolerance[user]
        return np.asarray(odds - self._put_off(dear, risky), np.float32)

    def all_log_odds(self, users: NDArray[np.int64], time: float) -> NDArray[np.float32]:
        """Log odds of a click for users with every item, float32 [len(users), n_items]."""
        items, n_topics = self.catalogue, self.config.n_topics
        liking = _TOPIC_WEIGHT * np.log1p(n_topics * self.tastes.at(users, time))
        odds = liking[:, items.topic] + self._common(np.arange(len(items)))
        odds += self.config.hidden / N_STYLES**0.5 * (self.tastes.style[users] @ items.style.T)
        dear = items.cost - self.people.budget[users, None]
        risky = items.risk - self.people.tolerance[users, None]
        return np.asarray(odds - self._put_off(dear, risky), np.float32)

    def _common(self, item: NDArray[np.int64]) -> NDArray[np.float32]:
        """The part of the log odds that is the same for everybody."""
        return np.float32(_QUALITY_WEIGHT) * self.catalogue.quality[item] - np.float32(
            self._reserve
        )

    def _put_off(
        self, dear: NDArray[np.float32], risky: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        too_much = np.maximum(dear, 0) + 0.5 * np.maximum(risky, 0)
        return np.asarray(np.float32(self.spec.sensitivity) * too_much, np.float32)

    def _calibrated(self) -> float:
        """What to take off the log odds so that the mean click rate is the one asked for."""
        rng = stream(self.config.seed, self.spec.name, "calibration")
        user = rng.integers(0, self.config.n_users, 20_000)
        time = self.config.start + rng.random(len(user)) * self.config.days * 86_400.0
        odds = self.log_odds(user, self._fill(user, time, rng), time)
        low, high = -20.0, 20.0
        for _ in range(40):
            middle = (low + high) / 2
            above = _sigmoid(odds - middle).mean() > self.config.click_rate
            low, high = (middle, high) if above else (low, middle)
        return low

    def _fill(
        self, user: NDArray[np.int64], time: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """The item in each place, drawn by popularity or by a guess of taste, int64 [n]."""
        mark = rng.random(len(user))
        guessed = rng.random(len(user)) < self.config.exposure_bias
        topic = self.tastes.draw_topic(user[guessed], time[guessed], rng)
        mark[guessed] = self._topic_start[topic] + mark[guessed] * self._topic_mass[topic]
        place = np.searchsorted(self._reach, mark, side="right") - 1
        return self._by_topic[np.minimum(place, len(self._by_topic) - 1)]

    def _propensity(
        self, user: NDArray[np.int64], item: NDArray[np.int64], time: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Chance that a page of this user at this time shows the item, float32 [n]."""
        topic = self.catalogue.topic[item]
        popular = self.catalogue.popularity[item]
        guessed = self.tastes.of_topic(user, topic, time) * popular / self._topic_mass[topic]
        bias = self.config.exposure_bias
        one_place = (1 - bias) * popular + bias * guessed
        return np.asarray(1 - (1 - one_place) ** self.config.slate, np.float32)

    def open(self) -> Shown:
        """Let everybody look at pages from joining to the end of the world."""
        rng = stream(self.config.seed, self.spec.name, "behaviour")
        return self._visited(np.arange(self.config.n_users), self._pages_per_user(), rng)

    def _pages_per_user(self) -> float:
        """Mean pages that give the events asked for, found on a sample of users.

        The more a user has clicked, the less is left to show, so there is no closed form.
        """
        sample = np.arange(min(self.config.n_users, 500))
        pages = usual = self.spec.events_per_user / (self.config.slate * self.config.click_rate)
        for attempt in range(4):
            rng = stream(self.config.seed, self.spec.name, "pilot", str(attempt))
            events = self._visited(sample, pages, rng).clicked.sum() / len(sample)
            pages *= self.spec.events_per_user / max(events, 0.1)
            pages = min(pages, 8 * usual)
        return pages

    def _visited(self, users: NDArray[np.int64], pages: float, rng: np.random.Generator) -> Shown:
        """What these users see, and do, over `pages` pages each in the mean."""
        page_user, page_time = self._visits(users, pages, rng)
        size = max(1, _CHUNK // self.config.slate)
        chunks = [slice(i, i + size) for i in range(0, max(len(page_user), 1), size)]
        shown = _joined([self._pages(page_user[c], page_time[c], rng) for c in chunks])
        keep = _until_first_click(shown, len(self.catalogue))
        order = np.lexsort((shown.time, shown.user))
        return shown.take(order[keep[order]])

    def _visits(
        self, users: NDArray[np.int64], pages: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Who opens a page when, by user: evenly from their start here, by hour of day."""
        config = self.config
        user = np.repeat(users, rng.poisson(pages * self.people.activity[users]))
        latest = config.start + 0.85 * config.days * 86_400.0
        lag = self.spec.starts_after_days * 86_400.0
        first = np.minimum(self.people.joined + lag, latest)[user]
        day = np.floor((first + rng.random(len(user)) * (config.end - first)) / 86_400.0)
        hour = rng.choice(24, len(user), p=_BY_HOUR / _BY_HOUR.sum())
        time = day * 86_400.0 + hour * 3600.0 + rng.integers(0, 3600, len(user))
        return user, np.clip(time, config.start, config.end)

    def _pages(
        self,
        page_user: NDArray[np.int64],
        page_time: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> Shown:
        """Fill pages and let their users click, as if on nothing clicked before."""
        slate = self.config.slate
        page = np.repeat(np.arange(len(page_user)), slate)
        user, time = page_user[page], page_time[page]
        item = self._fill(user, time, rng)
        chance, noise = rng.random(len(page)), rng.standard_normal(len(page), np.float32)
        _, once = np.unique(page * len(self.catalogue) + item, return_index=True)
        once = once[self.catalogue.released[item[once]] <= time[once]]
        user, item, time = user[once], item[once], time[once]
        odds = self.log_odds(user, item, time)
        clicked = chance[once] < _sigmoid(odds)
        stars = 3.3 + 0.5 * odds + self.people.generosity[user] + 0.5 * noise[once]
        return Shown(
            user=user,
            item=item,
            # A reader goes down the page: half a minute from one place to the next.
            time=time + 30.0 * (once % slate),
            propensity=self._propensity(user, item, time),
            preference=_sigmoid(odds),
            clicked=clicked,
            stars=np.where(clicked, np.clip(np.round(stars), 1, 5), 0).astype(np.int8),
        )


def _joined(parts: list[Shown]) -> Shown:
    return Shown(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Shown)}
    )


def _until_first_click(shown: Shown, n_items: int) -> NDArray[np.bool_]:
    """False where the user had clicked the item before, bool [n]."""
    pair = shown.user * n_items + shown.item
    order = np.lexsort((shown.time, pair))
    before: NDArray[np.int64] = np.cumsum(shown.clicked[order]) - shown.clicked[order]
    first = np.flatnonzero(np.diff(pair[order], prepend=-1))
    lengths = np.diff(np.append(first, len(order)))
    keep = np.empty(len(order), bool)
    keep[order] = before == np.repeat(before[first], lengths)
    return keep


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
