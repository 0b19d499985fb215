"""The HTTP application: the hot routes first, the others behind them, the guard around all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from secrets import token_bytes

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from isthmus.errors import IsthmusError, RequestError
from isthmus.experiment.schema import RunRecord
from isthmus.serving.guard import Guard
from isthmus.serving.hot import hot_routes
from isthmus.serving.keys import KeyFile
from isthmus.serving.limits import refusals
from isthmus.serving.openapi import document
from isthmus.serving.pages.mount import page_routes
from isthmus.serving.pages.sessions import Sessions
from isthmus.serving.problems import Malformed, told
from isthmus.serving.rest import add_items, add_models, add_operation, add_questions, add_users
from isthmus.serving.service import Service


def make_app(
    service: Service,
    keys: KeyFile | None,
    *,
    docs: bool = False,
    secret: bytes | None = None,
    run: RunRecord | None = None,
) -> ASGIApp:
    """The whole application; the service's keeper must have been started.

    Args:
        service: what answers; begins and ends with the server.
        keys: who may call; None: anybody, for services that only this machine can reach.
        docs: serve a page at /docs, whose script a browser fetches from the network.
        secret: signs the dashboard's sessions, the same for all workers; None: one of its own.
        run: a comparison whose figures the dashboard shows.
    """
    refused = refusals(service.config.refused_keys)
    sessions = Sessions(keys, secret or token_bytes(32), refused)
    rest = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for add in (add_questions, add_items, add_users, add_models, add_operation):
        add(rest, service)
    for kind in (IsthmusError, HTTPException, RequestValidationError, ValueError, Exception):
        rest.add_exception_handler(kind, _tell)
    content = msgspec.json.encode(document(rest, version("isthmus")))

    @rest.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response:
        return Response(content, media_type="application/json")

    if docs:

        @rest.get("/docs", include_in_schema=False)
        def page() -> Response:
            return get_swagger_ui_html(openapi_url="/openapi.json", title="Isthmus")

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        await service.begin()
        yield
        await service.end()

    pages = page_routes(service, sessions, run)
    others = Router([*pages, Mount("/", rest)], lifespan=lifespan)
    return Guard(_HotFirst(hot_routes(service), others), service.config, keys, sessions)


class _HotFirst:
    """Hands what is called most straight on: a router's list took a sixth of the loop's time."""

    def __init__(self, hot: Mapping[str, ASGIApp], others: ASGIApp) -> None:
        self._hot, self._others = hot, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        hot = scope["type"] == "http" and scope["method"] == "POST"
        app = self._hot.get(scope["path"], self._others) if hot else self._others
        await app(scope, receive, send)


async def _tell(_: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        error = _explained(error)
    status, headers, body = told(error)
    return Response(body, status, headers)


def _explained(error: RequestValidationError) -> IsthmusError:
    """The first thing that is wrong with a form, in our words."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "json_invalid":
        return Malformed(f"the body is no JSON: {first['ctx']['error']}", where="body")
    where = f"{place[0]}: {'.'.join(place[1:])}" if len(place) > 1 else place[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    return RequestError(message[:1].lower() + message[1:], where=where, hint="See /openapi.json")
