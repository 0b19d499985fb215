"""The first page: what is served, how busy it is, how quick, by which version, and whether the
world has moved."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from isthmus.errors import LogUnavailable
from isthmus.online.events import Event
from isthmus.online.log import EventLog
from isthmus.report.page import embedded
from isthmus.serving.metrics import SECONDS, numbers
from isthmus.serving.pages.pictures import activity_chart
from isthmus.serving.pages.rendering import page
from isthmus.serving.pages.versions import COUNTED, streams, versions, waiting
from isthmus.serving.service import Service

MINUTES = 60
_ROUTES = {
    "/v1/recommend": "recommend",
    "/v1/events": "one event",
    "/v1/events/batch": "batch of events",
    "/v1/similar": "similar items",
    "/v1/profile": "profile",
}


@dataclass(frozen=True)
class Activity:
    """What the log took in the last hour.

    Attributes:
        minutes: hour and minute, UTC, the oldest first.
        events: things that people did, by minute.
        impressions: things that they were shown, by minute.
        cut: whether there were more than are counted, so that early minutes lack some.
    """

    minutes: list[str]
    events: list[int]
    impressions: list[int]
    cut: bool


def activity(log: EventLog, now: float) -> Activity:
    """Count the latest records of the log.

    Raises:
        LogUnavailable: the log cannot be asked.
    """
    first = int(now // 60) - MINUTES + 1
    after = max(0, log.head() - COUNTED)
    found = log.read(after, COUNTED)
    counts = Counter(
        (isinstance(record.record, Event), int(record.received // 60) - first) for record in found
    )
    events, impressions = ([counts[kind, m] for m in range(MINUTES)] for kind in (True, False))
    names = [time.strftime("%H:%M", time.gmtime((first + m) * 60)) for m in range(MINUTES)]
    cut = after > 0 and bool(found) and found[0].received // 60 > first
    return Activity(names, events, impressions, cut)


@dataclass(frozen=True)
class Latency:
    """How long answers take.

    Attributes:
        name: what is asked for.
        n: answers since the service started.
        p50: seconds.
        p99: seconds.
    """

    name: str
    n: int
    p50: float
    p99: float


def latencies() -> list[Latency]:
    """Of the routes that were asked, over all workers, read off the buckets of the metrics."""
    buckets: dict[str, dict[float, float]] = {}
    for family in numbers().collect():
        for sample in family.samples:
            if sample.name == f"{SECONDS._name}_bucket" and sample.labels["route"] in _ROUTES:
                per_route = buckets.setdefault(sample.labels["route"], {})
                per_route[float(sample.labels["le"])] = sample.value
    found = []
    for route, name in _ROUTES.items():
        edges = sorted(buckets.get(route, {}).items())
        if edges and (n := int(edges[-1][1])):
            found.append(Latency(name, n, quantile(edges, 0.5), quantile(edges, 0.99)))
    return found


def quantile(edges: list[tuple[float, float]], share: float) -> float:
    """A quantile of a histogram, spread evenly within its bucket.

    Args:
        edges: upper edge and count up to it, rising; the last edge is infinite.
        share: in (0, 1).
    """
    wanted = share * edges[-1][1]
    for (low, before), (high, upto) in pairwise([(0.0, 0.0), *edges]):
        if upto >= wanted and upto > before:
            # Beyond the last finite edge nothing more is known.
            width = 0.0 if np.isinf(high) else high - low
            return low + width * (wanted - before) / (upto - before)
    return edges[-1][0]


class OverviewPage:
    """See the module.

    Args:
        service: what is shown.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def show(self, request: Request) -> Response:
        """The page."""
        keeper = self._service.keeper
        live = keeper.refresh()
        told = versions(keeper)
        champion = next(version for version in told if version.role == "champion")
        try:
            busy = activity(keeper.log, time.time())
            unseen = waiting(keeper.log, champion.offset)
            problem = self._service.standing.problem
        except LogUnavailable as error:
            busy, unseen, problem = None, None, error.what
        shown = {} if busy is None else {"events": busy.events, "impressions": busy.impressions}
        events = live.recommender.dataset.events
        learnt = np.bincount(events.domain, minlength=len(live.shelves)).tolist()
        return page(
            request,
            "overview.html",
            live=live,
            champion=champion,
            challenger=next((v for v in told if v.role == "challenger"), None),
            rolled_back=next((v for v in told if v.role == "rolled back"), None),
            n_versions=len(told),
            domains=[
                {
                    "name": shelf.name,
                    "items": int((~shelf.deleted).sum()),
                    "offered": int(shelf.offered.sum()),
                    "events": n,
                    "gate": live.recommender.gates.get(shelf.name),
                }
                for shelf, n in zip(live.shelves, learnt, strict=True)
            ],
            people=live.recommender.dataset.n_users,
            busy=busy,
            chart=embedded(activity_chart(shown, busy.minutes)) if busy else None,
            rate=None if busy is None else sum(busy.events[-6:-1]) / 5,
            latencies=latencies(),
            unseen=unseen,
            streams=streams(told),
            problem=problem,
        )
