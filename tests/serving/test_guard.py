"""Who may call, how much, and how large."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_world import Running, running

from isthmus.config import ServingConfig
from isthmus.errors import ConfigError
from isthmus.serving.keys import Key, KeyFile, NotAllowed, Role, add_key, revoke_key
from isthmus.serving.limits import RateLimit, TooMany
from isthmus.serving.routes import ROUTES


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    """A service with a key of each role."""
    folder = tmp_path_factory.mktemp("locked")
    path = folder / "keys.json"
    secrets = {role: add_key(path, [role])[1] for role in Role}
    with running(folder, keys=path, max_body=2_000, refused_keys=0) as shop:
        yield shop, secrets


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_asks_for_its_role(locked: tuple[Running, dict[str, str]], route) -> None:
    shop, secrets = locked
    path = route.path.replace("{export_id}", "0123456789ab")
    if route.role is None:
        assert shop.client.request(route.method, path).status_code in (200, 404)
        return
    assert shop.client.request(route.method, path).status_code == 401
    for role, secret in secrets.items():
        # Rolling back and the like are refused for other reasons, once the key is good.
        status = shop.client.request(route.method, path, headers=bearer(secret)).status_code
        assert (status == 403) is (role not in (route.role, Role.ADMIN)), (role, status)
        assert status != 401


def test_an_expired_key_is_told_so_and_how_to_get_another(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, secret = add_key(path, ["admin"], days=-1)
    with running(tmp_path, keys=path) as shop:
        answer = shop.client.get("/v1/domains", headers=bearer(secret))
        assert answer.status_code == 401
        assert answer.json()["error"] == {
            "what": "the key has expired",
            "where": "Authorization",
            "hint": "Have another made with 'isthmus keys add'",
        }


def test_what_does_not_exist_is_not_told_to_strangers(locked) -> None:
    shop, secrets = locked
    assert shop.client.get("/v1/nothing").status_code == 401
    assert shop.client.get("/v1/nothing", headers=bearer(secrets["read"])).status_code == 404


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic abc", "Bearer isk_", "Bearer isk_00000000_x", "Bearer é"],
)
def test_a_key_that_is_none(locked, header: str) -> None:
    shop, _ = locked
    answer = shop.client.post(
        "/v1/recommend", json={}, headers={"Authorization": header.encode("utf-8")}
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["where"] == "Authorization"


def test_a_secret_of_another_key_is_refused(locked) -> None:
    shop, secrets = locked
    _, name, _ = secrets["read"].split("_", 2)
    _, _, other = secrets["admin"].split("_", 2)
    answer = shop.client.post("/v1/recommend", json={}, headers=bearer(f"isk_{name}_{other}"))
    assert answer.status_code == 401


def test_a_body_that_is_too_large_is_refused_announced_or_not(locked) -> None:
    shop, secrets = locked
    large = b'{"filter": "' + b"x" * 3_000 + b'"}'

    def pieces() -> Iterator[bytes]:
        yield large[:1_500]
        yield large[1_500:]

    for content in (large, pieces()):
        answer = shop.client.post("/v1/recommend", content=content, headers=bearer(secrets["read"]))
        assert answer.status_code == 413
        assert "2,000 bytes" in answer.json()["error"]["what"]


def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    with running(tmp_path, rate=0.5, burst=3) as shop:
        statuses = [shop.client.get("/v1/health").status_code for _ in range(5)]
        assert statuses[:3] == [200, 200, 200]
        assert statuses[4] == 429
        answer = shop.client.get("/v1/health")
        assert 1 <= int(answer.headers["retry-after"]) <= 2
        assert "Wait" in answer.json()["error"]["hint"]


def test_a_bucket_fills_at_its_rate_and_callers_have_their_own() -> None:
    now = 0.0
    limit = RateLimit(2.0, 2, clock=lambda: now)
    limit.take("a")
    limit.take("a")
    with pytest.raises(TooMany) as refused:
        limit.take("a")
    assert refused.value.retry_after == pytest.approx(0.5)
    limit.take("b")
    now = 0.5
    limit.take("a")
    with pytest.raises(TooMany):
        limit.take("a")
    now = 100.0
    for _ in range(2):
        limit.take("a")
    with pytest.raises(TooMany):
        limit.take("a")


def test_callers_are_not_remembered_without_end() -> None:
    limit = RateLimit(1.0, 1)
    for n in range(10_050):
        limit.take(str(n))
    assert len(limit._buckets) == 10_000


def test_a_key_is_good_until_it_expires_or_is_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    key, secret = add_key(path, ["read", "ingest"], days=1, note="shop")
    file = KeyFile(path)
    assert file.check(secret, Role.READ).id == key.id
    with pytest.raises(NotAllowed, match="good for read and ingest, this needs admin"):
        file.check(secret, Role.ADMIN)
    assert secret not in path.read_text("utf-8")
    assert path.stat().st_mode & 0o077 == 0
    later = time.time() + 2 * 86_400
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        with pytest.raises(NotAllowed, match="expired"):
            file.check(secret, Role.READ)
    revoke_key(path, key.id)
    monkeypatch.setattr("isthmus.serving.keys._LOOK_SECONDS", 0.0)
    with pytest.raises(NotAllowed, match="no such key"):
        file.check(secret, Role.READ)


def test_a_file_of_keys_that_breaks_leaves_the_keys_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    _, secret = add_key(path, ["read"])
    file = KeyFile(path)
    monkeypatch.setattr("isthmus.serving.keys._LOOK_SECONDS", 0.0)
    path.write_text("{", "utf-8")
    assert isinstance(file.check(secret, Role.READ), Key)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"keys": [{"id": 1}]}', "\x00"])
def test_a_file_that_holds_no_keys(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content, "utf-8")
    with pytest.raises(ConfigError, match="no readable file of keys"):
        KeyFile(path)


def test_keys_that_cannot_be_made_or_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ConfigError, match="Did you mean 'read'"):
        add_key(path, ["reed"])
    with pytest.raises(ConfigError, match="good for nothing"):
        add_key(path, [])
    with pytest.raises(ConfigError, match="no such file of keys"):
        revoke_key(path, "x")
    key, _ = add_key(path, ["read"])
    with pytest.raises(ConfigError, match=key.id):
        revoke_key(path, "x")
    assert [entry["id"] for entry in json.loads(path.read_text("utf-8"))["keys"]] == [key.id]


def test_who_tries_keys_out_is_held_to_the_rate(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, secret = add_key(path, ["read"])
    with running(tmp_path, keys=path, rate=0.01, burst=3) as shop:
        tried = [
            shop.client.get("/v1/domains", headers=bearer(f"isk_0_{n}")).status_code
            for n in range(5)
        ]
        assert tried == [401, 401, 401, 429, 429]
        # A sound key has a bucket of its own.
        assert shop.client.get("/v1/domains", headers=bearer(secret)).status_code == 200


def test_who_has_no_good_key_is_held_up_by_address_without_a_rate_too(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, reader = add_key(path, ["read"])
    with running(tmp_path, keys=path, rate=0, refused_keys=3) as shop:
        # A sound key that lacks the role is no attempt.
        for _ in range(5):
            lacking = shop.client.get("/v1/users", headers=bearer(reader))
            assert lacking.status_code == 403
        for header in ({}, bearer("isk_0_x"), bearer(reader + "x")):
            assert shop.client.get("/v1/domains", headers=header).status_code == 401
        refused = shop.client.get("/v1/domains", headers=bearer("isk_0_y"))
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert "wrong key" in refused.json()["error"]["what"]
        # The form for signing in counts with it, and a good key is good everywhere.
        form = shop.client.get("/sign-in").text
        token = re.search(r'name="isthmus-token" content="(\w+)"', form)
        assert token is not None
        sent = {"token": token[1], "key": "isk_0_z"}
        signing = shop.client.post("/sign-in", data=sent)
        assert (signing.status_code, "retry-after" in signing.headers) == (429, True)
        assert "Too many requests" in signing.text
        good = shop.client.post("/sign-in", data={**sent, "key": reader}, follow_redirects=False)
        assert good.status_code == 303
        assert shop.client.get("/v1/domains", headers=bearer(reader)).status_code == 200


def test_who_calls_too_often_is_held_up_unless_the_configuration_says_otherwise(
    tmp_path: Path,
) -> None:
    usual = ServingConfig()
    assert usual.rate > 0
    assert usual.refused_keys > 0
    with running(tmp_path, rate=usual.rate, burst=5) as shop:
        statuses = [shop.client.get("/v1/health").status_code for _ in range(200)]
        assert statuses[:5] == [200] * 5
        assert 429 in statuses
