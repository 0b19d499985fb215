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
        page: whether a person reads the answer in a browser.
    """

    method: str
    path: str
    role: Role | None
    page: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a path must look like."""
        return re.compile(r"[\w-][\w.-]*".join(map(re.escape, re.split(r"\{\w+\}", self.path))))


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
"""Of the API."""

PAGES = (
    Route("GET", "/", Role.READ, page=True),
    Route("GET", "/try", Role.READ, page=True),
    Route("GET", "/try/people", Role.ADMIN),
    Route("GET", "/try/items", Role.READ),
    Route("GET", "/try/history", Role.READ),
    Route("GET", "/transfer", Role.READ, page=True),
    Route("GET", "/map", Role.READ, page=True),
    Route("GET", "/models", Role.READ, page=True),
    Route("POST", "/models/promote", Role.ADMIN, page=True),
    Route("POST", "/models/rollback", Role.ADMIN, page=True),
    Route("GET", "/learning", Role.READ, page=True),
    Route("GET", "/sign-in", None, page=True),
    Route("POST", "/sign-in", None, page=True),
    Route("POST", "/sign-out", None, page=True),
    Route("GET", "/static/{name}", None),
)
"""Of the dashboard."""

EVERY = (*ROUTES, *PAGES)
_EXACT = {(route.method, route.path): route for route in EVERY if "{" not in route.path}
_OTHERS = [route for route in EVERY if "{" in route.path]


def route_of(method: str, path: str) -> Route | None:
    """The route that a request is meant for."""
    method = "GET" if method == "HEAD" else method
    found = _EXACT.get((method, path))
    if found is not None:
        return found
    return next((r for r in _OTHERS if r.method == method and r.pattern.fullmatch(path)), None)
