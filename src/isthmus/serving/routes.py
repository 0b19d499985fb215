"""Every route with the role it needs; what is not here does not exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from isthmus.serving.keys import Role


@dataclass(frozen=True)
class Route:
    """One route.

    Attributes:
        method: of HTTP.
        path: with `{names}` in it.
        role: that a caller must have; None: anybody may.
    """

    method: str
    path: str
    role: Role | None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a path must look like."""
        return re.compile(r"[\w-]+".join(map(re.escape, re.split(r"\{\w+\}", self.path))))


ROUTES = (
    Route("POST", "/v1/recommend", Role.READ),
    Route("POST", "/v1/events", Role.INGEST),
    Route("POST", "/v1/events/batch", Role.INGEST),
    Route("POST", "/v1/similar", Role.READ),
    Route("POST", "/v1/profile", Role.READ),
    Route("GET", "/v1/domains", Role.READ),
    Route("GET", "/v1/items", Role.READ),
    Route("PUT", "/v1/items", Role.INGEST),
    Route("DELETE", "/v1/items", Role.INGEST),
    Route("GET", "/v1/items/one", Role.READ),
    Route("POST", "/v1/items/hide", Role.INGEST),
    Route("POST", "/v1/items/show", Role.INGEST),
    Route("GET", "/v1/users", Role.ADMIN),
    Route("PUT", "/v1/users", Role.INGEST),
    Route("DELETE", "/v1/users", Role.ADMIN),
    Route("GET", "/v1/users/one", Role.ADMIN),
    Route("POST", "/v1/users/hide", Role.INGEST),
    Route("POST", "/v1/users/show", Role.INGEST),
    Route("GET", "/v1/models", Role.READ),
    Route("POST", "/v1/models/promote", Role.ADMIN),
    Route("POST", "/v1/models/rollback", Role.ADMIN),
    Route("GET", "/v1/exports", Role.ADMIN),
    Route("POST", "/v1/exports", Role.ADMIN),
    Route("GET", "/v1/exports/{export_id}", Role.ADMIN),
    Route("GET", "/v1/health", None),
    Route("GET", "/v1/ready", None),
    Route("GET", "/v1/metrics", Role.READ),
    Route("GET", "/openapi.json", None),
    Route("GET", "/docs", None),
)
_EXACT = {(route.method, route.path): route for route in ROUTES if "{" not in route.path}
_OTHERS = [route for route in ROUTES if "{" in route.path]


def route_of(method: str, path: str) -> Route | None:
    """The route that a request is meant for."""
    method = "GET" if method == "HEAD" else method
    found = _EXACT.get((method, path))
    if found is not None:
        return found
    return next((r for r in _OTHERS if r.method == method and r.pattern.fullmatch(path)), None)
