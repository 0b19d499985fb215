"""Simulated people click what they like and look at, and answerers are told all of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from isthmus.data.world import DomainSpec, World, WorldConfig, generate_world
from isthmus.errors import RequestError
from isthmus.online.events import Event
from isthmus.online.traffic import Traffic, TrafficConfig, Visit, run_traffic


@cache
def world() -> World:
    domains = (DomainSpec(name="books", n_items=60), DomainSpec(name="gear", n_items=50))
    return generate_world(WorldConfig(n_users=120, n_themes=6, drift=0.5, domains=domains))


@cache
def traffic(**given: float) -> Traffic:
    since = world().config.start + 0.5 * (world().config.end - world().config.start)
    return Traffic(world(), TrafficConfig(since, **given))  # type: ignore[arg-type]


class Oracle:
    """Knows what people like; `best` off: shows what they like least."""

    def __init__(self, name: str, *, best: bool = True) -> None:
        self.name, self.best = name, best
        self.offered: dict[str, list[str]] = {}
        self.seen: list[Event] = []
        self.nights = 0

    def release(self, domain: str, item_ids: Sequence[str]) -> None:
        self.offered[domain] = list(item_ids)

    def answer(self, visits: Sequence[Visit], k: int) -> list[list[str]]:
        lists = []
        for visit in visits:
            row = list(world().people.ids).index(visit.user_id)
            liking = world().preference([row], visit.domain, visit.time)[0]
            ids = world().catalogues[visit.domain].table["item_id"].to_list()
            had = {e.item_id for e in self.seen if e.user_id == visit.user_id}
            order = np.argsort(-liking if self.best else liking)
            offered = {*self.offered[visit.domain]} - had
            lists.append([ids[i] for i in order if ids[i] in offered][:k])
        return lists

    def observe(self, events: Sequence[Event]) -> None:
        self.seen += events

    def rest(self) -> None:
        self.nights += 1


def test_who_shows_what_people_like_gets_the_clicks() -> None:
    best, worst = Oracle("best"), Oracle("worst", best=False)
    found = run_traffic(traffic(), [best, worst], days=120)
    through = {n: np.concatenate([d.expected for d in days]).mean() for n, days in found.items()}
    clicks = {n: sum(d.clicks.sum() for d in days) for n, days in found.items()}
    assert through["best"] > 3 * through["worst"]
    assert clicks["best"] > 2 * clicks["worst"]
    assert best.nights == len(found["best"]) - 1


def test_everything_that_happened_is_told_once_and_in_order_of_each_person() -> None:
    oracle = Oracle("best")
    found = run_traffic(traffic(), [oracle], days=120)
    ids = [event.event_id for event in oracle.seen]
    assert len({*ids}) == len(ids)
    alone = {event.event_id for event in oracle.seen if event.recommendation_id is None}
    assert alone == {event.event_id for event in traffic().found_alone}
    clicked = sum(day.clicks.sum() for day in found["best"])
    assert len(ids) - len(alone) == clicked
    assert sum(len(day.user) for day in found["best"]) == len(traffic().visits)


def test_nobody_is_shown_what_cannot_be_had_yet() -> None:
    early = traffic().released(traffic().config.since)
    late = traffic().released(world().config.end)
    for name, catalogue in world().catalogues.items():
        assert len(early[name]) < len(late[name]) == len(catalogue)
        assert {*early[name]} < {*late[name]}


def test_places_further_down_are_looked_at_less() -> None:
    visits = traffic().visits[:200]
    lists = [world().catalogues[v.domain].table["item_id"].to_list()[:10] for v in visits]
    flat = Traffic(world(), TrafficConfig(traffic().config.since, position_bias=0.0))
    steep = Traffic(world(), TrafficConfig(traffic().config.since, position_bias=2.0))
    many, few = (sum(map(len, t.shown(visits, lists)[1])) for t in (flat, steep))
    assert many > 2 * few
    # Where only the first place is looked at, only what stands there counts.
    top = Traffic(world(), TrafficConfig(traffic().config.since, position_bias=60.0))
    expected, _ = top.shown(visits, lists)
    first, _ = Traffic(world(), TrafficConfig(traffic().config.since, k=1)).shown(
        visits, [items[:1] for items in lists]
    )
    np.testing.assert_allclose(expected, first)


def test_the_same_item_on_the_same_visit_finds_the_same_mood() -> None:
    visits = traffic().visits[:100]
    ids = {name: c.table["item_id"].to_list() for name, c in world().catalogues.items()}
    flat = Traffic(world(), TrafficConfig(traffic().config.since, position_bias=0.0))
    one = flat.shown(visits, [ids[v.domain][:10] for v in visits])[1]
    other = flat.shown(visits, [ids[v.domain][9::-1] for v in visits])[1]
    assert [{e.item_id for e in clicks} for clicks in one] == [
        {e.item_id for e in clicks} for clicks in other
    ]
    assert any(one)


def test_a_list_that_is_short_counts_as_what_it_is() -> None:
    visits = traffic().visits[:5]
    expected, clicks = traffic().shown(visits, [[] for _ in visits])
    assert not expected.any()
    assert not any(clicks)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_traffic_must_have_time(share: float) -> None:
    config = world().config
    since = config.start + share * (config.end - config.start)
    with pytest.raises(RequestError, match="traffic must begin"):
        Traffic(world(), TrafficConfig(since))
