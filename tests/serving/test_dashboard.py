"""The dashboard's pages as they leave the service: escaped, closed to others, honest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from dashboard_world import HOSTILE, hostile, learnt
from serving_world import Running, running
from starlette.testclient import TestClient

from isthmus.online.log import open_log
from isthmus.serving.keys import Role, add_key, revoke_key
from isthmus.serving.pages.overview import quantile
from isthmus.serving.pages.rendering import PAGES, POLICY
from isthmus.serving.pages.sessions import COOKIE


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("pages")
    log = open_log(folder / "events.db")
    learnt(folder / "model", log)
    log.close()
    secrets = {role: add_key(folder / "keys.json", [role])[1] for role in Role}
    with running(folder, keys=folder / "keys.json", model=folder / "model") as shop:
        yield shop, secrets


def token(text: str) -> str:
    found = re.search(r'name="isthmus-token" content="(\w+)"', text)
    assert found is not None
    return found[1]


def browser(shop: Running, key: str | None) -> Any:
    """A client of its own, signed in with a key."""
    client = TestClient(shop.app, base_url="http://127.0.0.1", follow_redirects=False)
    if key is not None:
        form = client.get("/sign-in")
        answer = client.post("/sign-in", data={"token": token(form.text), "key": key, "next": "/"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return client


@pytest.mark.parametrize("path", [path for path, _ in PAGES])
def test_pages_are_closed_strict_and_escaped(locked: Any, path: str) -> None:
    shop, secrets = locked
    stranger = browser(shop, None).get(path)
    assert (stranger.status_code, stranger.headers["location"]) == (303, f"/sign-in?next={path}")
    answer = browser(shop, secrets[Role.READ]).get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"
    # Scripts are our files, or data that does not run; no title breaks out of either.
    for script in re.findall(r"<script[^>]*>", answer.text):
        assert 'src="/static/' in script or 'type="application/json"' in script
    assert HOSTILE[:20] not in answer.text
    assert "<img" not in answer.text
    assert not re.search(r"(src|href)=\"(https?:)?//", answer.text)


def test_the_map_holds_hostile_titles_as_text(locked: Any) -> None:
    shop, secrets = locked
    text = browser(shop, secrets[Role.READ]).get("/map").text
    # Escaped for Plotly, which reads some HTML, then for the script element around it.
    assert "\\u0026lt;script\\u0026gt;" in text


def test_a_cookie_is_out_of_reach_and_ends_with_its_key(locked: Any) -> None:
    shop, _ = locked
    keys = shop.folder / "keys.json"
    key, secret = add_key(keys, ["read"])
    # The service looks at the file again after a second.
    read_by_service = shop.app._keys  # type: ignore[attr-defined]
    read_by_service._looked = -1e9
    client = browser(shop, None)
    form = client.get("/sign-in")
    answer = client.post("/sign-in", data={"token": token(form.text), "key": secret})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert secret.rpartition("_")[2] not in cookie
    assert client.get("/models").status_code == 200
    forged = client.cookies[COOKIE].replace(key.id, key.id[::-1])
    client.cookies.clear()
    assert client.get("/models", headers={"cookie": f"{COOKIE}={forged}"}).status_code == 303
    signed_in = browser(shop, secret)
    revoke_key(keys, key.id)
    read_by_service._looked = -1e9
    assert signed_in.get("/models").status_code == 303


def test_a_wrong_key_is_refused_and_not_shown_again(locked: Any) -> None:
    shop, secrets = locked
    client = browser(shop, None)
    form = client.get("/sign-in")
    sent = {"token": token(form.text), "key": "isk_00000000_wrong", "next": "//elsewhere.example"}
    answer = client.post("/sign-in", data=sent)
    assert answer.status_code == 401
    assert "wrong" not in answer.text
    good = client.post("/sign-in", data={**sent, "key": secrets[Role.READ]})
    assert good.headers["location"] == "/"


@pytest.mark.parametrize("path", ["/models/promote", "/models/rollback", "/sign-out"])
def test_a_form_from_elsewhere_is_refused(locked: Any, path: str) -> None:
    shop, secrets = locked
    client = browser(shop, secrets[Role.ADMIN])
    other = token(browser(shop, secrets[Role.ADMIN]).get("/models").text)
    for wrong in ("", "0" * 64, other):
        answer = client.post(path, data={"version": "v000001", "token": wrong})
        assert answer.status_code == 403
        assert "not sent from an open page" in answer.text
    assert client.get("/models").status_code == 200


def test_the_api_takes_a_session_with_its_token_and_roles(locked: Any) -> None:
    shop, secrets = locked
    reader = browser(shop, secrets[Role.READ])
    sent = {"x-isthmus-token": token(reader.get("/try").text)}
    asked = {"user_id": "x", "domains": ["gear"]}
    assert reader.post("/v1/recommend", json=asked).status_code == 403
    assert reader.post("/v1/recommend", json=asked, headers=sent).status_code == 200
    item = hostile().dataset.domains[1].items["item_id"][3]
    event = {"event_id": "p1", "user_id": "x", "domain": "gear", "item_id": item}
    assert reader.post("/v1/events", json=event, headers=sent).status_code == 403
    assert "may read only" in reader.get("/try").text
    assert reader.get("/try/people").status_code == 403
    form = {"token": sent["x-isthmus-token"], "version": "v000001"}
    assert reader.post("/models/promote", data=form).status_code == 403
    assert "Promote" not in re.sub("Promoting", "", reader.get("/models").text)
    admin = browser(shop, secrets[Role.ADMIN])
    sent = {"x-isthmus-token": token(admin.get("/try").text)}
    assert admin.post("/v1/events", json=event, headers=sent).status_code == 200
    history = admin.get("/try/history", params={"user_id": "x"}).json()
    assert history["domains"][1]["items"][0]["item_id"] == item


def test_an_admin_promotes_and_rolls_back(locked: Any) -> None:
    shop, secrets = locked
    admin = browser(shop, secrets[Role.ADMIN])
    form = {"token": token(admin.get("/models").text)}
    assert "<b>v000003</b>, was kept back" in admin.get("/").text
    assert admin.post("/models/promote", data={**form, "version": "v000003"}).status_code == 303
    assert shop.service.keeper.versions()[0] == "v000003"
    assert admin.post("/models/rollback", data=form).status_code == 303
    assert shop.service.keeper.versions()[0] == "v000002"
    # It was live, so it is no challenger that was kept back.
    overview, models = admin.get("/").text, admin.get("/models").text
    assert "<b>v000003</b> was live, and was rolled back" in overview
    assert "kept back" not in overview
    assert "It was live, until it was rolled back." in models
    assert "no version newer than the champion was kept back" in models
    missing = admin.post("/models/promote", data={**form, "version": "<b>"})
    assert missing.status_code == 409
    assert "&lt;b&gt;" in missing.text


def test_people_and_titles_are_found(locked: Any) -> None:
    shop, secrets = locked
    admin = browser(shop, secrets[Role.ADMIN])
    users = admin.get("/try/people", params={"prefix": "u0001"}).json()["users"]
    assert users
    assert all(name.startswith("u0001") for name in users)
    # Registered people by how they begin, and by the whole id, once.
    sent = {"authorization": f"Bearer {secrets[Role.ADMIN]}"}
    for name in ("zoe", "zoe-2"):
        shop.client.put("/v1/users", json={"user_id": name}, headers=sent)
    for prefix, names in (
        ("zo", ["zoe", "zoe-2"]),
        ("zoe", ["zoe", "zoe-2"]),
        ("zoe-2", ["zoe-2"]),
    ):
        answer = admin.get("/try/people", params={"prefix": prefix})
        assert answer.json()["users"] == names
    found = admin.get("/try/items", params={"domain": "gear", "words": "SCRIPT onerror"}).json()
    assert found["items"]
    assert all(item["title"].startswith(HOSTILE) for item in found["items"])


def test_without_keys_a_page_without_an_origin_gets_nothing(shop: Running) -> None:
    assert shop.client.get("/").status_code == 200
    refused = shop.client.post("/v1/recommend", json={}, headers={"Origin": "null"})
    assert refused.status_code == 403


@pytest.mark.parametrize("name", ["report.css", "try.js", "icon.svg", "plotly.js"])
def test_files_of_a_page_are_served_to_anybody(locked: Any, name: str) -> None:
    answer = locked[0].client.get(f"/static/{name}")
    assert answer.status_code == 200
    assert "json" not in answer.headers["content-type"]


def test_pages_say_so_where_there_is_nothing_to_show(shop: Running) -> None:
    assert "No version was held against another yet" in shop.client.get("/learning").text
    assert "No run is named" in shop.client.get("/transfer").text


def test_a_quantile_is_spread_within_its_bucket() -> None:
    edges = [(0.1, 0.0), (0.2, 10.0), (float("inf"), 20.0)]
    assert quantile(edges, 0.25) == pytest.approx(0.15)
    assert quantile(edges, 0.99) == pytest.approx(0.2)
