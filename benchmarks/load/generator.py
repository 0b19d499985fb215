"""An open-loop load generator: requests leave when they are due, whether or not others are back.

Run in a process of its own. Reads a plan as one JSON document from standard input and writes one
line of JSON with what became of it. Latency counts from the moment at which a request was due, so
that a server that stalls is charged for everybody who had to wait. Only this machine is called.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from collections import deque
from typing import Any, cast

import uvloop
from msgspec import json

CONNECTIONS = 64
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")


class Line(asyncio.Protocol):
    """One connection that is kept.

    The generator shares two cores with what it measures, so it reads answers by hand: streams took
    twice as long.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.came = b""

    async def send(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; a server may have closed a line that lay idle."""
        idle = self.transport is not None
        try:
            return await self._send(path, body)
        except OSError:
            if not idle:
                raise
            return await self._send(path, body)

    async def _send(self, path: str, body: bytes) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        if self.transport is None:
            await loop.create_connection(lambda: self, "127.0.0.1", self.port)
        assert self.transport is not None
        self.came, self.answer = b"", loop.create_future()
        self.transport.write(
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
        )
        return await self.answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.came += data
        head, ended, body = self.came.partition(b"\r\n\r\n")
        if not ended or self.answer is None or self.answer.done():
            return
        length = _LENGTH.search(head)
        if length is None:
            self.answer.set_exception(ConnectionError("an answer without its length"))
        elif len(body) >= int(length[1]):
            self.answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error or ConnectionResetError("the line was closed"))


class Generator:
    """Sends what a plan says; see `main`."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.rng = random.Random(plan["seed"])
        self.free: asyncio.Queue[Line] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            self.free.put_nowait(Line(plan["port"]))
        self.latencies: dict[str, list[float]] = {}
        self.errors: dict[str, int] = {}
        self.wrong = 0
        self.n = 0

    async def one(self, kind: str, due: float) -> None:
        line = await self.free.get()
        try:
            good = await getattr(self, kind)(line)
        except (OSError, ValueError, KeyError):
            good = False
        self.free.put_nowait(line)
        if good:
            self.latencies.setdefault(kind, []).append(time.perf_counter() - due)
        else:
            self.errors[kind] = self.errors.get(kind, 0) + 1

    async def recommend(self, line: Line) -> bool:
        asked = {
            "user_id": self.rng.choice(self.plan["users"]),
            "domains": [self.domain()],
            "k": 10,
        }
        status, body = await line.send(self.plan["path"], json.encode(asked))
        expected = self.plan.get("expected")
        if status == 200 and expected:
            answer = json.decode(body)
            (listing,) = answer["lists"]
            key = f"{answer['model_version']} {asked['user_id']} {listing['domain']}"
            self.wrong += [i["item_id"] for i in listing["items"]] != expected[key]
        return status == 200

    async def event(self, line: Line) -> bool:
        who = self.rng.choice(self.plan["users"])
        status, _ = await line.send("/v1/events", json.encode(self.made(who)))
        return status == 200

    async def changed(self, line: Line) -> bool:
        """A newcomer does something, and asks: the answer must rest on it."""
        who = self.name()
        event = self.made(who)
        status, _ = await line.send("/v1/events", json.encode(event))
        if status != 200:
            return False
        asked = {"user_id": who, "domains": [event["domain"]], "k": 10}
        status, body = await line.send(self.plan["path"], json.encode(asked))
        if status != 200:
            return False
        (listing,) = json.decode(body)["lists"]
        seen = event["item_id"] in [item["item_id"] for item in listing["items"]]
        return not (seen or listing["fallback"])

    def made(self, who: str) -> dict[str, Any]:
        domain = self.domain()
        item = self.rng.choice(self.plan["items"][domain])
        return {"event_id": self.name(), "user_id": who, "domain": domain, "item_id": item}

    def name(self) -> str:
        self.n += 1
        return f"load-{self.plan['seed']}-{self.n}"

    def domain(self) -> str:
        return self.rng.choice(self.plan["domains"])

    async def open_loop(self) -> None:
        """Every kind at its own rate, evenly spaced, for so many seconds."""
        began = time.perf_counter() + 0.2
        due = [
            (began + (n + self.rng.random()) / rate, kind)
            for kind, rate in self.plan["rates"].items()
            for n in range(int(rate * self.plan["seconds"]))
        ]
        waiting: deque[tuple[float, str]] = deque(sorted(due))
        tasks = set()
        while waiting:
            moment, kind = waiting.popleft()
            if (left := moment - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            task = asyncio.create_task(self.one(kind, moment))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            _, left_over = await asyncio.wait(tasks, timeout=60)
            for task in left_over:
                task.cancel()
            if left_over:
                self.errors["never answered"] = len(left_over)

    async def closed_loop(self) -> None:
        """So many callers, each asking again as soon as it is answered: what a server can do."""
        end = time.perf_counter() + self.plan["seconds"]

        async def caller() -> None:
            while time.perf_counter() < end:
                await self.one("recommend", time.perf_counter())

        await asyncio.gather(*(caller() for _ in range(self.plan["callers"])))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def main() -> None:
    generator = Generator(json.decode(sys.stdin.buffer.read()))
    began = time.perf_counter()
    closed = "callers" in generator.plan
    uvloop.run(generator.closed_loop() if closed else generator.open_loop())
    seconds = time.perf_counter() - began
    found: dict[str, Any] = {"seconds": seconds, "wrong": generator.wrong}
    for kind, values in generator.latencies.items():
        found[kind] = {
            "answered": len(values),
            "per_second": len(values) / seconds,
            "p50_ms": percentile(values, 0.5) * 1e3,
            "p99_ms": percentile(values, 0.99) * 1e3,
        }
    for kind, count in generator.errors.items():
        found.setdefault(kind, {"answered": 0})["errors"] = count
    print(json.encode(found).decode())


if __name__ == "__main__":
    main()
