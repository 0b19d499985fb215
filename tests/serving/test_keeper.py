"""New versions, arrivals and marks take effect whole, and while answers are given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from serving_world import Running, fitted, gated, running, users
from starlette.testclient import TestClient

from isthmus.config import ServingConfig
from isthmus.errors import LanguageModelError, LogError
from isthmus.online.catalogue import Item, open_catalogue
from isthmus.online.events import Event
from isthmus.online.log import open_log
from isthmus.recommender import Recommender
from isthmus.recommender.storage import LogPosition
from isthmus.serving.app import make_app
from isthmus.serving.counting import AT_ONCE
from isthmus.serving.exports import Exports
from isthmus.serving.keeper import Keeper
from isthmus.serving.service import Service
from isthmus.training.checkpoint import promote
from isthmus.training.versions import read_pointer
from word_encoder import WordEncoder


def wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_a_published_version_is_taken_over_and_rolled_back(tmp_path: Path) -> None:
    with running(tmp_path) as shop:
        keeper = shop.service.keeper
        item = {
            "domain": "gear",
            "item_id": "NEW",
            "title": "compass",
            "attributes": {"price": 777},
        }
        shop.client.put("/v1/items", json={"items": [item]})
        fitted(1).save(tmp_path / "model")
        wait(lambda: keeper.live.version == "v000002")
        answer = shop.recommend(user_id=users()[0], domains=["gear"], filter="price > 700")
        assert answer["model_version"] == "v000002"
        # What was registered is known to the new version too.
        assert [i["item_id"] for i in answer["lists"][0]["items"]] == ["NEW"]
        assert shop.client.post("/v1/models/rollback").json() == {"live": "v000001"}
        wait(lambda: keeper.live.version == "v000001")
        promoted = shop.client.post("/v1/models/promote", json={"version": "v000002"})
        assert promoted.json() == {"live": "v000002"}
        wait(lambda: keeper.live.version == "v000002")
        versions = shop.client.get("/v1/models").json()
        assert versions["answering"] == versions["live"] == "v000002"
        assert [v["version"] for v in versions["versions"]] == ["v000002", "v000001"]


def test_no_answer_is_dropped_or_mixed_while_versions_change(tmp_path: Path) -> None:
    one, other = fitted(), fitted(1)
    person = users()[0]
    expected = {
        version: {
            domain: model.recommend(domain, users=[person], k=10)["item_id"].to_list()
            for domain in ("books", "gear")
        }
        for version, model in (("odd", one), ("even", other))
    }
    assert expected["odd"] != expected["even"]
    seen, wrong, stop = set(), [], threading.Event()

    def ask(shop: Running) -> None:
        while not stop.is_set():
            answer = shop.client.post("/v1/recommend", json={"user_id": person, "k": 10})
            if answer.status_code != 200:
                wrong.append(answer.text)
                continue
            found = answer.json()
            version = found["model_version"]
            seen.add(version)
            of = expected["odd" if int(version[1:]) % 2 else "even"]
            for listing in found["lists"]:
                ids = [item["item_id"] for item in listing["items"]]
                if ids != of[listing["domain"]]:
                    wrong.append((version, listing["domain"], ids))

    with running(tmp_path) as shop:
        threads = [threading.Thread(target=ask, args=(shop,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for n in range(5):
            (other if n % 2 == 0 else one).save(tmp_path / "model")
            version = f"v{n + 2:06d}"
            wait(lambda version=version: shop.service.keeper.live.version == version)
            wait(lambda version=version: version in seen)
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(seen) == 6


def test_a_version_that_cannot_be_taken_over_leaves_the_present_one(tmp_path: Path) -> None:
    with running(tmp_path) as shop:
        fitted(1).save(tmp_path / "model")
        wait(lambda: shop.service.keeper.live.version == "v000002")
        aside = tmp_path / "aside"
        aside.write_text('{"version": "v000009", "seal": "x"}\n')
        aside.replace(tmp_path / "model" / "current")
        wait(lambda: shop.service.keeper.problem is not None)
        assert shop.recommend(user_id=users()[0])["model_version"] == "v000002"
        assert "missing" in shop.client.get("/v1/ready").json()["problem"]


def test_what_cannot_be_loaded_is_tried_ever_more_seldom_and_forgotten_after_a_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tried = 0.0, 0
    model = tmp_path / "model"
    fitted().save(model)
    log, catalogue = open_log(tmp_path / "e.db"), open_catalogue(tmp_path / "e.db")
    keeper = Keeper(model, log, catalogue, poll_seconds=1.0, encoder=WordEncoder())
    good = (model / "current").read_text()
    (model / "current").write_text('{"version": "v000009", "seal": "x"}\n')
    load = Keeper._load

    def counted(self: Keeper) -> object:
        nonlocal tried
        tried += 1
        return load(self)

    monkeypatch.setattr(Keeper, "_load", counted)
    monkeypatch.setattr("isthmus.serving.keeper.time.monotonic", lambda: now)
    for _ in range(300):
        keeper._try(keeper._follow)
        now += 1.0
    # After 1, 2, 4 … seconds, and then once a minute.
    assert tried == 10
    assert keeper.problem is not None
    (model / "current").write_text(good)
    keeper._follow()
    assert keeper.problem is None
    log.close()
    catalogue.close()


def test_texts_that_cannot_be_read_keep_nothing_else_from_being_done(tmp_path: Path) -> None:
    works = False

    class Broken(WordEncoder):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            if not works:
                raise LanguageModelError("no language model", hint="Name one")
            return super().encode(texts)

    model, where = tmp_path / "model", tmp_path / "events.db"
    fitted().save(model)
    log, catalogue = open_log(where), open_catalogue(where)
    quick = {"poll_seconds": 0.05, "count_seconds": 0.05, "encoder": Broken()}
    catalogue.describe([Item("gear", "NEW", title="compass")])
    known, other = fitted().dataset.domains[1].items["item_id"][:2]
    keeper = Keeper(model, log, catalogue, **quick)
    keeper.start(wait=False)
    try:
        # It starts, takes versions over with the marks of this moment, and counts.
        wait(keeper.ready.is_set)
        assert "no language model" in str(keeper.problem)
        gated(0.5).save(model)
        wait(lambda: keeper.live.version == "v000002")
        catalogue.hide("gear", known)
        gated(1.0).save(model)
        wait(lambda: keeper.live.version == "v000003")
        assert not keeper.live.shelves[1].offered[0]
        assert "NEW" not in keeper.live.shelves[1].index
        assert not keeper.wait_for(catalogue.head(), 0.2)
        log.append([Event(f"e{n}", f"u{n}", "gear", other, time.time()) for n in range(20)])
        wait(lambda: keeper.live.counted == log.head())
        assert "no language model" in str(keeper.problem)
        works = True
        assert keeper.wait_for(catalogue.head(), 30)
        assert "NEW" in keeper.live.shelves[1].index
    finally:
        keeper.close()
        log.close()
        catalogue.close()


def test_a_step_that_fails_keeps_no_other_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Keeper) -> None:
        raise ValueError("broken")

    model = tmp_path / "model"
    fitted().save(model)
    log, catalogue = open_log(tmp_path / "e.db"), open_catalogue(tmp_path / "e.db")
    keeper = Keeper(model, log, catalogue, encoder=WordEncoder())
    known = fitted().dataset.domains[1].items["item_id"][0]
    log.append([Event("e1", "ann", "gear", known, time.time())])
    for step in ("_take_in", "_follow"):
        monkeypatch.setattr(Keeper, step, broken)
    keeper._look()
    assert (keeper.live.counted, keeper.problem) == (log.head(), "broken")
    log.close()
    catalogue.close()


def test_every_version_is_settled_once_when_it_is_ready(tmp_path: Path) -> None:
    model = tmp_path / "model"
    fitted().save(model)
    log, catalogue = open_log(tmp_path / "e.db"), open_catalogue(tmp_path / "e.db")
    settled: list[str] = []
    keeper = Keeper(
        *(model, log, catalogue),
        poll_seconds=0.05,
        encoder=WordEncoder(),
        settled=lambda: settled.append(keeper.live.version),
    )
    keeper.start()
    assert settled == ["v000001"]
    fitted(1).save(model)
    wait(lambda: len(settled) > 1)
    keeper.close()
    assert settled == ["v000001", "v000002"]
    log.close()
    catalogue.close()


def test_a_backlog_is_counted_in_stretches_with_rests_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    fitted().save(model)
    log, catalogue = open_log(tmp_path / "e.db"), open_catalogue(tmp_path / "e.db")
    keeper = Keeper(model, log, catalogue, poll_seconds=60.0, encoder=WordEncoder())
    keeper.start()
    (first, *_) = fitted().dataset.domains[0].items["item_id"]
    name = fitted().dataset.names[0]
    now = time.time()
    log.append([Event(f"e{n}", "ann", name, first, now) for n in range(2 * AT_ONCE + 1)])
    rests: list[float] = []
    monkeypatch.setattr("isthmus.serving.keeper.time.sleep", rests.append)
    before = keeper.live.counted
    keeper._count()
    assert len(rests) == 3
    assert min(rests) > 0
    assert keeper.live.counted == before + 2 * AT_ONCE + 1
    keeper.close()
    log.close()
    catalogue.close()


def test_a_model_of_another_log_is_refused(tmp_path: Path) -> None:
    model = fitted()
    copy = Recommender(
        model.dataset,
        model.config,
        model.split,
        model.raw,
        model.system,
        LogPosition("somebody else's", 12),
    )
    copy.save(tmp_path / "model")
    log, catalogue = open_log(tmp_path / "e.db"), open_catalogue(tmp_path / "e.db")
    with pytest.raises(LogError, match="another event log"):
        Keeper(tmp_path / "model", log, catalogue)


def test_a_log_put_back_to_an_older_state_is_refused(tmp_path: Path) -> None:
    model = fitted()
    log, catalogue = open_log(tmp_path / "e.db"), open_catalogue(tmp_path / "e.db")
    place = LogPosition(log.id, 12)
    parts = (model.dataset, model.config, model.split, model.raw, model.system)
    Recommender(*parts, place).save(tmp_path / "model")
    with pytest.raises(LogError, match="up to 12, and it ends at 0: it was put back"):
        Keeper(tmp_path / "model", log, catalogue)


def test_a_version_whose_events_were_compacted_away_is_refused(tmp_path: Path) -> None:
    log, catalogue = open_log(tmp_path / "e.db"), open_catalogue(tmp_path / "e.db")
    log.append([Event(f"e{n}", "ann", "gear", "g1", 1e9 + n) for n in range(5)])
    log.compact(before=1e9 + 3)
    model = fitted()
    parts = (model.dataset, model.config, model.split, model.raw, model.system)
    Recommender(*parts, LogPosition(log.id, 2)).save(tmp_path / "model")
    with pytest.raises(LogError, match="up to 2, and records up to 3 have been compacted away"):
        Keeper(tmp_path / "model", log, catalogue)
    Recommender(*parts, LogPosition(log.id, 3)).save(tmp_path / "model")
    keeper = Keeper(tmp_path / "model", log, catalogue, encoder=WordEncoder())
    # Nobody goes back to it, and what another program makes live is not taken over.
    service = Service(keeper, ServingConfig(rate=0.0), Exports(tmp_path / "exports", keeper))
    client = TestClient(make_app(service, None), base_url="http://127.0.0.1")
    promoted = client.post("/v1/models/promote", json={"version": "v000001"})
    for answer in (promoted, client.post("/v1/models/rollback")):
        assert answer.status_code == 409
        assert "have been compacted away" in answer.json()["error"]["what"]
        assert "Serve a later version" in answer.json()["error"]["hint"]
        assert str(tmp_path) not in answer.text
        assert read_pointer(tmp_path / "model").folder.name == "v000002"
    promote(tmp_path / "model", "v000001")
    with pytest.raises(LogError, match="compacted away"):
        keeper._follow()
    assert keeper.live.version == "v000002"
    log.close()
    catalogue.close()


def test_two_workers_see_each_others_registrations(tmp_path: Path) -> None:
    """What one process acknowledges, the next answer of another respects."""
    with running(tmp_path) as first:
        where = tmp_path / "events.db"
        second = Keeper(
            tmp_path / "model",
            open_log(where),
            open_catalogue(where),
            poll_seconds=0.05,
            encoder=WordEncoder(),
        )
        second.start()
        try:
            shelf = second.live.shelves[1]
            key = {"domain": "gear", "item_id": shelf.ids[0]}
            first.client.post("/v1/items/hide", json=key)
            assert not second.refresh().shelves[1].offered[0]
            first.client.post("/v1/users/hide", json={"user_id": "shy"})
            second.refresh()
            assert "shy" in second.hidden_people
            item = {"domain": "gear", "item_id": "NEW", "title": "compass"}
            first.client.put("/v1/items", json={"items": [item]})
            wait(lambda: "NEW" in second.live.shelves[1].index)
            # An erased person is a stranger to both, whatever the model holds.
            person = users()[1]
            first.client.delete("/v1/users", params={"user_id": person})
            assert len(second.past(second.refresh(), person, [], limit=10)) == 0
        finally:
            second.close()


def test_marks_made_while_texts_are_read_are_kept(tmp_path: Path) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Slow(WordEncoder):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            reading.set()
            assert go_on.wait(30)
            return super().encode(texts)

    fitted().save(tmp_path / "model")
    where = tmp_path / "events.db"
    catalogue = open_catalogue(where)
    keeper = Keeper(
        tmp_path / "model", open_log(where), catalogue, poll_seconds=0.05, encoder=Slow()
    )
    keeper.start()
    try:
        change = catalogue.describe([Item("gear", "NEW", title="compass")])
        assert not keeper.wait_for(change, 0.2)
        assert reading.wait(30)
        catalogue.hide("gear", keeper.live.shelves[1].ids[0])
        assert not keeper.refresh().shelves[1].offered[0]
        go_on.set()
        assert keeper.wait_for(change, 30)
        assert "NEW" in keeper.live.shelves[1].index
        assert not keeper.live.shelves[1].offered[0]
    finally:
        go_on.set()
        keeper.close()


def test_an_item_hidden_before_it_is_described_stays_hidden(tmp_path: Path) -> None:
    with running(tmp_path) as shop:
        catalogue = shop.service.keeper.catalogue
        catalogue.hide("gear", "LATER")
        item = {
            "domain": "gear",
            "item_id": "LATER",
            "title": "compass",
            "attributes": {"price": 888},
        }
        shop.client.put("/v1/items", json={"items": [item]})
        asked = {"user_id": users()[0], "domains": ["gear"], "filter": "price > 800"}
        assert shop.items(**asked) == []
        shop.client.post("/v1/items/show", json={"domain": "gear", "item_id": "LATER"})
        assert shop.items(**asked) == ["LATER"]
        # A new description of a hidden item does not show it.
        shop.client.post("/v1/items/hide", json={"domain": "gear", "item_id": "LATER"})
        shop.client.put("/v1/items", json={"items": [{**item, "title": "chart"}]})
        assert shop.items(**asked) == []


def test_registrations_outlive_the_process(tmp_path: Path) -> None:
    item = {"domain": "gear", "item_id": "NEW", "title": "compass", "attributes": {"price": 777}}
    with running(tmp_path) as shop:
        shop.client.put("/v1/items", json={"items": [item]})
    with running(tmp_path, model=tmp_path / "model") as shop:
        asked = {"user_id": users()[0], "domains": ["gear"], "filter": "price > 700"}
        assert shop.items(**asked) == ["NEW"]
