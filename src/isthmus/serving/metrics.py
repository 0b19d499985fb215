"""What Prometheus may ask for, right with several workers.

With more than one worker each writes its numbers to files in the folder that
PROMETHEUS_MULTIPROC_DIR names, and whichever is asked adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

REQUESTS = Counter("isthmus_requests", "Requests by route and status.", ["route", "status"])
SECONDS = Histogram(
    "isthmus_request_seconds", "Time to answer, by route.", ["route"], buckets=_SECONDS
)
EVENTS = Counter("isthmus_events", "Events and impressions, by outcome.", ["outcome"])
RECOMMENDATIONS = Counter(
    "isthmus_lists", "Lists of recommendations, by domain and fallback.", ["domain", "fallback"]
)
_VERSION = Gauge(
    "isthmus_model_version",
    "Number of the model version that answers.",
    multiprocess_mode="livemin",
)
_ITEMS = Gauge(
    "isthmus_catalogue_items",
    "Items that may be offered, by domain.",
    ["domain"],
    multiprocess_mode="livemin",
)


@cache
def answered(route: str, status: int) -> Callable[[float], None]:
    """Counts a request that was answered, and takes how many seconds that took.

    Found once for each route and status; looking numbers up by their labels costs more than
    counting.
    """
    count, seconds = REQUESTS.labels(route, str(status)), SECONDS.labels(route)

    def told(took: float) -> None:
        count.inc()
        seconds.observe(took)

    return told


@cache
def reported(outcome: str) -> Counter:
    """Counts events and impressions of one outcome."""
    return EVENTS.labels(outcome)


@cache
def listed(domain: str, fallback: bool) -> Counter:
    """Counts lists of one domain."""
    return RECOMMENDATIONS.labels(domain, str(fallback).lower())


def tell(version: str, offered: Mapping[str, int]) -> None:
    """What this worker answers with from now on.

    Told at every change, not when somebody asks: who asks is answered by one worker, and the
    others' numbers count as well.

    Args:
        version: name of the model version.
        offered: items that may be offered, by domain.
    """
    number = version.removeprefix("v")
    _VERSION.set(int(number) if number.isdecimal() else 0)
    for domain, count in offered.items():
        _ITEMS.labels(domain).set(count)


def numbers() -> CollectorRegistry:
    """All numbers of all workers."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return REGISTRY
    for file in Path(folder).glob("gauge_live*_*.db"):
        # What a worker that died answered with is no answer of today's.
        pid = int(file.stem.rpartition("_")[2])
        if not _runs(pid):
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def exposition() -> tuple[bytes, str]:
    """All numbers in Prometheus' text format, and its content type."""
    return generate_latest(numbers()), CONTENT_TYPE_LATEST
