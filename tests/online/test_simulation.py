"""Who takes part in a simulation, and the bound that no recommender can pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from continual_world import GEAR, base
from test_traffic import Oracle as Simple
from test_traffic import traffic, world

from isthmus.config import Config
from isthmus.errors import RequestError
from isthmus.online.arms import Local, counting_only
from isthmus.online.events import Event
from isthmus.online.oracle import Oracle
from isthmus.online.simulation import simulate
from isthmus.online.traffic import run_traffic
from word_encoder import WordEncoder


def test_answers_of_a_night_that_was_kept_back_judge_the_next() -> None:
    told: list[set[tuple[str, float]]] = []

    def kept_back(recommender, growth, guided):
        events, people = growth.dataset.events, growth.dataset.user_ids
        told.append({(people[int(events.user[n])], float(events.time[n])) for n in guided})
        return counting_only(recommender, growth, guided)

    local = Local("kept back", base(), kept_back)
    item = base().dataset.domains[GEAR].items["item_id"][0]
    for night in range(2):
        answer = Event(f"a{night}", f"ann{night}", "gear", item, 2e9 + night, recommendation_id="r")
        local.observe([answer, replace(answer, user_id=f"eve{night}", recommendation_id=None)])
        local.rest()
    assert told == [{("ann0", 2e9)}, {("ann1", 2e9 + 1)}]


def test_the_oracle_shows_what_nobody_could_better() -> None:
    oracle = Oracle(traffic())
    shown: list[tuple[str, str, str]] = []
    answer, observe = oracle.answer, oracle.observe
    had: set[tuple[str, str, str]] = set()

    def watched(visits, k):
        lists = answer(visits, k)
        for visit, items in zip(visits, lists, strict=True):
            liking = traffic().preference(visit, items)
            assert (np.diff(liking) <= 0).all()
            others = [
                raw
                for raw in oracle._offered[visit.domain]
                if raw not in items and (visit.user_id, visit.domain, raw) not in had | before
            ]
            assert len(items) == k
            assert traffic().preference(visit, others).max() <= liking.min()
            shown.extend((visit.user_id, visit.domain, raw) for raw in items)
            assert not {*shown[-k:]} & (had | before)
        return lists

    def seen(events):
        had.update((e.user_id, e.domain, e.item_id) for e in events)
        observe(events)

    before = past()
    assert before
    oracle.answer, oracle.observe = watched, seen  # type: ignore[method-assign]
    found = run_traffic(traffic(), [oracle], days=120)
    assert shown
    worst = run_traffic(traffic(), [Simple("worst", best=False)], days=120)["worst"]
    for best_day, worst_day in zip(found["oracle"], worst, strict=True):
        assert best_day.expected.mean() > worst_day.expected.mean()


def past() -> set[tuple[str, str, str]]:
    """Whatever people have had before the traffic begins."""
    dataset, found = world().dataset, set()
    for row in np.flatnonzero(dataset.events.time < traffic().config.since).tolist():
        domain = dataset.domains[int(dataset.events.domain[row])]
        item = domain.items["item_id"][int(dataset.events.item[row])]
        found.add((dataset.user_ids[int(dataset.events.user[row])], domain.name, item))
    return found


def test_without_anybody_who_learns_no_model_is_fitted(monkeypatch) -> None:
    from isthmus.online import simulation

    monkeypatch.setattr(simulation, "base_model", None)
    extra = Simple("extra", best=False)
    found = simulate(
        world(), Config(), WordEncoder(), arms=["oracle"], others=[extra], night_days=400
    )
    assert list(found.days) == ["oracle", "extra"]
    assert not found.seconds
    oracle, other = found.click_through("oracle"), found.click_through("extra")
    assert all(mine >= theirs for mine, theirs in zip(oracle, other, strict=True))


def test_somebody_must_answer() -> None:
    with pytest.raises(RequestError, match="nobody answers"):
        simulate(world(), Config(), WordEncoder(), arms=[])
    with pytest.raises(RequestError, match="Did you mean 'oracle'"):
        simulate(world(), Config(), WordEncoder(), arms=["oracel"])
