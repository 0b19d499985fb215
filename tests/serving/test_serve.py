"""`isthmus serve` as its users run it: a process of its own, on a free port of this machine."""

from __future__ import annotations

import gc
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from serving_world import fitted, users

from crash_service import workers_of
from isthmus.errors import LogError
from isthmus.online.log import open_log
from isthmus.recommender import Recommender
from isthmus.recommender.storage import LogPosition
from isthmus.serving import run
from isthmus.serving.keeper import Keeper
from isthmus.serving.keys import add_key
from isthmus.serving.run import Settings, serve
from postgres_cluster import runs


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int
    folder: Path
    secret: str

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Over a connection of its own, so that any worker may answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as line:
            body = None if content is None else json.dumps(content)
            headers = {
                "Authorization": f"Bearer {self.secret}",
                "Content-Type": "application/json",
            }
            line.request(method, path, body, headers)
            answer = line.getresponse()
            text = answer.read().decode()
        plain = answer.headers.get_content_type() != "application/json"
        return answer.status, text if plain else json.loads(text)


def words(folder: Path, port: int, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "isthmus", "serve", "--model", str(folder / "model")),
        *("--log", str(folder / "events.db"), "--port", str(port)),
        *("--exports", str(folder / "exports"), "--set", "serving.rate=0", *more),
    ]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    fitted().save(folder / "model")
    _, secret = add_key(folder / "keys.json", ["admin"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        words(folder, port, "--keys", str(folder / "keys.json"), "--workers", "2"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = Server(process, port, folder, secret)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if found.ask("GET", "/v1/ready")[0] == 200:
                break
        except OSError:
            time.sleep(0.1)
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    yield found
    answering = [pid for worker in workers_of(process.pid) for pid in workers_of(worker)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not any(map(runs, answering))
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_an_event_counts_in_the_next_answer_of_every_worker(server: Server) -> None:
    gear = fitted().dataset.domains[1].items["item_id"].to_list()
    for n in range(10):
        event = {"event_id": f"e{n}", "user_id": f"u{n}", "domain": "gear", "item_id": gear[n]}
        assert server.ask("POST", "/v1/events", event)[0] == 200
        asked = {"user_id": f"u{n}", "domains": ["gear"], "k": 60}
        status, answer = server.ask("POST", "/v1/recommend", asked)
        assert status == 200
        (listing,) = answer["lists"]
        assert not listing["fallback"]
        assert gear[n] not in [item["item_id"] for item in listing["items"]]


def test_answers_over_the_wire_are_those_of_the_facade(server: Server) -> None:
    # In books, where no other test reports an event that the service would count as sold.
    person = users()[2]
    expected = fitted().recommend("books", users=[person], k=5)["item_id"].to_list()
    asked = {"user_id": person, "domains": ["books"], "k": 5}
    _, answer = server.ask("POST", "/v1/recommend", asked)
    assert [item["item_id"] for item in answer["lists"][0]["items"]] == expected


def test_what_is_hidden_by_one_worker_no_worker_shows(server: Server) -> None:
    asked = {"user_id": users()[3], "domains": ["gear"], "k": 1}
    for _ in range(5):
        _, answer = server.ask("POST", "/v1/recommend", asked)
        best = answer["lists"][0]["items"][0]["item_id"]
        server.ask("POST", "/v1/items/hide", {"domain": "gear", "item_id": best})
        for _ in range(4):
            _, answer = server.ask("POST", "/v1/recommend", asked)
            assert answer["lists"][0]["items"][0]["item_id"] != best
        server.ask("POST", "/v1/items/show", {"domain": "gear", "item_id": best})


def test_numbers_are_those_of_all_workers(server: Server) -> None:
    def counted() -> float:
        _, text = server.ask("GET", "/v1/metrics")
        found = re.search(r'isthmus_requests_total\{route="/v1/health",status="200"\} (\S+)', text)
        return float(found[1]) if found else 0.0

    before = counted()
    for _ in range(20):
        server.ask("GET", "/v1/health")
    assert {counted() for _ in range(6)} == {before + 20}


def test_threads_of_a_worker_take_short_turns() -> None:
    settings = {"model": "m", "log": None, "keys": None, "exports": "e", "overrides": []}
    script = (
        "import sys; from isthmus.serving import run; run.application = lambda *_: None; "
        "run.from_environment(); print(sys.getswitchinterval())"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "ISTHMUS_SERVING": json.dumps(settings),
            "ISTHMUS_SERVING_SECRET": "00",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(found.stdout) <= 0.001


def test_what_stays_with_a_version_is_kept_from_the_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted().save(tmp_path / "model")
    made: list[Keeper] = []
    monkeypatch.setattr(Keeper, "start", lambda keeper, wait: made.append(keeper))
    log, exports = tmp_path / "events.db", tmp_path / "exports"
    run.application(Settings(str(tmp_path / "model"), str(log), None, str(exports)), b"secret")
    try:
        made[0]._settled()
        held = gc.get_freeze_count()
        assert held > 10_000
        # A second time it is not all of it once more.
        made[0]._settled()
        assert gc.get_freeze_count() < 1.5 * held
    finally:
        gc.unfreeze()
        made[0].log.close()
        made[0].catalogue.close()


def test_a_second_service_on_the_same_log_is_refused(server: Server) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    second = subprocess.run(
        words(server.folder, port, "--no-auth"), capture_output=True, text=True, timeout=120
    )
    assert second.returncode == 2
    assert "another service" in second.stderr
    assert "Traceback" not in second.stderr


def test_workers_end_when_what_started_them_was_killed(server: Server, tmp_path: Path) -> None:
    fitted().save(tmp_path / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words(tmp_path, port, "--no-auth"),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    alone = Server(process, port, tmp_path, "")  # type: ignore[arg-type]

    def answers() -> bool:
        try:
            return alone.ask("GET", "/v1/ready")[0] == 200
        except OSError:
            return False

    deadline = time.monotonic() + 120
    while not answers() and time.monotonic() < deadline:
        time.sleep(0.1)
    (worker,) = workers_of(process.pid)
    (answering,) = workers_of(worker)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while (answers() or runs(answering)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not answers()
    assert not runs(answering)


def test_questions_are_answered_again_though_what_answered_them_was_killed(server: Server) -> None:
    asked = {"user_id": users()[4], "domains": ["gear"], "k": 3}
    killed = [pid for worker in workers_of(server.process.pid) for pid in workers_of(worker)]
    assert len(killed) == 2
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    deadline, seen = time.monotonic() + 60, []
    while time.monotonic() < deadline and seen[-8:] != [200] * 8:
        status, answer = server.ask("POST", "/v1/recommend", asked)
        seen.append(status)
        assert status == 200 or "Ask" in answer["error"]["hint"]
        # Events go on being taken.
        gear = fitted().dataset.domains[1].items["item_id"][0]
        event = {"event_id": f"k{len(seen)}", "user_id": "k", "domain": "gear", "item_id": gear}
        assert server.ask("POST", "/v1/events", event)[0] == 200
    assert seen[-8:] == [200] * 8
    assert set(seen) <= {200, 503}
    assert len(answer["lists"][0]["items"]) == 3
    again = [pid for worker in workers_of(server.process.pid) for pid in workers_of(worker)]
    assert len(again) == 2
    assert not set(again) & set(killed)


def test_the_version_is_that_of_every_worker_that_lives(server: Server) -> None:
    """The number is right whichever worker is asked, and though one of them was killed."""

    def told() -> set[str]:
        found = [server.ask("GET", "/v1/metrics")[1] for _ in range(6)]
        return {re.findall(r"^isthmus_model_version (\S+)", text, re.M)[0] for text in found}

    before = int(told().pop().removesuffix(".0"))
    fitted(1).save(server.folder / "model")
    (worker, *_) = workers_of(server.process.pid)
    os.kill(worker, signal.SIGKILL)
    while runs(worker):
        time.sleep(0.05)
    deadline, seen = time.monotonic() + 60, {""}
    while time.monotonic() < deadline and seen != {f"{before + 1}.0"}:
        time.sleep(0.2)
        # A connection that waited for the worker is reset.
        with suppress(OSError):
            seen = told()
    assert seen == {f"{before + 1}.0"}


def test_a_service_that_is_stopped_while_a_worker_starts_stops(tmp_path: Path) -> None:
    fitted().save(tmp_path / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        words(tmp_path, port, "--no-auth"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while not workers_of(process.pid) and process.poll() is None:
        time.sleep(0.01)
    # It has begun, and has neither a model nor handlers of its own yet.
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_new_version_is_taken_over_by_every_worker(server: Server) -> None:
    name = fitted(1).save(server.folder / "model").name
    deadline, seen = time.monotonic() + 60, [""]
    while time.monotonic() < deadline and set(seen[-8:]) != {name}:
        status, answer = server.ask("POST", "/v1/recommend", {"user_id": users()[0]})
        assert status == 200
        seen.append(answer["model_version"])
    assert set(seen[-8:]) == {name}


@pytest.mark.parametrize("offset", [None, 7])
def test_a_model_and_a_log_that_do_not_belong_together(tmp_path: Path, offset: int | None) -> None:
    """Another log, and one that was put back to before what the model has learnt."""
    own = open_log(tmp_path / "own.db")
    model = fitted()
    place = LogPosition(own.id, offset or 0)
    own.close()
    parts = (model.dataset, model.config, model.split, model.raw, model.system)
    Recommender(*parts, place).save(tmp_path / "model")
    log = tmp_path / ("other.db" if offset is None else "own.db")
    settings = Settings(str(tmp_path / "model"), str(log), None, str(tmp_path / "exports"))
    with pytest.raises(LogError, match="another event log" if offset is None else "put back"):
        serve(settings, host="127.0.0.1", port=0, workers=1)
