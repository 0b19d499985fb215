"""A worker and the process that answers for it: both ends, and either without the other."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving_world import Running, fitted, running, users

from isthmus.serving import process_answers
from isthmus.serving.answerer import Answerer
from isthmus.serving.batching import Overloaded
from isthmus.serving.frames import ABOUT_ITSELF, Answer, Frames, frame
from isthmus.serving.keeper import Standing
from isthmus.serving.live import Live
from isthmus.serving.problems import Away, Told, told
from isthmus.serving.process_answers import ProcessAnswers

FAKE = Path(__file__).with_name("fake_answerer.py")


def answers(folder: Path, *, to_die: int = 0, most: int = 10) -> ProcessAnswers:
    command = (sys.executable, str(FAKE), str(folder / "starts"), str(to_die))
    return ProcessAnswers(most_waiting=most, command=command)


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


def with_process(found: ProcessAnswers, do: Callable[[], Awaitable[Any]]) -> Any:
    """Begin, do something, end."""

    async def all_of_it() -> Any:
        await found.begin()
        try:
            return await do()
        finally:
            await found.end()

    return asyncio.run(all_of_it())


def test_whoever_asks_hears_the_own_answer_or_what_was_wrong(tmp_path: Path) -> None:
    found = answers(tmp_path)

    async def ask() -> list[Any]:
        asked = [b"one", b"wrong", b"x" * 300_000]
        heard = await asyncio.gather(*map(found.ask, asked), return_exceptions=True)
        return [*heard, found.standing]

    one, wrong, long, standing = with_process(found, ask)
    assert (one, long) == (b"one", b"x" * 300_000)
    assert isinstance(wrong, Told)
    assert told(wrong) == (422, {"a": "b"}, b"wrong")
    assert standing == Standing(ready=True, version="v000007", read=0, problem=None)


def test_what_waits_when_the_process_dies_is_sent_away_and_another_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answers(tmp_path)

    async def ask() -> list[Any]:
        await found.ask(b"one")
        waiting = [asyncio.create_task(found.ask(b)) for b in (b"hold", b"two", b"die")]
        lost = await asyncio.gather(*waiting, return_exceptions=True)
        meanwhile = found.standing
        with pytest.raises(Away):
            await found.ask(b"three")
        await until(lambda: found.standing.ready)
        return [lost, meanwhile, await found.ask(b"four")]

    lost, meanwhile, later = with_process(found, ask)
    assert [type(error) for error in lost] == [Away] * 3
    assert told(lost[0])[:2] == (
        503,
        {"retry-after": "1", "content-type": "application/json"},
    )
    assert not meanwhile.ready
    assert "has died" in meanwhile.problem
    assert later == b"four"
    assert starts(tmp_path) == 2


def test_a_process_that_cannot_stay_is_started_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        if seconds > 0.05:
            slept.append(seconds)
        await sleep(0.01)

    found = answers(tmp_path, to_die=4)
    monkeypatch.setattr(process_answers.asyncio, "sleep", counted)
    with_process(found, lambda: until(lambda: found.standing.ready))
    assert starts(tmp_path) == 5
    assert slept == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert found._pause == process_answers._FIRST_PAUSE


def test_more_than_may_wait_are_sent_away_and_who_gave_up_harms_nobody(tmp_path: Path) -> None:
    found = answers(tmp_path, most=3)

    async def ask() -> list[Any]:
        waiting = [asyncio.create_task(found.ask(b)) for b in (b"hold", b"two", b"three")]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="3 questions wait"):
            await found.ask(b"four")
        waiting[1].cancel()
        found._most_waiting = 9
        await found.ask(b"go")
        heard = await asyncio.gather(*waiting, return_exceptions=True)
        return [*heard, await found.ask(b"five")]

    held, gone, three, five = with_process(found, ask)
    assert (held, three, five) == (b"hold", b"three", b"five")
    assert isinstance(gone, asyncio.CancelledError)


def test_what_waits_at_the_end_is_still_answered(tmp_path: Path) -> None:
    found = answers(tmp_path)

    async def ask() -> Any:
        await found.begin()
        waiting = [asyncio.create_task(found.ask(b)) for b in (b"hold", b"two")]
        await asyncio.sleep(0)
        ending = asyncio.create_task(found.end())
        await asyncio.sleep(0.05)
        await found.ask(b"go")
        await ending
        return await asyncio.gather(*waiting)

    assert asyncio.run(ask()) == [b"hold", b"two"]
    assert found._process is not None
    assert found._process.returncode == 0
    assert starts(tmp_path) == 1


def test_a_change_is_waited_for_until_the_process_knows_of_it(tmp_path: Path) -> None:
    found = answers(tmp_path)

    async def wait() -> tuple[bool, bool, float]:
        await until(lambda: found.standing.ready)
        seen = await asyncio.to_thread(found.wait_for, 1, 30)
        began = time.monotonic()
        unseen = await asyncio.to_thread(found.wait_for, 9, 0.2)
        return seen, unseen, time.monotonic() - began

    seen, unseen, took = with_process(found, wait)
    assert seen
    assert not unseen
    assert 0.2 <= took < 10


@pytest.fixture
def spoken(tmp_path: Path) -> Iterator[tuple[Running, socket.socket, threading.Thread]]:
    """A shop, and a socket to an `Answerer` that answers from the same keeper."""
    ours, theirs = socket.socketpair()
    with running(tmp_path) as shop, ours, theirs:
        answerer = Answerer(theirs, shop.service.keeper, history=200, most_at_once=4)
        thread = threading.Thread(target=answerer.run)
        thread.start()
        yield shop, ours, thread
        with suppress(OSError):
            ours.shutdown(socket.SHUT_WR)
        thread.join(30)
        assert not thread.is_alive()
    # What tells how it stands ends with the keeper.
    for other in [t for t in threading.enumerate() if t.name == "standing"]:
        other.join(10)
        assert not other.is_alive()


class Ear:
    """What an `Answerer` says, by number; of itself the latest."""

    def __init__(self, line: socket.socket) -> None:
        self.line, self.frames = line, Frames()
        self.heard: dict[int, bytes] = {}

    def until(self, holds: Callable[[], bool]) -> None:
        self.line.settimeout(30)
        while not holds():
            self.heard |= dict(self.frames.take(self.line.recv(1 << 16)))

    def answer(self, number: int) -> Answer:
        self.until(lambda: number in self.heard)
        return msgspec.msgpack.decode(self.heard.pop(number), type=Answer)

    def standing(self) -> Standing:
        return msgspec.msgpack.decode(self.heard[ABOUT_ITSELF], type=Standing)


def test_each_question_of_a_heap_gets_its_answer_or_what_is_wrong_with_it(spoken: Any) -> None:
    shop, line, _ = spoken
    asked = [
        {"user_id": users()[0], "domains": ["gear"], "k": 3},
        {"user_id": users()[0], "domains": ["nowhere"]},
        {"k": 0},
        {"user_id": users()[1], "domains": ["gear"], "filter": "price <"},
        {"user_id": users()[1], "domains": ["books"], "k": 5},
        {"user_id": users()[2], "domains": ["gear"], "k": 2},
    ]
    bodies = [msgspec.json.encode(question) for question in asked] + [b"{", b"[" * 5000]
    line.sendall(b"".join(frame(n, body) for n, body in enumerate(bodies, 1)))
    ear = Ear(line)
    for n, body in enumerate(bodies, 1):
        found, expected = ear.answer(n), shop.client.post("/v1/recommend", content=body)
        assert found.status == expected.status_code
        answer, wire = msgspec.json.decode(found.body), expected.json()
        for one in (answer, wire):
            one.pop("recommendation_id", None)
            for listing in one.get("lists", []):
                for item in listing["items"]:
                    item["score"], item["parts"] = round(item["score"], 3), sorted(item["parts"])
        assert answer == wire


def test_a_heap_that_breaks_is_told_so_and_the_next_is_answered(
    spoken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, line, _ = spoken
    body = msgspec.json.encode({"user_id": users()[0], "domains": ["gear"]})
    ear = Ear(line)
    with monkeypatch.context() as broken:

        def fail(*_: Any) -> None:
            raise ZeroDivisionError

        broken.setattr(Live, "answers", fail)
        line.sendall(frame(1, body) + frame(2, b"{"))
        assert (ear.answer(1).status, ear.answer(2).status) == (500, 400)
    line.sendall(frame(3, body))
    assert ear.answer(3).status == 200


def test_it_looks_again_when_it_is_asked_to(spoken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, line, _ = spoken
    looks: list[int] = []
    monkeypatch.setattr(shop.service.keeper, "look_again", lambda: looks.append(1))
    body = msgspec.json.encode({"user_id": users()[0], "domains": ["gear"]})
    line.sendall(frame(ABOUT_ITSELF, b"") + frame(1, body))
    assert Ear(line).answer(1).status == 200
    assert looks == [1]


def test_it_says_how_it_stands_now_and_when_that_changes(spoken: Any) -> None:
    shop, line, _ = spoken
    ear = Ear(line)
    ear.until(lambda: ABOUT_ITSELF in ear.heard)
    assert ear.standing() == shop.service.keeper.standing
    assert ear.standing().ready
    new = {"domain": "gear", "item_id": "NEW", "title": "compass"}
    assert shop.client.put("/v1/items", json={"items": [new]}).status_code == 200
    ear.until(lambda: ear.standing().read == shop.service.keeper.standing.read)
    name = fitted(1).save(shop.folder / "model").name
    line.sendall(frame(ABOUT_ITSELF, b""))
    ear.until(lambda: ear.standing().version == name)


def test_an_item_is_recommendable_once_what_answers_knows_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def late(change: int, seconds: float) -> bool:
        assert 0 < seconds <= 20
        asked.append(change)
        return False

    with running(tmp_path) as shop:
        monkeypatch.setattr(shop.service._answers, "wait_for", late)
        new = {"domain": "gear", "item_id": "NEW", "title": "compass"}
        assert shop.client.put("/v1/items", json={"items": [new]}).status_code == 202
        assert asked == [shop.service.keeper.standing.read]
