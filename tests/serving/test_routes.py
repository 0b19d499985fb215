"""Every route does what it says, and what is wrong gets the right answer."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from serving_world import Running, fitted, running, users

from isthmus.data.forgetting import forget
from isthmus.online.log import open_log
from isthmus.recommender import Recommender

SHOWN = {"type": "impression", "recommendation_id": "r", "rank": 1}
GEAR = fitted().dataset.domains[1].items["item_id"].to_list()


def problem(answer: Any) -> dict[str, str]:
    """What an error says; every error says what, and never shows a traceback."""
    found: dict[str, str] = answer.json()["error"]
    assert set(found) == {"what", "where", "hint"}
    assert found["what"]
    assert "Traceback" not in answer.text
    return found


def test_an_event_changes_the_next_answer(shop: Running) -> None:
    before = shop.recommend(user_id="routes-1", domains=["gear"])
    clicked = before["lists"][0]["items"][0]["item_id"]
    assert before["lists"][0]["fallback"]
    told = {"recommendation_id": before["recommendation_id"]}
    assert shop.report("routes-1a", "routes-1", "gear", clicked, **told) == 200
    after = shop.recommend(user_id="routes-1", domains=["gear"])
    assert after["recommendation_id"] != before["recommendation_id"]
    assert after["model_version"] == before["model_version"] == "v000001"
    (listing,) = after["lists"]
    assert not listing["fallback"]
    assert clicked not in [item["item_id"] for item in listing["items"]]
    (logged,) = shop.service.keeper.log.history("routes-1")
    assert logged.recommendation_id == before["recommendation_id"]


def test_an_event_is_counted_once_and_another_by_its_id_is_a_conflict(shop: Running) -> None:
    first = shop.report("routes-2", "routes-2", "gear", GEAR[0], time=1e9)
    again = shop.report("routes-2", "routes-2", "gear", GEAR[0], time=1e9)
    other = shop.report("routes-2", "routes-2", "gear", GEAR[1], time=1e9)
    assert (first, again, other) == (200, 200, 409)
    assert len(shop.service.keeper.log.history("routes-2")) == 1
    # Sent again because no answer came: it has no time of its own to be told by.
    assert shop.report("routes-2b", "routes-2", "gear", GEAR[0]) == 200
    assert shop.report("routes-2b", "routes-2", "gear", GEAR[0]) == 200
    assert shop.report("routes-2b", "routes-2", "gear", GEAR[1]) == 409
    assert len(shop.service.keeper.log.history("routes-2")) == 2


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"time": time.time() + 9999}, "future"),
        ({"domain": "geer"}, "unknown-domain: 'geer'"),
        ({"item_id": "no-such-thing"}, "unknown-item"),
        ({"item_id": "nul\0"}, "unknown-item"),
        ({"user_id": ""}, "empty-id"),
        ({"event_id": "x" * 300}, "long-id"),
        ({"weight": -1}, "bad-number"),
        ({"rank": 3}, "malformed"),
        ({"propensity": 0.5}, "malformed"),
        ({"type": "impression"}, "malformed"),
        ({**SHOWN, "kind": "buy"}, "malformed"),
        ({**SHOWN, "rating": 4}, "malformed"),
        ({**SHOWN, "weight": 2}, "malformed"),
        ({"user_id": "nul\0"}, "malformed"),
    ],
)
def test_an_event_that_cannot_be_taken(shop: Running, change: dict, where: str) -> None:
    event = {"event_id": "bad", "user_id": "u", "domain": "gear", "item_id": GEAR[0], **change}
    answer = shop.client.post("/v1/events", json=event)
    assert answer.status_code == 422
    assert problem(answer)["where"] == where
    if "domain" in change:
        assert problem(answer)["hint"] == "Did you mean 'gear'?"


def test_ten_thousand_events_with_one_bad(shop: Running) -> None:
    events: list[Any] = [
        {"event_id": f"many-{n}", "user_id": "many", "domain": "gear", "item_id": GEAR[n % 50]}
        for n in range(10_000)
    ]
    events[1234] = {"event_id": 7}
    answer = shop.client.post("/v1/events/batch", json={"events": events})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["acknowledged"], found["refused"]) == (9_999, 1)
    assert found["results"][1234]["outcome"] == "malformed"
    assert "Expected `str`, got `int`" in found["results"][1234]["message"]
    assert found["results"][1235] == {
        "event_id": "many-1235",
        "outcome": "accepted",
        "message": "Written to disk.",
    }
    assert found["results"][1234]["event_id"] is None
    more = shop.client.post("/v1/events/batch", json={"events": [*events, {}]})
    assert more.status_code == 422
    assert "length <= 10000" in problem(more)["what"]


def test_a_wrong_event_of_a_batch_is_told_by_its_id_where_that_can_be_read(shop: Running) -> None:
    wrong = {"user_id": "u", "domain": "gear", "item_id": GEAR[0], "rating": "five"}
    events = [{**wrong, "event_id": "typed-1"}, wrong, [], {"event_id": "typed-2", "colour": 1}]
    before = counted_malformed(shop)
    found = shop.client.post("/v1/events/batch", json={"events": events}).json()["results"]
    assert [result["outcome"] for result in found] == ["malformed"] * 4
    assert counted_malformed(shop) == before + 4
    assert [result["event_id"] for result in found] == ["typed-1", None, None, "typed-2"]


def counted_malformed(shop: Running) -> float:
    """How many events the metrics call malformed."""
    lines = shop.client.get("/v1/metrics").text.splitlines()
    found = [line for line in lines if line.startswith('isthmus_events_total{outcome="malformed"}')]
    return float(found[0].split()[-1]) if found else 0.0


def test_an_impression_is_kept_apart_from_what_was_done(shop: Running) -> None:
    told = {"type": "impression", "recommendation_id": "r", "rank": 1, "propensity": 0.5}
    assert shop.report("shown-1", "shown", "gear", GEAR[0], **told) == 200
    assert shop.service.keeper.log.history("shown") == []
    # Sent again because no answer came, without a time of its own.
    assert shop.report("shown-1", "shown", "gear", GEAR[0], **told) == 200
    assert shop.report("shown-1", "shown", "gear", GEAR[0], **{**told, "rank": 2}) == 409
    assert shop.report("shown-1", "shown", "gear", GEAR[0]) == 409
    assert shop.recommend(user_id="shown", domains=["gear"])["lists"][0]["fallback"]


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        (b"", 400, "the body is no JSON"),
        (b"{", 400, "the body is no JSON"),
        (b"[" * 100_000, 422, "Expected `object`, got `array`"),
        (b'{"history": ' + b"[" * 100_000, 422, "Expected `object`, got `array`"),
        (b'{"user_id": "\xff"}', 400, ""),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b'{"user_id": 3}', 422, "Expected `str | null`, got `int`"),
        (b'{"usr": "x"}', 422, "unknown field `usr`"),
        (b'{"k": 0}', 422, ">= 1"),
        (b'{"k": 1000}', 422, "<= 100"),
        (b'{"diversity": 2}', 422, "<= 1"),
        (b'{"domains": ["geer"]}', 422, "domain 'geer' is not in this dataset"),
        (b'{"filter": "prize < 3", "domains": ["gear"]}', 422, "no item has an attribute 'prize'"),
        (b'{"filter": "price <"}', 422, "the filter ends"),
        (
            b'{"history": [{"domain": "gear", "item_id": "nothing"}]}',
            422,
            "is not in the catalogue",
        ),
        (b'{"cursor": "AA", "domains": ["gear"]}', 422, "no cursor of this service"),
    ],
)
def test_a_question_that_cannot_be_answered(
    shop: Running, body: bytes, status: int, what: str
) -> None:
    answer = shop.client.post("/v1/recommend", content=body)
    assert answer.status_code == status
    assert what in problem(answer)["what"]


def test_what_does_not_exist_is_told_from_what_is_done_otherwise(shop: Running) -> None:
    missing = shop.client.get("/v1/nothing")
    assert (missing.status_code, problem(missing)["what"]) == (404, "there is no /v1/nothing")
    otherwise = shop.client.get("/v1/recommend")
    assert (otherwise.status_code, otherwise.headers["allow"]) == (405, "POST")
    # Nothing of the documentation's page, which would load a script, is there unless asked for.
    assert shop.client.get("/docs").status_code == 404


def test_other_origins_get_no_permission(shop: Running) -> None:
    foreign = shop.client.post(
        "/v1/recommend", json={}, headers={"Origin": "https://elsewhere.example"}
    )
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in foreign.headers
    rebound = shop.client.get("/v1/domains", headers={"Host": "elsewhere.example"})
    assert rebound.status_code == 403


def test_a_new_item_is_recommendable_at_once(shop: Running) -> None:
    twin = fitted().dataset.domains[1].items.drop_nulls("text").row(0, named=True)
    item = {
        "domain": "gear",
        "item_id": "routes-new",
        "title": twin["text"],
        "attributes": {"price": 999},
    }
    answer = shop.client.put("/v1/items", json={"items": [item]})
    assert (answer.status_code, answer.json()) == (200, {"registered": 1, "recommendable": True})
    asked = {"user_id": users()[0], "domains": ["gear"], "filter": "price > 900"}
    assert shop.items(**asked) == ["routes-new"]
    shown = shop.client.get("/v1/items/one", params={"domain": "gear", "item_id": "routes-new"})
    assert shown.json()["attributes"] == {"price": 999.0}
    assert not shown.json()["in_model"]
    near = shop.client.post("/v1/similar", json={"domain": "gear", "item_id": "routes-new"}).json()
    assert near["items"][0]["item_id"] == twin["item_id"]
    assert near["items"][0]["parts"]["co-occurrence"] == 0
    assert near["fallback"]
    known = {"domain": "gear", "item_id": twin["item_id"]}
    assert not shop.client.post("/v1/similar", json=known).json()["fallback"]
    assert shop.report("routes-new-1", "routes-3", "gear", "routes-new") == 200
    assert not shop.recommend(user_id="routes-3", domains=["gear"])["lists"][0]["fallback"]
    # Put away, so that other tests see the catalogue that they know.
    gone = shop.client.delete("/v1/items", params={"domain": "gear", "item_id": "routes-new"})
    assert gone.status_code == 200
    assert shop.items(**asked) == []
    assert shop.report("routes-new-2", "routes-3", "gear", "routes-new") == 422


def test_a_hidden_item_is_not_shown_until_it_is_shown_again(shop: Running) -> None:
    asked = {"user_id": users()[1], "domains": ["gear"], "k": 3}
    first = shop.items(**asked)[0]
    key = {"domain": "gear", "item_id": first}
    assert shop.client.post("/v1/items/hide", json=key).status_code == 200
    assert first not in shop.items(**{**asked, "k": 100})
    # What was bought stays history, and can be reported.
    assert shop.report("hidden-1", "routes-4", "gear", first) == 200
    assert shop.client.post("/v1/items/show", json=key).status_code == 200
    assert shop.items(**asked)[0] == first


def test_items_come_page_by_page(shop: Running) -> None:
    found, cursor = [], ""
    while cursor is not None:
        page = shop.client.get(
            "/v1/items", params={"domain": "books", "limit": 30, "cursor": cursor}
        ).json()
        found += [item["item_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == sorted(fitted().dataset.domains[0].items["item_id"].to_list())


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else []


def test_a_body_that_nests_without_end(shop: Running) -> None:
    for opening in (b"[", b'{"a":'):
        answer = shop.client.put(
            "/v1/items",
            content=opening * 500_000,
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 400
        problem(answer)


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("PUT", "/v1/items", {"items": []}, 422),
        ("PUT", "/v1/items", {"items": [{"domain": "toys", "item_id": "x"}]}, 422),
        ("PUT", "/v1/items", {"items": [{"domain": "gear", "item_id": "a\0"}]}, 422),
        ("PUT", "/v1/items", {"items": [{"domain": "gear", "item_id": "a", "color": "red"}]}, 422),
        ("PUT", "/v1/items", {"items": deep(900)}, 422),
        ("POST", "/v1/items/hide", {"domain": "gear", "item_id": "nothing"}, 404),
        ("POST", "/v1/similar", {"domain": "gear", "item_id": "nothing"}, 404),
        ("POST", "/v1/profile", {}, 422),
        ("POST", "/v1/models/promote", {"version": "v999999"}, 409),
        ("POST", "/v1/models/rollback", None, 409),
        ("POST", "/v1/exports", {"domain": "toys"}, 422),
        ("GET", "/v1/exports/0123456789ab", None, 404),
        ("GET", "/v1/exports/..%2Fevents.db", None, 404),
        ("GET", "/v1/items/one?domain=gear&item_id=nothing", None, 404),
        ("GET", "/v1/users/one?user_id=nobody-at-all", None, 404),
        ("DELETE", "/v1/items?domain=gear", None, 422),
        ("DELETE", "/v1/items?domain=gear&item_id=a%00", None, 422),
    ],
)
def test_what_the_other_routes_refuse(
    shop: Running, method: str, path: str, content: Any, status: int
) -> None:
    answer = shop.client.request(method, path, json=content)
    assert answer.status_code == status, answer.text
    problem(answer)


@pytest.mark.parametrize("name", ["item_id", "title", "category", "text", "_withdrawn"])
def test_an_attribute_named_as_a_field_of_every_item_is_refused(shop: Running, name: str) -> None:
    item = {"domain": "gear", "item_id": "own-names", "attributes": {"price": 3, name: "x"}}
    answer = shop.client.put("/v1/items", json={"items": [item]})
    assert answer.status_code == 422
    told = problem(answer)
    assert told["where"] == "body: items.0.attributes"
    assert f"'{name}' is a name of the item's own" in told["what"]
    assert "under another name" in told["what"]


def test_a_profile_is_that_of_the_facade(shop: Running) -> None:
    person = users()[5]
    found = shop.client.post("/v1/profile", json={"user_id": person}).json()
    assert found.pop("model_version") == "v000001"
    assert found == json.loads(json.dumps(fitted().profile(person).to_dict()))


def test_a_person_is_deleted_everywhere(tmp_path: Path) -> None:
    person = users()[6]
    with running(tmp_path) as shop:
        shop.client.put("/v1/users", json={"user_id": person, "attributes": {"town": "Ulm"}})
        shop.report("mine", person, "gear", GEAR[0])
        assert not shop.recommend(user_id=person, domains=["gear"])["lists"][0]["fallback"]
        begun = shop.client.post("/v1/exports", json={"domain": "gear", "k": 3})
        assert begun.status_code == 202
        exported = wait_for_export(shop, begun.json()["export_id"])
        assert person in exported["user_id"].to_list()
        before = shop.service.keeper.log.erased()
        receipt = shop.client.delete("/v1/users", params={"user_id": person}).json()
        assert (before, receipt["events"], receipt["in_model"]) == ([], 1, True)
        assert receipt["elsewhere"]["registrations"] == 1
        assert receipt["elsewhere"]["exports"] == 3
        assert receipt["purged"] is True
        assert shop.service.keeper.log.history(person) == []
        exported = wait_for_export(shop, begun.json()["export_id"])
        assert person not in exported["user_id"].to_list()
        # The model still holds what they did; no answer rests on it.
        listing = shop.recommend(user_id=person, domains=["gear"])["lists"][0]
        assert listing["fallback"]
        assert shop.client.get("/v1/users").json()["users"] == []
        assert person not in tried(shop, person)
        # Until the next version is made the model still names them; no list may.
        begun = shop.client.post("/v1/exports", json={"domain": "gear", "k": 3})
        exported = wait_for_export(shop, begun.json()["export_id"])
        assert exported["user_id"].n_unique() == fitted().dataset.n_users - 1
        assert person not in exported["user_id"].to_list()
        # Who comes back begins anew.
        assert shop.report("again", person, "gear", GEAR[1]) == 200
        assert not shop.recommend(user_id=person, domains=["gear"])["lists"][0]["fallback"]


def tried(shop: Running, prefix: str) -> list[str]:
    """Whom the page for trying out offers."""
    found: list[str] = shop.client.get("/try/people", params={"prefix": prefix}).json()["users"]
    return found


def wait_for_export(shop: Running, export_id: str) -> pl.DataFrame:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = shop.client.get("/v1/exports").json()["exports"]
        (export,) = [one for one in listed if one["export_id"] == export_id]
        if export["state"] != "running":
            break
        time.sleep(0.05)
    assert export["state"] == "done", export
    found = shop.client.get(f"/v1/exports/{export_id}")
    path = shop.folder / "fetched.parquet"
    path.write_bytes(found.content)
    return pl.read_parquet(path)


def test_an_export_holds_what_would_be_answered(tmp_path: Path) -> None:
    with running(tmp_path) as shop:
        export_id = shop.client.post("/v1/exports", json={"domain": "gear", "k": 4}).json()
        found = wait_for_export(shop, export_id["export_id"])
        person = users()[7]
        rows = found.filter(pl.col("user_id") == person)
        assert rows["item_id"].to_list() == shop.items(user_id=person, domains=["gear"], k=4)
        assert found["user_id"].n_unique() == fitted().dataset.n_users
        assert found["model_version"].unique().to_list() == ["v000001"]


def test_an_export_leaves_out_who_is_hidden_or_was_erased_by_another_process(
    tmp_path: Path,
) -> None:
    hidden, erased = users()[7], users()[9]
    with running(tmp_path) as shop:
        assert tried(shop, hidden) == [hidden]
        shop.client.post("/v1/users/hide", json={"user_id": hidden})
        other = open_log(tmp_path / "events.db")
        other.erase(erased)
        other.close()
        export = shop.client.post("/v1/exports", json={"domain": "gear", "k": 1}).json()
        found = wait_for_export(shop, export["export_id"])["user_id"].to_list()
        everybody = set(fitted().dataset.user_ids.to_list())
        assert everybody - set(found) == {hidden, erased}
        assert tried(shop, hidden) == tried(shop, erased) == []
        # Who comes back is offered again, as somebody new.
        shop.client.put("/v1/users", json={"user_id": erased + "x"})
        assert tried(shop, erased) == [erased + "x"]


def test_rows_of_people_whom_a_version_has_forgotten_are_nobodys(tmp_path: Path) -> None:
    gone = users()[3]
    model = fitted()
    without = forget(model.dataset, [gone])
    parts = (model.config, without.split(model.split), model.raw, model.system)
    forgetful = Recommender(without.dataset, *parts)
    forgetful.save(tmp_path / "model")
    forgetful.export("gear", tmp_path / "all.parquet", k=1)
    with running(tmp_path, model=tmp_path / "model") as shop:
        export = shop.client.post("/v1/exports", json={"domain": "gear", "k": 1}).json()
        served = wait_for_export(shop, export["export_id"])["user_id"].to_list()
        assert tried(shop, "(erased") == []
    for ids in (served, pl.read_parquet(tmp_path / "all.parquet")["user_id"].to_list()):
        assert set(ids) == set(model.dataset.user_ids.to_list()) - {gone}


def test_exports_of_earlier_processes_are_listed_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.serving.exports._KEPT", 3)
    folder = tmp_path / "exports"
    with running(tmp_path) as shop:
        first = shop.client.post("/v1/exports", json={"domain": "gear", "k": 2}).json()
        wait_for_export(shop, first["export_id"])
    (folder / "mine.parquet").write_text("of somebody else")
    (folder / ".0123456789ab.parquet.1.part").write_text("cut short")
    os.utime(folder / ".0123456789ab.parquet.1.part", (1e9, 1e9))
    with running(tmp_path, model=tmp_path / "model") as shop:
        (listed,) = shop.client.get("/v1/exports").json()["exports"]
        assert listed == {**first, "state": "done", "rows": 2 * fitted().dataset.n_users}
        assert shop.client.get(f"/v1/exports/{first['export_id']}").status_code == 200
        later = []
        for _ in range(3):
            export = shop.client.post("/v1/exports", json={"domain": "books", "k": 1}).json()
            wait_for_export(shop, export["export_id"])
            later.append(export["export_id"])
        listed = shop.client.get("/v1/exports").json()["exports"]
        assert [export["export_id"] for export in listed] == later[::-1]
    names = {path.name for path in folder.iterdir()}
    assert names == {"mine.parquet", *(f"{name}.parquet" for name in later)}


def test_a_hidden_person_leaves_no_trace_and_is_answered_as_anybody(shop: Running) -> None:
    person = users()[8]
    assert not shop.recommend(user_id=person, domains=["gear"])["lists"][0]["fallback"]
    shop.client.post("/v1/users/hide", json={"user_id": person})
    assert shop.recommend(user_id=person, domains=["gear"])["lists"][0]["fallback"]
    assert shop.report("hidden-person", person, "gear", GEAR[0]) == 422
    shown = shop.client.get("/v1/users/one", params={"user_id": person}).json()
    assert (shown["hidden"], shown["in_model"]) == (True, True)
    shop.client.post("/v1/users/show", json={"user_id": person})
    assert not shop.recommend(user_id=person, domains=["gear"])["lists"][0]["fallback"]
    assert shop.report("hidden-person", person, "gear", GEAR[0]) == 200


def test_what_runs_is_told(shop: Running) -> None:
    shop.recommend(domains=["gear"])
    assert shop.client.get("/v1/health").json() == {"status": "ok"}
    assert shop.client.get("/v1/ready").json()["ready"]
    (books, gear) = shop.client.get("/v1/domains").json()["domains"]
    assert (books["name"], gear["items"]) == ("books", 60)
    assert "price" in gear["attributes"]
    (version,) = shop.client.get("/v1/models").json()["versions"]
    assert (version["version"], version["live"]) == ("v000001", True)
    numbers = shop.client.get("/v1/metrics").text
    assert 'isthmus_requests_total{route="/v1/recommend",status="200"}' in numbers
    assert "isthmus_model_version 1.0" in numbers
    assert "/v1/nothing" not in numbers


def test_a_log_that_cannot_be_asked_is_told_with_when_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.errors import LogUnavailable

    def out_of_reach(*_: object, **__: object) -> None:
        raise LogUnavailable("the disk is full", where="/secret/events.db", retry_after=4)

    with running(tmp_path) as shop:
        monkeypatch.setattr(shop.service.keeper.log, "submit", out_of_reach)
        monkeypatch.setattr(shop.service.keeper.log, "choices", out_of_reach)
        event = {"event_id": "e", "user_id": "u", "domain": "gear", "item_id": GEAR[0]}
        for path, content in (("/v1/events", event), ("/v1/recommend", {"user_id": "u"})):
            answer = shop.client.post(path, json=content)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "4")
            assert "/secret" not in answer.text
        monkeypatch.undo()
        assert shop.report("e", "u", "gear", GEAR[0]) == 200


def test_a_fault_of_ours_shows_nothing_of_the_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a detail of ours")

    with running(tmp_path) as shop:
        monkeypatch.setattr(shop.service, "report", broken)
        monkeypatch.setattr(shop.service.keeper, "versions", broken)
        event = {"event_id": "e", "user_id": "u", "domain": "gear", "item_id": GEAR[0]}
        for answer in (
            shop.client.post("/v1/events", json=event),
            shop.client.get("/v1/models"),
        ):
            assert answer.status_code == 500
            assert "detail" not in answer.text
            assert problem(answer)["what"] == "something went wrong here"


def test_a_route_that_the_document_names_has_a_role_and_the_other_way_round(shop: Running) -> None:
    from isthmus.serving.routes import ROUTES

    document = shop.client.get("/openapi.json").json()
    told = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    known = {(route.method, route.path) for route in ROUTES}
    assert told == known - {("GET", "/openapi.json"), ("GET", "/docs")}
    for route in ROUTES:
        if (route.method, route.path) in told:
            operation = document["paths"][route.path][route.method.lower()]
            assert ("security" in operation) is (route.role is not None)
