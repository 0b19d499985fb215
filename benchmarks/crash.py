"""Kill a process that appends to an event log, over and over, and count what is left; prints JSON.

    python benchmarks/crash.py [--kills 120] [--rounds 6] [--databases sqlite postgresql]

Then do so to a running service and the learner beside it (`crash_service.py`). Each part that is
done is kept in `benchmarks/work/crash`; a run that was stopped goes on.

A child process appends from several threads, erases a person and compacts now and then, and writes
down what it was told, each line before the next request. SIGKILL strikes at every write boundary by
failpoint (`isthmus.failpoints`), at its first and at later times, and else at random moments. After
each kill the log is opened again: no acknowledged record may be missing, none may be there twice or
with other content, offsets must rise, and everything that was asked and never answered is sent once
more, by the same ids. At the end the log is replayed into a dataset, and an uncrashed log that was
told the same is replayed in pieces: the two must be equal. Exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from isthmus.failpoints import LOG, VARIABLE
from isthmus.online.events import Event, Impression, Outcome, Record
from isthmus.online.log import between, open_log
from postgres_cluster import Cluster

NOW = 1_700_000_000.0
OLD = NOW - 1_000_000.0
WORK = Path(__file__).resolve().parent / "work" / "crash"
THREADS = 4
BATCH = 3
READY = "appending"
SELDOM = ("log-erased", "log-compacted")


def records(thread: int, number: int) -> list[Record]:
    """What a thread reports as its request of this number; the same whenever it is asked."""
    draw = random.Random(f"{thread} {number}")
    found: list[Record] = []
    for place in range(BATCH):
        who = {
            "event_id": f"{thread}-{number}-{place}",
            # People whom nobody erases, so that what is missing is missing for no good reason.
            "user_id": f"person-{draw.randrange(50)}",
            "domain": draw.choice(["books", "films"]),
            "item_id": f"item-{draw.randrange(30)}",
            "time": NOW + draw.randrange(1000),
        }
        if draw.random() < 0.3:
            found.append(Impression(**who, recommendation_id="r", rank=place + 1))
        else:
            found.append(Event(**who, rating=draw.choice([None, 1.0, 5.0])))
    return found


def passing(number: int) -> list[Record]:
    """Records that are there to be erased or compacted away."""
    return [
        Event(f"erased-{number}", f"erased-{number}", "books", "item-1", NOW),
        Event(f"old-{number}", "person-1", "books", "item-1", OLD),
    ]


class Child:
    """The process that is killed: appends until then, and says what it was told."""

    def __init__(self, place: str, start: int) -> None:
        self.log, self.start = open_log(place), start
        self.lock = threading.Lock()

    def say(self, *words: object) -> None:
        # One write of a short line to a pipe is whole or not at all.
        with self.lock:
            os.write(1, (json.dumps(words) + "\n").encode())

    def append(self, thread: int) -> None:
        number = self.start
        while True:
            self.say("asked", thread, number)
            outcomes = self.log.append(records(thread, number))
            self.say("told", thread, number, *outcomes)
            number += 1

    def tidy(self) -> None:
        number = self.start
        while True:
            self.log.append(passing(number))
            self.log.erase(f"erased-{number}")
            self.say("erased", number)
            self.log.compact(before=OLD + 1)
            number += 1
            time.sleep(0.02)

    def run(self) -> None:
        self.say(READY)
        jobs = [(self.append, (thread,)) for thread in range(THREADS)]
        for work, given in [*jobs, (self.tidy, ())]:
            threading.Thread(target=work, args=given, daemon=True).start()
        time.sleep(60)


@dataclass
class Life:
    """What is known of a log after some lives of the child.

    Attributes:
        acknowledged: requests (thread, number) that were told to be on disk.
        asked: requests that were made and perhaps not answered.
        erased: people whose erasure was acknowledged.
        next: first number that no life has used.
        faults: what should not have been, in words.
    """

    acknowledged: set[tuple[int, int]] = field(default_factory=set)
    asked: set[tuple[int, int]] = field(default_factory=set)
    erased: set[int] = field(default_factory=set)
    next: int = 0
    faults: list[str] = field(default_factory=list)


def live(place: str, life: Life, *, failpoint: str | None, seconds: float) -> bool:
    """One life of the child, and what it said; whether it was killed by the failpoint."""
    environment = {**os.environ, VARIABLE: failpoint or ""}
    child = subprocess.Popen(
        [sys.executable, __file__, "--append", place, str(life.next)],
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    if json.loads(first or "[]") != [READY]:
        raise SystemExit(f"the child ended with {child.wait()} before it began")
    timer = threading.Timer(seconds, child.kill)
    timer.start()
    for line in child.stdout:
        what, *about = json.loads(line)
        if what == "asked":
            life.asked.add((about[0], about[1]))
            life.next = max(life.next, about[1] + 1)
        elif what == "told":
            life.acknowledged.add((about[0], about[1]))
            if set(about[2:]) != {Outcome.ACCEPTED}:
                life.faults.append(f"request {about[:2]} was told {about[2:]}")
        else:
            life.erased.add(about[0])
            life.next = max(life.next, about[0] + 1)
    ended_by_itself = timer.is_alive()
    timer.cancel()
    if child.wait() != -signal.SIGKILL:
        life.faults.append(f"the child ended with {child.returncode}")
    # The tidying thread may have been in the middle of its number.
    life.next += 1
    return ended_by_itself


def inspect(place: str, life: Life) -> None:
    """Open the log as a restarted process would, and find fault."""
    log = open_log(place)
    found = list(between(log))
    offsets = [logged.offset for logged in found]
    if offsets != sorted(set(offsets)) or (offsets and offsets[-1] > log.head()):
        life.faults.append("offsets do not rise, or go beyond the head")
    times = Counter(logged.record.event_id for logged in found)
    life.faults += [f"{event_id} is there {n} times" for event_id, n in times.items() if n > 1]
    by_id = {logged.record.event_id: logged.record for logged in found}
    for request in sorted(life.asked):
        there = [by_id.get(record.event_id) for record in records(*request)]
        if request in life.acknowledged and there != records(*request):
            life.faults.append(f"acknowledged, and missing or changed: {request}")
        if any(there) and not all(there):
            life.faults.append(f"half of a request is there: {request}")
    marks = {mark.person for mark in log.erased()}
    for number in life.erased:
        if log.pseudonym(f"erased-{number}") not in marks or f"erased-{number}" in by_id:
            life.faults.append(f"erased, and still there: {number}")
    # A client that has no answer asks again.
    for request in sorted(life.asked - life.acknowledged):
        outcomes = set(log.append(records(*request)))
        if not outcomes <= {Outcome.ACCEPTED, Outcome.REPEATED}:
            life.faults.append(f"asked again: {request} was told {sorted(outcomes)}")
        life.acknowledged.add(request)
    log.close()


def replays(place: str, life: Life) -> bool:
    """Whether replaying at once equals replaying a log that never crashed, in pieces."""
    import polars as pl

    from isthmus.data.build import dataset_from_frames
    from isthmus.data.frames import DomainFrames
    from isthmus.online.replay import replay

    events = pl.DataFrame({"user_id": ["person-1"], "item_id": ["item-1"], "time": [OLD]})
    frames = {"books": DomainFrames(events), "films": DomainFrames(items=events[["item_id"]])}
    before = dataset_from_frames(frames)[0]

    def facts(dataset: object) -> list[object]:
        events = dataset.events  # type: ignore[attr-defined]
        names = ("offsets", "domain", "item", "time", "kind", "rating", "weight")
        return [
            dataset.user_ids.to_list(),  # type: ignore[attr-defined]
            [domain.items.rows() for domain in dataset.domains],  # type: ignore[attr-defined]
            *(getattr(events, name).tobytes() for name in names),
        ]

    log = open_log(place)
    asked = {record.event_id for request in life.asked for record in records(*request)}
    kept = [logged.record for logged in between(log)]
    if {record.event_id for record in kept if record.event_id[0].isdigit()} != asked:
        life.faults.append("what is in the log at the end is not what was asked")
    whole = replay(log, before, None).dataset
    with tempfile.TemporaryDirectory() as scratch:
        calm = open_log(Path(scratch, "calm.db"))
        calm.append(kept)
        dataset, position = before, None
        for share in (0.1, 0.4, 0.7, 1.0):
            piece = replay(calm, dataset, position, upto=round(calm.head() * share))
            dataset, position = piece.dataset, piece.position
        calm.close()
    log.close()
    return facts(whole) == facts(dataset)


def study(place: str, kills: int, seed: int = 0) -> dict[str, object]:
    """Kill so often, first at every boundary, and report."""
    draw = random.Random(seed)
    life = Life()
    planned = list(LOG)
    while len(planned) < kills // 2:
        name = draw.choice(LOG)
        # Erasing and compacting come round more seldom than appending.
        planned.append(f"{name}:{draw.randrange(2, 5 if name in SELDOM else 60)}")
    by_failpoint: Counter[str] = Counter()
    at_random = 0
    for number in range(kills):
        failpoint = planned[number] if number < len(planned) else None
        seconds = 10.0 if failpoint else draw.uniform(0.02, 0.6)
        if live(place, life, failpoint=failpoint, seconds=seconds) and failpoint:
            by_failpoint[failpoint.partition(":")[0]] += 1
        else:
            at_random += 1
        inspect(place, life)
    equal = replays(place, life)
    return {
        "kills": kills,
        "by_failpoint": dict(by_failpoint),
        "at_random": at_random,
        "requests": len(life.asked),
        "records": BATCH * len(life.asked),
        "erasures": len(life.erased),
        "faults": life.faults,
        "replay_equal": equal,
        "passed": not life.faults and equal,
    }


def cached(name: str, make: Callable[[], dict[str, object]]) -> dict[str, object]:
    """A result, made where an earlier run has not come to it."""
    file = WORK / f"{name}.json"
    if not file.exists():
        found = make()
        WORK.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".part")
        aside.write_text(json.dumps(found))
        aside.replace(file)
    result: dict[str, object] = json.loads(file.read_text())
    return result


def both(database: str, new_place: Callable[[], str], options: argparse.Namespace) -> object:
    """The log's writers alone, then service and learner in rounds, each from a new log."""
    import crash_service

    def round_of(seed: int) -> dict[str, object]:
        with tempfile.TemporaryDirectory() as scratch:
            kills = options.service_kills
            first = WORK / "model"
            return crash_service.study(new_place(), first, Path(scratch), kills, seed)

    log = cached(
        f"{database}-log-{options.kills}-{options.seed}",
        lambda: study(new_place(), options.kills, options.seed),
    )
    rounds = [
        cached(f"{database}-service-{options.service_kills}-{seed}", lambda n=seed: round_of(n))
        for seed in range(options.seed, options.seed + options.rounds)
    ]
    return {
        "log": log,
        "service_and_learner": {
            "kills": sum(found["kills"] for found in rounds),  # type: ignore[misc]
            "rounds": rounds,
            "passed": all(found["passed"] for found in rounds),
        },
        "passed": all(found["passed"] for found in (log, *rounds)),
    }


def main() -> None:
    if sys.argv[1:2] == ["--append"]:
        Child(sys.argv[2], int(sys.argv[3])).run()
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=120, help="of the log's writers, per database")
    parser.add_argument(
        "--service-kills", type=int, default=10, help="of the service, and of the learner, a round"
    )
    parser.add_argument("--rounds", type=int, default=6, help="of the service, per database")
    parser.add_argument(
        "--databases", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"]
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    if "sqlite" in options.databases:
        with tempfile.TemporaryDirectory() as scratch:
            places = (str(Path(scratch, f"events-{n}.db")) for n in count())
            found["sqlite"] = both("sqlite", lambda: next(places), options)
    if "postgresql" in options.databases:
        server = Cluster()
        try:
            found["postgresql"] = both("postgresql", server.fresh, options)
        finally:
            server.close()
    print(json.dumps(found, indent=1))
    if not all(result["passed"] for result in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
