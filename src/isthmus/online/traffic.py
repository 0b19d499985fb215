"""Simulated traffic: people of a generated world, whose true tastes drift, look at what they are
shown and click on what they like.

Whoever answers is asked through `Answerer` alone: a recommender in this process, or a service over
HTTP. The page visits are the world's own. Some find their way without recommendations, as in the
world; the others look down a list, less and less attentively, and click an item that they look at
with their true preference as the probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.data.splits import user_hash
from isthmus.data.world import World
from isthmus.errors import RequestError
from isthmus.online.events import Event

DAY = 86_400.0


@dataclass(frozen=True)
class Visit:
    """Somebody opens a page of recommendations.

    Attributes:
        user_id: raw id.
        domain: name of the catalogue.
        time: Unix seconds.
    """

    user_id: str
    domain: str
    time: float

    @property
    def answer_id(self) -> str:
        """The `recommendation_id` that clicks of this visit name."""
        return f"{self.user_id}-{self.domain}-{self.time:.0f}"


class Answerer(Protocol):
    """Who is asked for recommendations, and told what happened."""

    @property
    def name(self) -> str:
        """How it is called in results."""
        ...

    def release(self, domain: str, item_ids: Sequence[str]) -> None:
        """These items can be had from now on; others of the catalogue cannot be offered yet."""
        ...

    def answer(self, visits: Sequence[Visit], k: int) -> list[list[str]]:
        """Item ids for each visit, best first, at most `k`, none that the person has had."""
        ...

    def observe(self, events: Sequence[Event]) -> None:
        """What people did, in order of time; counts in the next answer."""
        ...

    def rest(self) -> None:
        """A night: a chance to learn."""
        ...


@dataclass(frozen=True)
class TrafficConfig:
    """How people behave.

    Attributes:
        since: Unix seconds from which traffic flows.
        recommended: share of visits that look at recommendations.
        k: length of a list.
        position_bias: exponent b; the item at rank r is looked at with probability r ** -b.
        seed: of who looks at recommendations, and of clicks.
    """

    since: float
    recommended: float = 0.5
    k: int = 10
    position_bias: float = 0.7
    seed: int = 0


@dataclass(frozen=True)
class Day:
    """What came of the visits of a stretch of time to one answerer.

    Attributes:
        start: Unix seconds.
        user: int64 [n] world's user row of each visit.
        expected: float64 [n] true-preference click-through: mean preference for what was shown,
            each place weighed by the chance that it is looked at.
        clicks: int64 [n].
    """

    start: float
    user: NDArray[np.int64]
    expected: NDArray[np.float64]
    clicks: NDArray[np.int64]


class Traffic:
    """The visits to a world after a moment, and what people do when they are shown items."""

    def __init__(self, world: World, config: TrafficConfig) -> None:
        if not world.config.start < config.since < world.config.end:
            raise RequestError(
                "traffic must begin after the world's first moment and before its last",
                where="since",
            )
        self.world, self.config = world, config
        self._row = {str(raw): row for row, raw in enumerate(world.people.ids)}
        self._ids = {
            name: catalogue.table["item_id"].to_list()
            for name, catalogue in world.catalogues.items()
        }
        self._index = {
            name: {raw: i for i, raw in enumerate(ids)} for name, ids in self._ids.items()
        }
        self._attention = np.arange(1, config.k + 1, dtype=np.float64) ** -config.position_bias

    @cached_property
    def visits(self) -> list[Visit]:
        """Visits that look at recommendations, in order of time."""
        user, domain, time = self._pages
        chosen = self._asks
        names = self.world.config.names
        ids = self.world.people.ids
        return [
            Visit(str(ids[u]), names[d], float(t))
            for u, d, t in zip(user[chosen], domain[chosen], time[chosen], strict=True)
        ]

    @cached_property
    def found_alone(self) -> list[Event]:
        """Clicks of the other visits, the same whoever answers, in order of time."""
        page_user, page_domain, page_time = self._pages
        asks = {
            (int(d), int(u), float(t))
            for u, d, t, chosen in zip(page_user, page_domain, page_time, self._asks, strict=True)
            if chosen
        }
        events = []
        for d, name in enumerate(self.world.config.names):
            shown = self.world.shown[name]
            opened = self._opened(name)
            for row in np.flatnonzero(shown.clicked & (shown.time >= self.config.since)).tolist():
                if (d, int(shown.user[row]), float(opened[row])) not in asks:
                    events.append(
                        self._event(
                            str(self.world.people.ids[shown.user[row]]),
                            name,
                            int(shown.item[row]),
                            float(shown.time[row]),
                            None,
                        )
                    )
        return sorted(events, key=lambda event: (event.time, event.event_id))

    def released(self, until: float) -> dict[str, list[str]]:
        """Items of each catalogue that can be had at a moment."""
        return {
            name: [
                raw
                for raw, moment in zip(self._ids[name], catalogue.released, strict=True)
                if moment <= until
            ]
            for name, catalogue in self.world.catalogues.items()
        }

    def shown(
        self, visits: Sequence[Visit], lists: Sequence[Sequence[str]]
    ) -> tuple[NDArray[np.float64], list[list[Event]]]:
        """Let people look at lists.

        Two answerers that show a person the same item on the same visit find the same mood, so
        that what they share cancels in a comparison.

        Returns:
            True-preference click-through of each visit, float64 [n], and its clicks.
        """
        expected = np.zeros(len(visits))
        clicks: list[list[Event]] = []
        for n, (visit, items) in enumerate(zip(visits, lists, strict=True)):
            index = np.array([self._index[visit.domain][raw] for raw in items], np.int64)
            clicks.append([])
            if not len(index):
                continue
            attention = self._attention[: len(index)]
            liking = self.preference(visit, items)
            expected[n] = float((attention * liking).sum() / self._attention.sum())
            mood = user_hash(
                [f"{visit.user_id}\0{visit.domain}\0{raw}\0{visit.time}" for raw in items],
                f"mood-{self.config.seed}",
            )
            for rank in np.flatnonzero(mood < attention * liking).tolist():
                moment = visit.time + rank
                clicks[-1].append(
                    self._event(
                        visit.user_id, visit.domain, int(index[rank]), moment, visit.answer_id
                    )
                )
        return expected, clicks

    def preference(self, visit: Visit, items: Sequence[str]) -> NDArray[np.float64]:
        """True chance that who visits clicks each of these items if they look at it, float64 [n].

        Args:
            visit: who, where and when.
            items: raw ids, [n].
        """
        market = self.world.markets[visit.domain]
        item = np.array([self._index[visit.domain][raw] for raw in items], np.int64)
        user = np.full(len(item), self._row[visit.user_id], np.int64)
        odds = market.log_odds(user, item, np.full(len(item), visit.time))
        return np.asarray(1 / (1 + np.exp(-odds.astype(np.float64))))

    def row_of(self, visit: Visit) -> int:
        """The world's row of who visits."""
        return self._row[visit.user_id]

    @cached_property
    def _pages(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Person, domain and time of every page since the beginning, in order of time."""
        columns = []
        for d, name in enumerate(self.world.config.names):
            shown = self.world.shown[name]
            pages = np.unique(np.column_stack([shown.user, self._opened(name)]), axis=0)
            pages = pages[pages[:, 1] >= self.config.since]
            columns.append((pages[:, 0], np.full(len(pages), d), pages[:, 1]))
        user, domain, time = (np.concatenate(column) for column in zip(*columns, strict=True))
        order = np.lexsort((domain, user, time))
        return user[order].astype(np.int64), domain[order].astype(np.int64), time[order]

    @cached_property
    def _asks(self) -> NDArray[np.bool_]:
        user, domain, time = self._pages
        keys = [f"{u}\0{d}\0{t}" for u, d, t in zip(user, domain, time, strict=True)]
        return np.asarray(user_hash(keys, f"asks-{self.config.seed}") < self.config.recommended)

    def _opened(self, name: str) -> NDArray[np.float64]:
        """When the page opened on which each item was shown, float64 [n]."""
        shown = self.world.shown[name]
        within = 30.0 * self.world.config.slate
        new = np.ones(len(shown.time), bool)
        new[1:] = (shown.user[1:] != shown.user[:-1]) | (np.diff(shown.time) > within)
        first = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
        return np.asarray(shown.time[first])

    def _event(
        self, user_id: str, domain: str, item: int, time: float, recommendation_id: str | None
    ) -> Event:
        raw = self._ids[domain][item]
        return Event(
            event_id=f"{user_id}-{domain}-{raw}-{time:.0f}",
            user_id=user_id,
            domain=domain,
            item_id=raw,
            time=time,
            recommendation_id=recommendation_id,
        )


def run_traffic(
    traffic: Traffic,
    answerers: Sequence[Answerer],
    *,
    days: float,
    each: Callable[[str, Day], None] = lambda name, day: None,
) -> dict[str, list[Day]]:
    """Let the whole traffic flow past every answerer, with a night after every `days` days.

    Args:
        traffic: from `since` to the end of the world.
        answerers: each lives in a copy of the world of its own, where its lists have their effect.
        days: between two nights.
        each: told what came of each stretch.

    Returns:
        Stretches in order of time, by answerer.
    """
    step, start, end = days * DAY, traffic.config.since, traffic.world.config.end
    n_steps = max(1, int(np.ceil((end - start) / step)))
    found: dict[str, list[Day]] = {answerer.name: [] for answerer in answerers}
    for number in range(n_steps):
        begin, until = start + number * step, start + (number + 1) * step
        offered = traffic.released(begin)
        visits = [visit for visit in traffic.visits if begin <= visit.time < until]
        alone = [event for event in traffic.found_alone if begin <= event.time < until]
        for answerer in answerers:
            for domain, items in offered.items():
                answerer.release(domain, items)
            day = _one_day(traffic, answerer, visits, alone, begin)
            found[answerer.name].append(day)
            each(answerer.name, day)
            if number + 1 < n_steps:
                answerer.rest()
    return found


def _one_day(
    traffic: Traffic,
    answerer: Answerer,
    visits: Sequence[Visit],
    alone: Sequence[Event],
    start: float,
) -> Day:
    """Ask about the visits of a stretch and tell what happened.

    The first visit of everybody makes a batch, then the second, and so on; before each batch the
    answerer is told what those who ask have found alone by then.
    """
    rounds: list[list[Visit]] = []
    nth: dict[str, int] = {}
    for visit in visits:
        place = nth.get(visit.user_id, 0)
        nth[visit.user_id] = place + 1
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(visit)
    waiting = {event.event_id: event for event in alone}
    by_user: dict[str, list[Event]] = {}
    for event in alone:
        by_user.setdefault(event.user_id, []).append(event)
    users, expected, clicks = [], [], []
    for asked in rounds:
        due = [
            event
            for visit in asked
            for event in by_user.get(visit.user_id, ())
            if event.time < visit.time and waiting.pop(event.event_id, None) is not None
        ]
        answerer.observe(sorted(due, key=lambda event: event.time))
        liked, chosen = traffic.shown(asked, answerer.answer(asked, traffic.config.k))
        answerer.observe([event for of_visit in chosen for event in of_visit])
        users += [traffic.row_of(visit) for visit in asked]
        expected.append(liked)
        clicks += [len(of_visit) for of_visit in chosen]
    answerer.observe(list(waiting.values()))
    return Day(
        start,
        np.array(users, np.int64),
        np.concatenate([*expected, np.empty(0)]),
        np.array(clicks, np.int64),
    )
