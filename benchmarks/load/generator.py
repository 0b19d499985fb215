"""An open-loop load generator: requests leave when they are due, whether or not others are back.

Run in a process of its own. Reads a plan as one JSON document from standard input and writes one
line of JSON with what became of it. Latency counts from the moment at which a request was due, so
that a server that stalls is charged for everybody who had to wait. Only this machine is called.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from typing import Any

import uvloop

CONNECTIONS = 64


class Line:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; a server may have closed a line that lay idle."""
        idle = self.writer is not None
        try:
            return await self._send(path, body)
        except (OSError, asyncio.IncompleteReadError):
            if not idle:
                raise
            return await self._send(path, body)

    async def _send(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        try:
            answer = await self.reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            return int(answer[9:12]), await self.reader.readexactly(length)
        except Exception:
            self.writer.close()
            self.writer = None
            raise


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
        except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
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
        status, body = await line.send(self.plan["path"], json.dumps(asked).encode())
        expected = self.plan.get("expected")
        if status == 200 and expected:
            answer = json.loads(body)
            (listing,) = answer["lists"]
            key = f"{answer['model_version']} {asked['user_id']} {listing['domain']}"
            self.wrong += [i["item_id"] for i in listing["items"]] != expected[key]
        return status == 200

    async def event(self, line: Line) -> bool:
        who = self.rng.choice(self.plan["users"])
        status, _ = await line.send("/v1/events", json.dumps(self.made(who)).encode())
        return status == 200

    async def changed(self, line: Line) -> bool:
        """A newcomer does something, and asks: the answer must rest on it."""
        who = self.name()
        event = self.made(who)
        status, _ = await line.send("/v1/events", json.dumps(event).encode())
        if status != 200:
            return False
        asked = {"user_id": who, "domains": [event["domain"]], "k": 10}
        status, body = await line.send(self.plan["path"], json.dumps(asked).encode())
        if status != 200:
            return False
        (listing,) = json.loads(body)["lists"]
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
    generator = Generator(json.load(sys.stdin))
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
    print(json.dumps(found))


if __name__ == "__main__":
    main()
