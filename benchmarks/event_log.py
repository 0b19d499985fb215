"""How many events a second the log puts on disk, and how fast it reads; prints JSON.

    python benchmarks/event_log.py [--seconds 5] [--databases sqlite postgresql]

One by one from one thread; one by one from 32 threads, whose appends share commits; in batches of
100 from one thread. Latencies are of single appends, acknowledged; `cpu_us_per_event` is this
process's own time, with the making of the events, whatever else the machine does. Then single
histories, and reading everything in order. `flushes` is what the disk under the log can do: 4 KiB
written and flushed, over and over. PostgreSQL runs with the settings it comes with, on that disk.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np

from isthmus.online.events import Event
from isthmus.online.log import EventLog, open_log
from postgres_cluster import Cluster

THREADS, BATCH, PEOPLE = 32, 100, 2_000


def flushes(folder: Path, seconds: float) -> float:
    """Flushes to disk a second."""
    path = folder / "flushes"
    ends, done = time.perf_counter() + seconds, 0
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        while time.perf_counter() < ends:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            done += 1
    path.unlink()
    return done / (time.perf_counter() - began)


class Source:
    """New events without end."""

    def __init__(self) -> None:
        self.numbers = count()

    def take(self, n: int) -> list[Event]:
        now = time.time()
        return [
            Event(f"event-{i}", f"person-{i % PEOPLE}", "books", f"item-{i % 977}", now)
            for i in (next(self.numbers) for _ in range(n))
        ]


def appends(log: EventLog, source: Source, *, threads: int, batch: int, seconds: float) -> dict:
    """Events a second and milliseconds of an append."""
    latencies: list[list[float]] = [[] for _ in range(threads)]
    ends = time.perf_counter() + seconds

    def work(mine: list[float]) -> None:
        while time.perf_counter() < ends:
            events = source.take(batch)
            before = time.perf_counter()
            log.append(events)
            mine.append(time.perf_counter() - before)

    began, cpu = time.perf_counter(), time.process_time()
    workers = [threading.Thread(target=work, args=(mine,)) for mine in latencies]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    all_of_them = 1000 * np.concatenate(latencies)
    p50, p99 = np.percentile(all_of_them, [50, 99])
    return {
        "events_per_second": round(len(all_of_them) * batch / took),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "cpu_us_per_event": round(1e6 * cpu / (len(all_of_them) * batch), 1),
    }


def per_second(work: Callable[[int], object], seconds: float) -> float:
    ends, done, began = time.perf_counter() + seconds, 0, time.perf_counter()
    while time.perf_counter() < ends:
        work(done)
        done += 1
    return done / (time.perf_counter() - began)


def reading(log: EventLog) -> float:
    """Records a second, read in order."""
    began, after, n = time.perf_counter(), 0, 0
    while some := log.read(after):
        after, n = some[-1].offset, n + len(some)
    return n / (time.perf_counter() - began)


def measure(place: str | Path, seconds: float) -> dict:
    log, source = open_log(place), Source()
    found: dict = {
        "one_by_one": appends(log, source, threads=1, batch=1, seconds=seconds),
        f"{THREADS}_threads": appends(log, source, threads=THREADS, batch=1, seconds=seconds),
        f"batches_of_{BATCH}": appends(log, source, threads=1, batch=BATCH, seconds=seconds),
        "histories_per_second": round(
            per_second(lambda i: log.history(f"person-{i % PEOPLE}", limit=50), seconds / 2)
        ),
        "choices_per_second": round(
            per_second(lambda i: log.choices(f"person-{i % PEOPLE}", limit=50), seconds / 2)
        ),
        "read_per_second": round(reading(log)),
        "records": log.head(),
    }
    log.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of every measurement")
    parser.add_argument(
        "--databases", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"]
    )
    options = parser.parse_args()
    found: dict = {}
    with tempfile.TemporaryDirectory() as scratch:
        found["flushes_per_second"] = round(flushes(Path(scratch), options.seconds / 2))
        if "sqlite" in options.databases:
            found["sqlite"] = measure(Path(scratch, "events.db"), options.seconds)
    if "postgresql" in options.databases:
        server = Cluster()
        try:
            found["postgresql"] = measure(server.fresh(), options.seconds)
        finally:
            server.close()
    found["load_average"] = round(os.getloadavg()[0], 2)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
