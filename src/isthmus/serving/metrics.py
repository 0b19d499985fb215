"""What Prometheus may ask for, right with several workers.

With more than one worker each writes its numbers to files in the folder that
PROMETHEUS_MULTIPROC_DIR names, and whichever is asked adds them up.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

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
VERSION = Gauge(
    "isthmus_model_version",
    "Number of the model version that answers.",
    multiprocess_mode="livemin",
)
ITEMS = Gauge(
    "isthmus_catalogue_items",
    "Items that may be offered, by domain.",
    ["domain"],
    multiprocess_mode="livemin",
)


def numbers() -> CollectorRegistry:
    """All numbers of all workers."""
    if not os.environ.get(FOLDER_VARIABLE):
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def exposition() -> tuple[bytes, str]:
    """All numbers in Prometheus' text format, and its content type."""
    return generate_latest(numbers()), CONTENT_TYPE_LATEST
