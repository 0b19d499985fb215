"""What is popular is counted on from the log, each event once, as an update would."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
from serving_world import Running, WordEncoder, fitted, running, users

from isthmus.data.appending import COLUMNS, append_events
from isthmus.online.events import Event, Impression, Outcome, Record
from isthmus.online.log import EventLog, open_log
from isthmus.recommender import Recommender
from isthmus.recommender.storage import LogPosition
from isthmus.serving.counting import AT_ONCE, counted
from isthmus.serving.live import Live

GEAR = 1
NOW = float(np.nanmax(fitted().dataset.events.time)) + 2 * 86_400


def happened(n: int, item_id: str, *, kind: str = "event", by: str = "somebody new") -> Event:
    return Event(f"{item_id}-{kind}-{by}-{n}", by, "gear", item_id, NOW, kind=kind)


def filled(folder: Path, events: list[Record]) -> EventLog:
    log = open_log(folder / "counted.db")
    assert set(log.append(events)) == {Outcome.ACCEPTED}
    return log


def live_of(recommender: Recommender) -> Live:
    return Live.of(recommender, "v000001", encoder=WordEncoder())


def levels(live: Live, domain: int) -> list[np.ndarray]:
    return [side.popular(domain).score[0] for side in live.quick.sides]


def test_counts_are_those_of_a_model_that_has_grown_by_the_same(tmp_path: Path) -> None:
    ids = fitted().dataset.domains[GEAR].items["item_id"].to_list()
    rng = np.random.default_rng(0)
    events = [happened(n, ids[i]) for n, i in enumerate(rng.integers(0, 9, AT_ONCE + 20))]
    live = counted(filled(tmp_path, events), live_of(fitted()), hidden=())
    assert live.counted == len(events)
    rows = [(e.user_id, e.domain, e.item_id, e.time, e.kind, e.rating, e.weight) for e in events]
    growth = append_events(fitted().dataset, pl.DataFrame(rows, schema=COLUMNS, orient="row"))
    anew = live_of(fitted().grown(growth, encoder=WordEncoder()))
    for domain in (0, GEAR):
        for ours, theirs in zip(levels(live, domain), levels(anew, domain), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not np.allclose(levels(live, GEAR)[0], levels(live_of(fitted()), GEAR)[0])


def test_what_would_not_be_learnt_is_not_counted(tmp_path: Path) -> None:
    usual = fitted()
    config = usual.config.override('domains.gear.keep_kinds=["event"]')
    shown = usual.dataset.domains[GEAR].items["item_id"][0]
    impression = Impression("shown", "somebody", "gear", shown, NOW, "answer", 1)
    seen = counted(filled(tmp_path, [impression]), live_of(usual), hidden=())
    assert seen.counted == 1
    np.testing.assert_array_equal(levels(seen, GEAR)[0], levels(live_of(usual), GEAR)[0])
    picky = Recommender(usual.dataset, config, usual.split, usual.raw, usual.system)
    known = usual.dataset.domains[GEAR].items["item_id"][0]
    (tmp_path / "picky").mkdir()
    log = filled(
        tmp_path / "picky",
        [
            happened(0, known, kind="refund"),
            happened(1, "no such item"),
            happened(2, known, by="hidden"),
        ],
    )
    live = counted(log, live_of(picky), hidden={"hidden"})
    assert live.counted == 3
    np.testing.assert_array_equal(levels(live, GEAR)[0], levels(live_of(picky), GEAR)[0])


def test_a_version_counts_from_where_it_has_followed_the_log(tmp_path: Path) -> None:
    usual = fitted()
    known = usual.dataset.domains[GEAR].items["item_id"][0]
    log = filled(tmp_path, [happened(n, known) for n in range(5)])
    position = LogPosition(log.id, 5)
    model = Recommender(usual.dataset, usual.config, usual.split, usual.raw, usual.system, position)
    live = counted(log, live_of(model), hidden=())
    np.testing.assert_array_equal(levels(live, GEAR)[0], levels(live_of(usual), GEAR)[0])


def place_for_strangers(shop: Running, item_id: str) -> int:
    found = shop.items(user_id="a stranger", domains=["gear"], k=60)
    return found.index(item_id)


def test_what_many_take_rises_for_strangers_within_seconds(tmp_path: Path) -> None:
    with running(tmp_path, count_seconds=0.05) as shop:
        everything = shop.items(user_id="a stranger", domains=["gear"], k=60)
        last = everything[-1]
        for n, person in enumerate(users()[:30]):
            shop.report(f"e{n}", person, "gear", last, time=NOW)
        deadline = time.monotonic() + 20
        while place_for_strangers(shop, last) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert place_for_strangers(shop, last) == 0
        # A new version that has not followed the log begins by counting what this one had.
        fitted(1).save(tmp_path / "model")
        while shop.service.keeper.live.version != "v000002" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert shop.service.keeper.live.version == "v000002"
        assert shop.service.keeper.live.counted == 30
