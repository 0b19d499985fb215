"""A full disk and a lost database, seen by callers: 503, nothing acknowledged lost, and back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from serving_world import Running, fitted, running, users

from isthmus.online import sqlite
from isthmus.online.log import between
from postgres_cluster import Cluster

GEAR = fitted().dataset.domains[1].items["item_id"].to_list()


def logged(shop: Running) -> list[str]:
    return [found.record.event_id for found in between(shop.service.keeper.log)]


def report(shop: Running, event_id: str) -> int:
    return shop.report(event_id, "x" * 200, "gear", GEAR[0], time=1.6e9)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, pages = sqlite.SqliteDatabase._connect, 60

    def small(self: sqlite.SqliteDatabase) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sqlite.SqliteDatabase, "_connect", small)
    with running(tmp_path) as shop:
        acknowledged = []
        for number in range(2_000):
            status = report(shop, f"e{number}")
            if status != 200:
                break
            acknowledged.append(f"e{number}")
        assert status == 503
        assert len(acknowledged) > 10
        # What needs no space goes on.
        assert shop.items(user_id=users()[0], domains=["gear"])
        assert logged(shop) == acknowledged
        # One that is short might find room in a page that a longer one did not fit into.
        event = {"user_id": "u", "domain": "gear", "item_id": GEAR[0]}
        events = [{**event, "event_id": f"b{n}"} for n in range(500)]
        batch = shop.client.post("/v1/events/batch", json={"events": events})
        assert batch.status_code == 503
        assert int(batch.headers["retry-after"]) >= 1
        assert batch.json()["error"]["what"] == "the disk is full"
        assert "Free some space" in batch.json()["error"]["hint"]
        pages = 1_000_000
        # Connections keep the limit they were opened with; one that a thread held while it failed
        # goes back to the pool, and is dropped by the next write that fails on it.
        again = [report(shop, f"e{number}") for _ in range(5)]
        assert again[-1] == 200
        assert logged(shop) == [*acknowledged, f"e{number}"]


def test_a_database_that_goes_away(tmp_path: Path, cluster: Cluster) -> None:
    with running(tmp_path, where=cluster.fresh()) as shop:
        assert report(shop, "before") == 200
        cluster.stop()
        try:
            asked = {"user_id": users()[0], "domains": ["gear"]}
            item = {"domain": "gear", "item_id": "NEW", "title": "compass"}
            for answer in (
                shop.client.post("/v1/recommend", json=asked),
                shop.client.put("/v1/items", json={"items": [item]}),
                shop.client.delete("/v1/users", params={"user_id": "u"}),
            ):
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert "host=" not in answer.text
            assert report(shop, "meanwhile") == 503
            assert shop.client.get("/v1/health").status_code == 200
            ready = shop.client.get("/v1/ready")
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
        finally:
            cluster.start()
        assert shop.client.get("/v1/ready").status_code == 200
        assert report(shop, "meanwhile") == 200
        assert report(shop, "before") == 200
        assert logged(shop) == ["before", "meanwhile"]
        assert shop.items(**asked)
