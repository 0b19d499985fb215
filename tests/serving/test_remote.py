"""A running service answers simulated traffic: by its application, and over a real connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from serving_world import Running, running

from isthmus.config import Config
from isthmus.data.world import DomainSpec, World, WorldConfig, generate_world
from isthmus.errors import RequestError
from isthmus.online.events import Event
from isthmus.online.simulation import base_model, simulate
from isthmus.online.traffic import Traffic, TrafficConfig
from isthmus.serving import caller as caller_module
from isthmus.serving.caller import Caller
from isthmus.serving.remote import Remote
from word_encoder import WordEncoder

CONFIG = Config.model_validate(
    {
        "model": {"dim": 16, "layers": 1, "heads": 2, "max_length": 20, "adapter_rank": 2},
        "training": {"epochs": 1, "evaluate_every": 1, "batch_events": 512, "negatives": 32},
        "evaluation": {"bootstrap": 100, "min_slice": 20, "cutoffs": [10]},
        "language": {"whiten_dim": 16},
    }
)


def make_world(seed: int = 0) -> World:
    domains = (DomainSpec(name="books", n_items=80), DomainSpec(name="gear", n_items=60))
    return generate_world(WorldConfig(n_users=120, n_themes=5, domains=domains, seed=seed))


class Inside(Caller):
    """Speaks to an application in this process."""

    def __init__(self, service: Running) -> None:
        super().__init__("http://127.0.0.1")
        self._client = service.client

    def _send(self, method: str, path: str, body: str | None) -> tuple[int, float, bytes]:
        answer = self._client.request(method, path, content=body, headers=self._headers)
        return answer.status_code, 1.0, answer.content


@pytest.fixture(scope="module")
def living() -> World:
    return make_world()


@pytest.fixture
def service(living: World, tmp_path: Path) -> Iterator[Running]:
    """The model of the world's first 40 %, served."""
    base_model(living, CONFIG, WordEncoder()).save(tmp_path / "model")
    with running(tmp_path, model=tmp_path / "model", count_seconds=0.5) as found:
        yield found


def test_a_service_lives_through_the_world_beside_the_others(
    living: World, service: Running
) -> None:
    remote, reported = Remote(Inside(service), living.dataset), []
    observe = remote.observe
    remote.observe = lambda e: (reported.extend(e), observe(e))[1]  # type: ignore[method-assign]
    found = simulate(
        living,
        CONFIG,
        WordEncoder(),
        arms=["frozen", "oracle"],
        others=[remote],
        night_days=220,
    )
    # The same weights and histories; what is popular is counted by the clock, not by the night.
    frozen, served = found.click_through("frozen"), found.click_through("service")
    assert served[0] == pytest.approx(frozen[0], rel=0.05)
    assert all(a > b for a, b in zip(found.click_through("oracle"), served, strict=True))
    logged = {r.record.event_id: r.record for r in service.service.keeper.log.read(0, 100_000)}
    assert {e.event_id for e in reported} >= logged.keys()
    clicked = [e for e in logged.values() if e.recommendation_id is not None]
    assert len(clicked) > 50
    # By the service's own names of its answers.
    assert all(len(e.recommendation_id) == 24 for e in clicked)
    last = Traffic(living, TrafficConfig(found.days["service"][0].start))
    for shelf in service.service.live.shelves:
        out = last.released(found.days["service"][-1].start)[shelf.name]
        assert {raw for raw, no in zip(shelf.ids, shelf.hidden, strict=True) if not no} == {*out}

    with pytest.raises(RequestError, match=r"was not taken: .* with a new event log"):
        Remote(Inside(service), living.dataset).observe(
            [Event(**{n: getattr(reported[0], n) for n in Event.__slots__})]
        )


def test_what_is_not_out_yet_is_hidden_and_what_the_service_lacks_is_registered(
    living: World, service: Running
) -> None:
    ids = living.dataset.domains[0].items["item_id"].to_list()
    longer = make_larger(living)
    remote = Remote(Inside(service), longer.dataset)
    remote.release("books", ids[:50])
    shelf = service.service.keeper.refresh().shelves[0]
    more = longer.dataset.domains[0].items["item_id"].to_list()
    assert len(more) > len(ids)
    assert {raw for raw in more if not shelf.hidden[shelf.index[raw]]} == {*ids[:50]}
    remote.release("books", [*ids[:50], more[-1]])
    shelf = service.service.keeper.refresh().shelves[0]
    assert not shelf.hidden[shelf.index[more[-1]]]
    assert shelf.hidden.sum() == len(more) - 51


def make_larger(living: World) -> World:
    """The same world with an item more in books than the service knows."""
    from dataclasses import replace
    from types import SimpleNamespace

    import polars as pl

    books, gear = living.dataset.domains
    row = books.items.tail(1).with_columns(pl.lit("extra").alias("item_id"))
    items = pl.concat([books.items, row])
    found = replace(living.dataset, domains=(replace(books, items=items), gear))
    return SimpleNamespace(dataset=found)  # type: ignore[return-value]


def test_another_world_is_refused(service: Running) -> None:
    with pytest.raises(RequestError, match="of another world: item 'b00000' of books"):
        Remote(Inside(service), make_world(seed=1).dataset).release("books", ["b00000"])
    films = (DomainSpec(name="films", n_items=60),)
    other = generate_world(WorldConfig(n_users=50, n_themes=5, domains=films)).dataset
    with pytest.raises(RequestError, match="no domain 'films'"):
        Remote(Inside(service), other).release("films", [])


Told = tuple[int, dict[str, str], bytes]


@pytest.fixture
def listening() -> Iterator[Callable[[list[Told]], tuple[str, list[str | None]]]]:
    """Starts a server of canned answers; gives its address and the keys that it is shown."""
    servers: list[HTTPServer] = []

    def start(answers: list[Told]) -> tuple[str, list[str | None]]:
        keys: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                keys.append(self.headers["authorization"])
                status, headers, body = answers.pop(0)
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", keys

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_busy_service_is_asked_again_and_shown_the_key(listening) -> None:
    busy = (503, {"retry-after": "0"}, b"{}")
    url, keys = listening([busy, busy, (200, {}, b'{"done": 1}')])
    asked = Caller(f"{url}/", "secret")
    assert asked.ask("POST", "/v1/x", {}) == {"done": 1}
    assert keys == ["Bearer secret"] * 3
    asked.close()


def test_what_a_service_refuses_is_said_with_its_own_words(listening, monkeypatch) -> None:
    monkeypatch.setattr(caller_module, "TRIES", 2)
    error = {"error": {"what": "nobody may call", "where": None, "hint": "Show a key"}}
    busy = (429, {"retry-after": "0"}, json.dumps(error).encode())
    url, _ = listening([(401, {}, json.dumps(error).encode()), (200, {}, b"<html>"), busy, busy])
    asked = Caller(url)
    with pytest.raises(RequestError, match=r"/v1/x: HTTP 401: nobody may call\. Show a key\."):
        asked.ask("POST", "/v1/x?page=2", {})
    with pytest.raises(RequestError, match="no answer of an Isthmus service"):
        asked.ask("POST", "/v1/x", {})
    with pytest.raises(RequestError, match="HTTP 429"):
        asked.ask("POST", "/v1/x", {})
    asked.close()


def test_a_service_that_is_not_there_is_named() -> None:
    with pytest.raises(RequestError, match=r"http://127\.0\.0\.1:1: the service cannot be reached"):
        Caller("http://127.0.0.1:1").ask("GET", "/v1/domains")
    for wrong in ("localhost:8765", "http://localhost:port", "http://"):
        with pytest.raises(RequestError, match="no address of a service"):
            Caller(wrong)
