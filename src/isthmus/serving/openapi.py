"""The OpenAPI document of every route: FastAPI's own, with the hot routes added."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from isthmus.serving.messages import (
    ErrorAnswer,
    EventBatch,
    EventIn,
    EventResult,
    EventResults,
    Recommend,
    Recommendation,
)
from isthmus.serving.routes import ROUTES

_HOT: dict[str, tuple[str, str, type, type]] = {
    "/v1/recommend": (
        "recommend",
        "Recommend items to a person or a session",
        Recommend,
        Recommendation,
    ),
    "/v1/events": (
        "events",
        "Report one event or impression; 200: it is on disk",
        EventIn,
        EventResult,
    ),
    "/v1/events/batch": (
        "events",
        "Report up to 10,000 events; each has its own result, in order",
        EventBatch,
        EventResults,
    ),
}
_REFUSALS = {
    "400": "The body is no JSON, or nests too deeply.",
    "401": "A key is missing, unknown or expired.",
    "403": "The key has not the role that this needs.",
    "404": "There is no such thing.",
    "409": "It stands against something that is there already.",
    "413": "The body is too large.",
    "422": "A field, a filter or an id cannot be understood.",
    "429": "Too many requests; see Retry-After.",
    "503": "Not now; see Retry-After.",
}


def document(app: FastAPI, version: str) -> dict[str, Any]:
    """The whole document."""
    found = get_openapi(
        title="Isthmus",
        version=version,
        description="Cross-domain recommendations, live.",
        routes=app.routes,
    )
    types = [ErrorAnswer, *(kind for _, _, *kinds in _HOT.values() for kind in kinds)]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    # An event of a batch is read by itself, so that a wrong one has its own result.
    schemas["EventBatch"]["properties"]["events"]["items"] = _ref("EventIn")
    components = found.setdefault("components", {}).setdefault("schemas", {})
    components |= schemas
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for path, (tag, summary, takes, gives) in _HOT.items():
        found["paths"][path] = {
            "post": {
                "tags": [tag],
                "summary": summary,
                "operationId": path.removeprefix("/v1/").replace("/", "_"),
                "requestBody": {"required": True, "content": _json(takes.__name__)},
                "responses": {"200": {"description": "Done.", "content": _json(gives.__name__)}},
            }
        }
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for route in ROUTES:
        operation = found["paths"].get(route.path, {}).get(route.method.lower())
        if operation is None:
            continue
        responses = operation["responses"]
        for status, words in _REFUSALS.items():
            if status not in responses or status == "422":
                responses[status] = {"description": words, "content": _json("ErrorAnswer")}
        if route.role is not None:
            operation["security"] = [{"key": []}]
            operation["description"] = (
                f"{operation.get('description', '')}\n\nRole: {route.role}."
            ).strip()
    return found


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(name)}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
