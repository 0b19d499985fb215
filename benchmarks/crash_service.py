"""Kill the running service and the learner beside it, over and over, and count what is left.

Part of `benchmarks/crash.py`. `isthmus serve` takes events, registrations and erasures from callers
who send each request until it is acknowledged, while `isthmus update --every 1` learns. SIGKILL
strikes both, each again and again: at every write boundary by failpoint (`isthmus.failpoints`), and
else at random moments. After each death whatever was acknowledged must be there, once and
unchanged, and every version in the model's folder must be whole. At the end a learner that nobody
kills steps over the same log from the same first model, stopping where the killed one made its
versions: the same versions must come of it, with the same metrics and scores to the last digit.
"""

from __future__ import annotations

import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_traffic import Books, Caller, check, errands, make_model, reports
from isthmus.failpoints import CATALOGUE, LOG, VARIABLE, VERSIONS
from isthmus.online.log import open_log
from postgres_cluster import runs

SERVICE = (*(name for name in LOG if name != "log-compacted"), *CATALOGUE)
"""Failpoints that a service comes by; it does not compact."""
SENDERS, EARLY = 2, 120
"""Callers that report events; and events that are there before, so that there is much to learn."""
START_SECONDS, DRAIN_SECONDS = 120.0, 60.0


@dataclass(frozen=True)
class Death:
    """When a process is to be killed: at a failpoint, at the latest after so many seconds."""

    failpoint: str | None
    seconds: float


def check_versions(folder: Path, books: Books) -> None:
    """Load what serves, and verify every file of every version."""
    from isthmus.errors import IsthmusError
    from isthmus.recommender import Recommender
    from isthmus.training.checkpoint import read_folder
    from isthmus.training.versions import kept_versions

    try:
        Recommender.load(folder)
        for name in kept_versions(folder):
            read_folder(folder, kind="model", version=name)
    except IsthmusError as error:
        books.faults.append(f"the model cannot be loaded: {error}")


class Victim(threading.Thread):
    """A process that is started and killed, again and again.

    Args:
        words: of the command.
        deaths: to be died, in turn.
        output: file for what it says.
        look: called after each death.
        port: of a service, which lives on after its deaths; None: a learner, whose time runs from
            its start.
    """

    def __init__(
        self,
        words: list[str],
        deaths: list[Death],
        output: Path,
        look: Callable[[], None],
        port: int | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.words, self.deaths, self.output = words, deaths, output
        self.look, self.port = look, port
        self.by_failpoint: Counter[str] = Counter()
        self.at_random = 0
        self.last: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        for death in self.deaths:
            process = self.launch(death.failpoint)
            by_itself = self._wait(process, death.seconds)
            with_all(process, signal.SIGKILL)
            if by_itself and death.failpoint:
                self.by_failpoint[death.failpoint.partition(":")[0]] += 1
            else:
                self.at_random += 1
            self.look()
        if self.port is not None:
            self.last = self.launch()

    def launch(self, failpoint: str | None = None) -> subprocess.Popen[bytes]:
        environment = {**os.environ, VARIABLE: failpoint or "", "OMP_NUM_THREADS": "1"}
        with self.output.open("ab") as said:
            return subprocess.Popen(
                self.words, env=environment, stdout=said, stderr=said, start_new_session=True
            )

    def _wait(self, process: subprocess.Popen[bytes], seconds: float) -> bool:
        """Whether it died before its time was over."""
        worker: int | None = None
        deadline = time.monotonic() + START_SECONDS
        ready = False
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return True
            if self.port is not None:
                worker = worker or next(iter(workers_of(process.pid)), None)
                if worker is not None and not runs(worker):
                    return True
            if not ready and (self.port is None or answers(self.port)):
                ready, deadline = True, time.monotonic() + seconds
            time.sleep(0.02)
        return False


def with_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process and all that it started, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    process.wait(60)


def workers_of(pid: int) -> list[int]:
    """The processes that answer for a service, started by the one that was asked for."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in tasks.read_text().split():
                if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


def answers(port: int) -> bool:
    """Whether a service says that it is ready."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", "/v1/ready")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


class RegisteredUntil:
    """Registrations as they were at a number, each of which was made once."""

    def __init__(self, catalogue: Any, number: int) -> None:
        self._catalogue, self._number = catalogue, number

    def items(self, after: int = 0) -> list[Any]:
        return [item for item in self._catalogue.items(after) if item.change <= self._number]

    def hidden_people(self) -> set[str]:
        return set()


class Until:
    """A log as it was at an offset, for a learner that is to stop there."""

    def __init__(self, log: Any, head: int) -> None:
        self._log, self._head = log, head

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def head(self) -> int:
        return self._head

    def read(self, after: int = 0, limit: int = 10_000) -> list[Any]:
        return [logged for logged in self._log.read(after, limit) if logged.offset <= self._head]

    def erased(self, after: int = 0) -> list[Any]:
        return [mark for mark in self._log.erased(after) if mark.offset <= self._head]


def figures(folder: Path, version: str) -> dict[str, Any]:
    """What a version reaches on its questions, and the scores that it gives to everybody."""
    import hashlib

    import numpy as np

    from isthmus.recommender import Recommender
    from isthmus.scoring import Requests

    model = Recommender.load(folder, version=version)
    gated, dataset = model.system.gated, model.dataset
    everybody = Requests.of_users(dataset, np.arange(dataset.n_users))
    measured = model.evaluate(systems={"gated": gated})
    return {
        "metrics": {
            name: {m: float(v.mean()) for m, v in found["gated"].values.items()}
            for name, found in measured.items()
        },
        "scores": [
            hashlib.sha256(gated.score(everybody, d).total.tobytes()).hexdigest()
            for d in range(len(dataset.domains))
        ],
    }


def uncrashed(first: Path, crashed: Path, calm: Path, place: str, books: Books) -> dict[str, Any]:
    """Make the versions again without a kill, and compare each; gives the last one's metrics."""
    from isthmus.online.catalogue import open_catalogue
    from isthmus.online.learner import Learner
    from isthmus.training.checkpoint import described
    from isthmus.training.versions import read_pointer

    shutil.copytree(first, calm)
    log, catalogue = open_log(place), open_catalogue(place)
    versions = described(crashed)[1:]
    found: dict[str, Any] = {}
    for name, _, meta in versions:
        at = meta["log"]
        registered = RegisteredUntil(catalogue, at["registered"])
        step = Learner(calm, Until(log, at["offset"]), catalogue=registered).step(wait=False)
        if step.version != name:
            books.faults.append(f"{name} is made as {step.version}: {step.reason}")
            break
        found, again = figures(crashed, name), figures(calm, name)
        if found != again:
            books.faults.append(f"{name} differs: {found} against {again}")
    log.close()
    catalogue.close()
    lives = [read_pointer(folder).folder.name for folder in (crashed, calm)]
    if lives[0] != lives[1]:
        books.faults.append(f"{lives[0]} serves, and {lives[1]} where nothing was killed")
    return {"versions": len(versions), "live": lives[0], "metrics": found.get("metrics")}


def planned(names: tuple[str, ...], kills: int, latest: float, draw: random.Random) -> list[Death]:
    """Deaths at every failpoint and then at random ones and moments, in random order."""
    at = [*names, *(f"{draw.choice(names)}:{draw.randrange(2, 9)}" for _ in range(kills))]
    found = [Death(name, 45.0) for name in at[: max(kills // 2, min(kills, len(names)))]]
    found += [Death(None, draw.uniform(0.05, latest)) for _ in range(kills - len(found))]
    draw.shuffle(found)
    return found


def study(place: str, first: Path, folder: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill service and learner so often each, and report.

    Args:
        place: file or URL of a new log.
        first: a folder for the first model, kept between studies.
        folder: an empty one.
        kills: of each.
        seed: of moments and failpoints.
    """
    draw, books = random.Random(seed), Books()
    events = make_model(first)
    early, events = events[:EARLY], events[EARLY:]
    log = open_log(place)
    log.append(early)
    log.close()
    model = folder / "model"
    shutil.copytree(first, model)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "isthmus"]
    where = ["--model", str(model), "--log", place]
    serve = [*command, "serve", *where, "--no-auth", "--port", str(port)]
    serve += ["--exports", str(folder / "exports"), "--set", "serving.poll_seconds=0.2"]
    serve += ["--set", "serving.rate=0"]
    update = [*command, "update", *where]
    service = Victim(
        serve,
        planned(SERVICE, kills, 3.0, draw),
        folder / "service.txt",
        lambda: check(place, books),
        port,
    )
    learner = Victim(
        [*update, "--every", "1"],
        planned(VERSIONS, kills, 8.0, draw),
        folder / "learner.txt",
        lambda: check_versions(model, books),
    )
    callers = [Caller(port, reports(events[n::SENDERS]), books, pause=0.03) for n in range(SENDERS)]
    callers.append(Caller(port, errands(events), books, pause=0.05))
    service.start()
    while service.is_alive() and not answers(port):
        time.sleep(0.1)
    for thread in (learner, *callers):
        thread.start()
    service.join()
    learner.join()
    books.closing.set()
    for caller in callers:
        caller.join(START_SECONDS + DRAIN_SECONDS)
        if caller.is_alive():
            books.faults.append("a request was not acknowledged at the end")
    check(place, books)
    assert service.last is not None, "it was started before its thread ended"
    with_all(service.last, signal.SIGTERM)
    for _ in range(3):
        done = subprocess.run(update, capture_output=True, text=True, check=False)
        if done.returncode or done.stdout.startswith("No new events"):
            break
    if "Traceback" in done.stderr or not done.stdout.startswith("No new events"):
        books.faults.append(f"the learner did not catch up: {done.stdout}{done.stderr}")
    for said in (service.output, learner.output):
        if "Traceback" in said.read_text(errors="replace"):
            books.faults.append(f"a traceback in {said}")
    check_versions(model, books)
    compared = uncrashed(first, model, folder / "calm", place, books)
    kinds = Counter(request.kind for request in books.acknowledged)
    return {
        "kills": 2 * kills,
        "by_failpoint": dict(sorted((service.by_failpoint + learner.by_failpoint).items())),
        "at_random": service.at_random + learner.at_random,
        "acknowledged": dict(kinds),
        **compared,
        "faults": books.faults,
        "passed": not books.faults and compared["versions"] > 0,
    }
