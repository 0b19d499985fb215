"""A version is warmed with how people ask, which tells of nobody and outlives the process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from serving_world import fitted, running, users
from starlette.testclient import TestClient

from isthmus.config import ServingConfig
from isthmus.online.catalogue import Catalogue, Item, open_catalogue
from isthmus.online.log import open_log
from isthmus.serving import warming
from isthmus.serving.app import make_app
from isthmus.serving.exports import Exports
from isthmus.serving.keeper import Keeper
from isthmus.serving.live import Live
from isthmus.serving.messages import ItemRef, Recommend
from isthmus.serving.service import Service
from isthmus.serving.warming import Recorded
from word_encoder import WordEncoder

ASKED = Recommend(
    user_id="ann-s-person",
    history=[ItemRef("gear", "ann-s-item")],
    exclude=["ann-s-item"],
    cursor="ann-s-cursor",
    domains=["gear"],
    k=7,
    filter="price > 3",
    diversity=0.5,
    seen=True,
    explain=True,
)
FORM = Recommend(domains=["gear"], k=7, filter="price > 3", diversity=0.5, seen=True, explain=True)


@pytest.fixture
def catalogue(tmp_path: Path):
    found = open_catalogue(tmp_path / "events.db")
    yield found
    found.close()


def forms(recorded: Recorded) -> list[Recommend]:
    return list(recorded.asked_by([]))


def test_the_form_of_a_question_is_kept_once_and_nothing_of_who_asked(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    recorded = Recorded()
    for _ in range(3):
        recorded.add(ASKED)
    assert forms(recorded) == [FORM]
    recorded.keep(catalogue)
    for file in tmp_path.iterdir():
        assert b"ann-s-" not in file.read_bytes()
    later = Recorded()
    later.load(catalogue)
    assert forms(later) == [FORM]
    (asked,) = later.asked_by(["ann", "eve"])
    assert asked.user_id == "ann"


def test_few_forms_are_kept_the_latest_and_none_that_is_long(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "MOST", 3)
    recorded = Recorded()
    for k in (1, 2, 3, 1, 4):
        recorded.add(Recommend(k=k))
    recorded.add(Recommend(filter="x" * 3000))
    assert [asked.k for asked in recorded.asked_by(["ann", "eve"])] == [3, 1, 4]
    assert [asked.user_id for asked in recorded.asked_by(["ann", "eve"])] == ["ann", "eve", "ann"]
    recorded.keep(catalogue)
    other = Recorded()
    other.add(Recommend(k=9))
    other.keep(catalogue)
    later = Recorded()
    later.load(catalogue)
    assert [asked.k for asked in forms(later)] == [1, 4, 9]


def test_what_another_version_of_the_library_kept_does_no_harm(catalogue: Catalogue) -> None:
    catalogue.keep_questions({'{"colour": "red"}': 1.0, '{"k": 5}': 2.0, "nonsense": 3.0}, 64)
    recorded = Recorded()
    recorded.load(catalogue)
    assert forms(recorded) == [Recommend(k=5)]


def test_how_was_asked_is_asked_again_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as shop:
        asked = {"user_id": users()[0], "domains": ["gear"], "filter": "price > 3", "k": 3}
        shop.recommend(**asked)
    seen: list[Recommend] = []
    questions = Live.questions

    def spied(self: Live, asked: Recommend, past):  # type: ignore[no-untyped-def]
        seen.append(asked)
        return questions(self, asked, past)

    monkeypatch.setattr(Live, "questions", spied)
    with running(tmp_path, model=tmp_path / "model") as shop:
        (again,) = [asked for asked in seen if asked.filter is not None]
        assert (again.filter, again.k, again.domains) == ("price > 3", 3, ["gear"])
        # For people whom the model knows, so that there is a history to read.
        assert again.user_id in fitted().dataset.user_index
        seen.clear()
        fitted(1).save(tmp_path / "model")
        keeper = shop.service.keeper
        while keeper.live.version != "v000002":
            keeper.wait_for(0, 0.05)
        assert [asked.filter for asked in seen if asked.filter] == ["price > 3"]


def test_health_answers_and_ready_does_not_until_the_model_is_warm(tmp_path: Path) -> None:
    go_on = threading.Event()

    class Slow(WordEncoder):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            assert go_on.wait(30)
            return super().encode(texts)

    fitted().save(tmp_path / "model")
    where = tmp_path / "events.db"
    catalogue = open_catalogue(where)
    change = catalogue.describe([Item("gear", "NEW", title="compass")])
    catalogue.hide_person("shy")
    keeper = Keeper(
        tmp_path / "model", open_log(where), catalogue, poll_seconds=0.05, encoder=Slow()
    )
    keeper.start(wait=False)
    service = Service(keeper, ServingConfig(rate=0.0), Exports(tmp_path / "exports", keeper))
    app = make_app(service, None)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        try:
            assert client.get("/v1/health").status_code == 200
            ready = client.get("/v1/ready")
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
            assert client.post("/v1/recommend", json={"user_id": users()[0]}).status_code == 200
            item = keeper.live.shelves[1].ids[0]
            event = {"event_id": "e", "user_id": "shy", "domain": "gear", "item_id": item}
            assert client.post("/v1/events", json=event).json()["error"]["where"] == "hidden-user"
        finally:
            go_on.set()
        assert keeper.ready.wait(30)
        assert client.get("/v1/ready").status_code == 200
        assert keeper.wait_for(change, 30)
        assert "NEW" in keeper.live.shelves[1].index


def test_a_start_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted().save(tmp_path / "model")
    where, tried = tmp_path / "events.db", []

    def failing(live: Live, *others: object) -> None:
        tried.append(live)
        if len(tried) < 3:
            raise ValueError("not yet")

    monkeypatch.setattr("isthmus.serving.keeper.warm", failing)
    keeper = Keeper(
        tmp_path / "model",
        open_log(where),
        open_catalogue(where),
        poll_seconds=0.05,
        encoder=WordEncoder(),
    )
    keeper.start(wait=False)
    assert keeper.ready.wait(30)
    assert (len(tried), keeper.problem) == (3, None)
    keeper.close()
