"""The service under load: p50 and p99 against rate, against a plain handler, and while it changes.

    python benchmarks/load/run.py --model models/food-kitchen

The model is that of `isthmus fit -c benchmarks/configs/food-kitchen.toml` (28,095 items, d = 64).
Server and generator are processes of their own on this machine; the machine is shared with both,
so ratios within one run say more than rates. Prints JSON, step by step as it goes on standard
error; `python benchmarks/proof.py load` keeps it as `benchmarks/results/load.json`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
AIM_MS = 50.0
AIMS = {"recommend": 300.0, "event": 2000.0}
"""Requests a second that are aimed at, each kind alone."""
HALF_OF_AIMS = {kind: rate / 2 for kind, rate in AIMS.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server(words: Sequence[str], port: int, probe: str) -> Iterator[int]:
    """A server until the block ends; gives its process id."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    process = subprocess.Popen([sys.executable, *words], env=environment)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                line.request("GET", probe)
                if line.getresponse().status in (200, 404):
                    break
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the server did not start")
            time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def service(model: Path, folder: Path, port: int, workers: int, *more: str) -> list[str]:
    return [
        *("-m", "isthmus", "serve", "--model", str(model), "--log", str(folder / "events.db")),
        *("--port", str(port), "--no-auth", "--workers", str(workers)),
        *("--exports", str(folder / "exports"), "--set", "serving.poll_seconds=0.2"),
        *("--set", "serving.rate=0", *more),
    ]


def generate(plan: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(HERE / "generator.py")],
        input=json.dumps({**plan, "seed": time.time_ns()}),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ladder(plan: dict[str, Any], kind: str, rates: Sequence[float]) -> list[dict[str, Any]]:
    """p50 and p99 at rising rates, until a server falls far behind."""
    found = []
    for rate in rates:
        step = generate({**plan, "rates": {kind: rate}})
        found.append({"rate": rate, **step[kind]})
        print(kind, found[-1], file=sys.stderr)
        if step[kind].get("p99_ms", 1e9) > 20 * AIM_MS:
            break
    return found


def sustained(steps: Sequence[dict[str, Any]]) -> float:
    """The highest rate at which p99 stayed within the aim and nothing failed."""
    good = [s["rate"] for s in steps if s.get("p99_ms", 1e9) < AIM_MS and not s.get("errors")]
    return max(good, default=0.0)


def resident(pid: int) -> float:
    """MiB of a process and all below it."""
    pages = 0
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, [])
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(plan: dict[str, Any], pid: int, seconds: float) -> dict[str, Any]:
    """Half rate for long; memory after warming up against memory at the end."""
    command = [sys.executable, str(HERE / "generator.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps({**plan, "seconds": seconds, "seed": time.time_ns()}))
    process.stdin.close()
    samples, began = [], time.monotonic()
    while process.poll() is None:
        samples.append((time.monotonic() - began, resident(pid)))
        time.sleep(2)
    assert process.stdout is not None
    found = json.loads(process.stdout.read())
    warm = [mib for moment, mib in samples if moment > seconds * 0.1]
    n = max(len(warm) // 10, 1)
    first, last = sum(warm[:n]) / n, sum(warm[-n:]) / n
    return {**found, "resident_mib": [first, last], "growth": last / first - 1}


def other_version(model: Path, copy: Path) -> dict[str, Any]:
    """A folder with two versions that answer differently, and what each must answer."""
    from isthmus.blend import Blend
    from isthmus.recommender import Recommender

    one = Recommender.load(model)
    one.save(copy)

    def turned(side: Any) -> Any:
        names = list(side.parts)
        weights = {
            d: dict(zip(names, [w[n] for n in reversed(names)], strict=True))
            for d, w in side.blend.weights.items()
        }
        return replace(side, blend=Blend(side.parts, weights, name=side.name))

    system = replace(
        one.system,
        transferred=turned(one.system.transferred),
        alone={d: turned(side) for d, side in one.system.alone.items()},
    )
    other = Recommender(one.dataset, one.config, one.split, one.raw, system)
    other.save(copy)
    users = one.dataset.user_ids.to_list()[:40]
    expected = {}
    for version, recommender in (("v000001", one), ("v000002", other)):
        for domain in one.dataset.names:
            rows = recommender.recommend(domain, users=users, k=10)
            for user in users:
                found = rows.filter(rows["request"] == user)["item_id"].to_list()
                expected[f"{version} {user} {domain}"] = found
    return {"users": users, "expected": expected}


@contextmanager
def learner(model: Path, folder: Path) -> Iterator[None]:
    """A learner at the lowest priority that goes on updating the model until the block ends."""
    words = [sys.executable, "-m", "isthmus", "update", "--model", str(model)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    process = subprocess.Popen(
        ["nice", "-n", "19", *words, "--log", str(folder / "events.db"), "--every", "1"],
        env=environment,
    )
    try:
        yield
        if process.poll() is not None:
            raise SystemExit("the learner stopped before the load did")
    finally:
        process.terminate()
        process.wait(60)


def swaps(plan: dict[str, Any], port: int, count: int) -> dict[str, Any]:
    """Promote one version after the other while questions are asked and answers are checked."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "generator.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({**plan, "seed": time.time_ns()}))
    process.stdin.close()

    def call(method: str, path: str, content: Any = None) -> Any:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = None if content is None else json.dumps(content)
        line.request(method, path, body, {"Content-Type": "application/json"})
        return json.loads(line.getresponse().read())

    done = 0
    while done < count and process.poll() is None:
        version = f"v{1 + done % 2:06d}"
        call("POST", "/v1/models/promote", {"version": version})
        while call("GET", "/v1/models")["answering"] != version and process.poll() is None:
            time.sleep(0.05)
        done += process.poll() is None
    process.wait()
    assert process.stdout is not None
    return {"swaps": done, **json.loads(process.stdout.read())}


def against_plain(ours: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """What 16 callers get of either in turn, and where the plain handler ends."""
    rounds = []
    for _ in range(3):
        a, b = (
            generate({**plan, "callers": 16})["recommend"]["per_second"] for plan in (ours, plain)
        )
        rounds.append({"service": a, "plain": b, "ratio": a / b})
        print(rounds[-1], file=sys.stderr)
    steps = ladder(plain, "recommend", (10, 20, 40, 80, 120))
    return {"saturation_16_callers": rounds, "plain_recommend": steps}


def changing_at(plan: dict[str, Any], rates: dict[str, float]) -> dict[str, Any]:
    """Event to changed recommendation, 600 of them, five a second beside other traffic."""
    asked = {**plan, "rates": {**rates, "changed": 5}, "seconds": 120}
    found = {"rates": rates, **generate(asked)}
    print(found, file=sys.stderr)
    return found


def by_itself(plan: dict[str, Any]) -> dict[str, Any]:
    """Each kind of request alone at rising rates, then both."""
    asked = ladder(plan, "recommend", (25, 50, 100, 150, 200, 300, 400))
    told = ladder(plan, "event", (250, 500, 1000, 1500, 2000, 2500))
    most = {"recommend": sustained(asked), "event": sustained(told)}
    half = {"recommend": max(most["recommend"] / 2, 10), "event": max(most["event"] / 2, 50)}
    return {
        **{"recommend": asked, "recommend_sustained": most["recommend"]},
        **{"event": told, "event_sustained": most["event"]},
        "both_at_half_rate": generate({**plan, "rates": half}),
        "event_to_changed_recommendation_at_half_of_aims": changing_at(plan, HALF_OF_AIMS),
        "event_to_changed_recommendation_at_half_of_sustained": changing_at(plan, half),
    }


def while_swapping(plan: dict[str, Any], model: Path, folder: Path, count: int) -> dict[str, Any]:
    """Versions that answer differently, changed under load."""
    expected = other_version(model, folder / "two")
    port = free_port()
    # A log of its own: what was told before would count among what is popular.
    told = folder / "nothing"
    told.mkdir()
    with server(service(folder / "two", told, port, 1), port, "/v1/ready"):
        changing = {**plan, **expected, "port": port, "rates": {"recommend": 20}}
        return swaps({**changing, "seconds": count * 6.0}, port, count)


def measured(given: argparse.Namespace, plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Everything, in a folder of its own."""
    model = folder / "model"
    shutil.copytree(given.model, model)
    port, plain = free_port(), free_port()
    ours = {**plan, "port": port, "path": "/v1/recommend"}
    words = [str(HERE / "plain.py"), str(given.model), str(plain)]
    found: dict[str, Any] = {}
    with server(service(model, folder, port, given.workers), port, "/v1/ready") as pid:
        with server(words, plain, "/docs"):
            found |= against_plain(ours, {**plan, "port": plain, "path": "/recommend"})
        found |= by_itself(ours)
        half = found["event_to_changed_recommendation_at_half_of_sustained"]["rates"]
        if given.soak:
            found["soak"] = soak({**ours, "rates": half}, pid, given.soak)
        with learner(model, folder):
            learning = {**ours, "rates": half, "seconds": given.learning}
            found["both_while_learning"] = generate(learning)
    thread = ("--set", "serving.own_process=false")
    for name, workers, more in (("two_workers", 2, ()), ("answers_in_a_thread", 1, thread)):
        other = folder / name
        other.mkdir()
        with server(service(model, other, port, workers, *more), port, "/v1/ready"):
            found[f"{name}_at_half_of_aims"] = changing_at(ours, HALF_OF_AIMS)
    if given.swaps:
        found["hot_swap"] = while_swapping(ours, given.model, folder, given.swaps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="write it there too")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each step")
    parser.add_argument("--soak", type=float, default=600.0, help="seconds at half rate")
    parser.add_argument(
        "--learning", type=float, default=90.0, help="seconds at half rate beside a learner"
    )
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    from isthmus.recommender import Recommender

    dataset = Recommender.load(given.model).dataset
    plan: dict[str, Any] = {
        "seconds": given.seconds,
        "users": dataset.user_ids.to_list(),
        "domains": list(dataset.names),
        "items": {d.name: d.items["item_id"].to_list() for d in dataset.domains},
    }
    found: dict[str, Any] = {"load_average_before": os.getloadavg(), "workers": given.workers}
    with tempfile.TemporaryDirectory() as temporary:
        found |= measured(given, plan, Path(temporary))
    found["load_average_after"] = os.getloadavg()
    text = json.dumps(found, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
