"""Events that arrive too early, too late, in disorder, or of people who want no part in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from serving_world import Running, fitted, running

from isthmus.online.intake import DAY, Limits

GEAR = fitted().dataset.domains[1].items["item_id"].to_list()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose log takes some kinds of events, of the last thirty days."""
    limits = Limits(max_age=30 * DAY, max_skew=60, kinds=frozenset({"view", "buy"}))
    with running(tmp_path_factory.mktemp("strict"), limits=limits) as shop:
        yield shop


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"time": 90.0}, "future"),
        ({"time": -31 * DAY}, "too-old"),
        ({"kind": "stare"}, "unknown-kind"),
        ({"time": 30.0}, "accepted"),
        ({"time": -29 * DAY}, "accepted"),
    ],
)
def test_times_and_kinds_that_are_not_taken(
    strict: Running, change: dict[str, Any], outcome: str
) -> None:
    moment = time.time() + change.pop("time", 0.0)
    event = {"user_id": "odd", "domain": "gear", "item_id": GEAR[0], "kind": "buy", "time": moment}
    name = f"{change} {outcome} {moment}"
    alone = strict.client.post("/v1/events", json={**event, "event_id": name, **change})
    taken = outcome == "accepted"
    assert alone.status_code == (200 if taken else 422)
    assert (alone.json()["outcome"] if taken else alone.json()["error"]["where"]) == outcome
    # In a batch it keeps no other out.
    mixed = [{**event, "event_id": f"{name} 1", **change}, {**event, "event_id": f"{name} 2"}]
    mixed[1]["time"] = time.time()
    told = strict.client.post("/v1/events/batch", json={"events": mixed}).json()["results"]
    assert [result["outcome"] for result in told] == [outcome, "accepted"]


def test_a_time_from_before_1970_is_refused_on_a_log_that_takes_any_age(shop: Running) -> None:
    ancient = {"user_id": "ancient", "domain": "gear", "item_id": GEAR[0], "time": -1e15}
    alone = shop.client.post("/v1/events", json={**ancient, "event_id": "ancient 1"})
    assert alone.status_code == 422
    assert alone.json()["error"]["where"] == "too-old"
    assert "before 1970" in alone.json()["error"]["what"]
    assert shop.service.keeper.log.history("ancient") == []


def test_a_history_told_in_disorder_is_that_told_in_order(strict: Running) -> None:
    now = time.time()
    moments = [now - 5000 + 1000 * n for n in range(4)]
    for person, order in (("orderly", range(4)), ("disorderly", (2, 0, 3, 1))):
        for n in order:
            told = {"kind": "view", "time": moments[n]}
            assert strict.report(f"{person} {n}", person, "gear", GEAR[n], **told) == 200
    answers = [
        strict.recommend(user_id=person, domains=["gear"], k=20)["lists"]
        for person in ("orderly", "disorderly")
    ]
    assert answers[0] == answers[1]
    assert not answers[0][0]["fallback"]


def test_nothing_is_recorded_of_the_hidden_and_the_erased_begin_anew(strict: Running) -> None:
    client, log = strict.client, strict.service.keeper.log
    event = {"domain": "gear", "item_id": GEAR[0], "kind": "view"}

    def told(event_id: str, user_id: str, **more: Any) -> tuple[int, str]:
        content = {**event, "event_id": event_id, "user_id": user_id, **more}
        answer = client.post("/v1/events", json=content)
        found = answer.json()
        return answer.status_code, found.get("outcome") or found["error"]["where"]

    client.post("/v1/users/hide", json={"user_id": "shy"})
    assert told("shy 1", "shy") == (422, "hidden-user")
    assert log.history("shy") == []
    client.post("/v1/users/show", json={"user_id": "shy"})
    assert told("shy 1", "shy") == (200, "accepted")

    before = time.time() - 100
    assert told("leaver 1", "leaver", time=before)[0] == 200
    assert client.delete("/v1/users", params={"user_id": "leaver"}).status_code == 200
    # A report from before, late or sent again, does not bring them back.
    assert told("leaver 1", "leaver", time=before) == (422, "erased")
    assert log.history("leaver") == []
    assert told("leaver 2", "leaver") == (200, "accepted")
