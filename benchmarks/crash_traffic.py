"""Traffic for a service that is killed: what is asked of it, and whether it was done.

Part of `benchmarks/crash_service.py`. Callers send each request until it is acknowledged, and keep
books of it; `check` looks into the log as another process would.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from isthmus.online.events import Event

_LEARNT = 0.6
"""Share of the world's events, by time, that the first model has learnt; the rest is traffic."""


@dataclass(frozen=True)
class Request:
    """Something that a caller wants done, and how to tell whether it was.

    Attributes:
        kind: `events`, `item`, `hide`, `person`, `passing` or `erase`.
        name: of the item or person.
        method: of HTTP.
        path: of HTTP.
        content: JSON.
        events: that must be in the log then.
    """

    kind: str
    name: str
    method: str
    path: str
    content: Any = None
    events: tuple[Event, ...] = ()


@dataclass
class Books:
    """What was asked and acknowledged, and what should not have been, in words."""

    acknowledged: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


def make_model(folder: Path) -> list[Event]:
    """A model of the first part of a small world, made where it is missing; the rest as events."""
    import numpy as np

    from isthmus.config import Config
    from isthmus.data.world import DomainSpec, WorldConfig, generate_world
    from isthmus.recommender import Recommender

    domains = (
        DomainSpec(name="books", n_items=90, events_per_user=12),
        DomainSpec(name="gear", n_items=70, events_per_user=7),
    )
    whole = generate_world(WorldConfig(n_users=240, n_themes=6, domains=domains, seed=3)).dataset
    events = whole.events
    cut = np.quantile(events.time, _LEARNT, method="higher")
    if not (folder / "current").exists():
        config = Config.model_validate(
            {
                "model": {"dim": 16, "layers": 1, "heads": 2, "max_length": 20, "adapter_rank": 2},
                "training": {
                    **{"epochs": 2, "evaluate_every": 1, "batch_events": 512, "negatives": 48},
                    **{"device": "cpu", "threads": 1, "checkpoint_seconds": 0},
                },
                "evaluation": {"bootstrap": 100, "min_slice": 20, "cutoffs": [10]},
                "language": {"whiten_dim": 16},
                # Enough that no version of a round is dropped, so that all can be made again.
                "learning": {"passes": 2, "least_events": 40, "keep_versions": 1000},
            }
        )
        Recommender.fit(replace(whole, events=events.keep(events.time < cut)), config).save(folder)
    found = []
    later = np.flatnonzero(events.time >= cut)
    for place in later[np.argsort(events.time[later], kind="stable")].tolist():
        domain = whole.domains[events.domain[place]]
        item_id = domain.items["item_id"][int(events.item[place])]
        who = whole.user_ids[int(events.user[place])]
        found.append(Event(f"e{place}", who, domain.name, item_id, float(events.time[place])))
    return found


def reports(events: list[Event]) -> Iterator[Request]:
    """Events, by turns one alone and three together."""
    place = 0
    while place < len(events):
        alone = (place // 4) % 2 == 0
        some = tuple(events[place : place + (1 if alone else 3)])
        place += len(some)
        told = [
            {
                **{"event_id": event.event_id, "user_id": event.user_id, "time": event.time},
                **{"domain": event.domain, "item_id": event.item_id},
            }
            for event in some
        ]
        path, content = "/v1/events", told[0] if alone else {"events": told}
        where = path if alone else f"{path}/batch"
        yield Request("events", some[0].event_id, "POST", where, content, some)


def errands(events: list[Event]) -> Iterator[Request]:
    """Registrations, events on what was registered, and people who come, look and are erased."""
    number, start = 0, events[0].time
    known = list(dict.fromkeys(event.item_id for event in events if event.domain == "books"))
    while True:
        item, person, leaver = (f"{what}-{number}" for what in ("new", "person", "leaver"))
        key = {"domain": "gear", "item_id": item}
        about = {**key, "title": f"Steel kettle number {number}", "attributes": {"price": number}}
        yield Request("item", item, "PUT", "/v1/items", {"items": [about]})
        bought = Event(f"n{number}", person, "gear", item, start + number)
        told = {**key, "event_id": f"n{number}", "user_id": person, "time": start + number}
        yield Request("events", bought.event_id, "POST", "/v1/events", told, (bought,))
        yield Request("person", person, "PUT", "/v1/users", {"user_id": person})
        if number % 3 == 0 and known:
            # Once each, and none that is new: what was registered at any moment can be told later.
            hidden = {"domain": "books", "item_id": known.pop()}
            yield Request("hide", hidden["item_id"], "POST", "/v1/items/hide", hidden)
        # An impression, which no learner reads: who was never learnt from changes no model.
        seen = {
            **{"event_id": f"i{number}", "user_id": leaver, "domain": "gear", "item_id": item},
            **{"type": "impression", "recommendation_id": "r", "rank": 1, "time": start + number},
        }
        yield Request("passing", leaver, "POST", "/v1/events", seen)
        yield Request("erase", leaver, "DELETE", f"/v1/users?user_id={leaver}")
        number += 1


class Caller(threading.Thread):
    """Sends requests one after the other, each until it is acknowledged."""

    def __init__(self, port: int, requests: Iterator[Request], books: Books, pause: float) -> None:
        super().__init__(daemon=True)
        self._port, self._requests, self._books, self._pause = port, requests, books, pause
        self._line: http.client.HTTPConnection | None = None

    def run(self) -> None:
        for request in self._requests:
            if self._books.closing.is_set():
                return
            while not self._acknowledged(request):
                time.sleep(0.05)
            self._books.acknowledged.append(request)
            time.sleep(self._pause)

    def _acknowledged(self, request: Request) -> bool:
        try:
            if self._line is None:
                self._line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            body = None if request.content is None else json.dumps(request.content)
            headers = {"Content-Type": "application/json"}
            self._line.request(request.method, request.path, body, headers)
            answer = self._line.getresponse()
            status, told = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._line = None
            return False
        if status == 503:
            return False
        wrong = status not in (200, 202)
        if not wrong and request.path == "/v1/events/batch":
            wrong = json.loads(told)["refused"] != 0
        if wrong:
            self._books.faults.append(f"{request.name}: {status} {told.decode()[:300]}")
        return True


def check(place: str, books: Books) -> None:
    """Open log and registrations as another process would, and find fault."""
    from isthmus.online.catalogue import open_catalogue
    from isthmus.online.log import between, open_log

    acknowledged = list(books.acknowledged)
    log, catalogue = open_log(place), open_catalogue(place)
    found = list(between(log))
    times = Counter(logged.record.event_id for logged in found)
    books.faults += [f"{name} is there {n} times" for name, n in times.items() if n > 1]
    by_id = {logged.record.event_id: logged.record for logged in found}
    people = {record.user_id for record in by_id.values()}
    marks = {mark.person for mark in log.erased()}
    items = {item.item_id: item for item in catalogue.items(limit=1_000_000)}
    registered = {person.user_id for person in catalogue.people(limit=1_000_000)}
    for request in acknowledged:
        name, item = request.name, items.get(request.name)
        there = {
            "events": all(by_id.get(event.event_id) == event for event in request.events),
            "item": item is not None and item.described,
            "hide": item is not None and item.hidden,
            "person": name in registered,
            "erase": log.pseudonym(name) in marks and name not in people,
        }
        if not there.get(request.kind, True):
            books.faults.append(f"acknowledged, and not there: {request.kind} {name}")
    log.close()
    catalogue.close()
