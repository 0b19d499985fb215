"""What stands before every route: key, rate, size, time, and one form for every error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.config import ServingConfig
from isthmus.serving.keys import KeyFile, NotAllowed
from isthmus.serving.limits import RateLimit
from isthmus.serving.metrics import answered
from isthmus.serving.pages.refusals import told_to_reader
from isthmus.serving.pages.sessions import TOKEN_HEADER, Sessions
from isthmus.serving.problems import TooLarge, told
from isthmus.serving.routes import EVERY, ROUTES, Route, route_of

_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_READING = ("GET", "HEAD")


class Guard:
    """An ASGI application around another.

    Args:
        inner: answers what may be answered.
        config: bounds.
        keys: who may call; None: anybody, for services that only this machine can reach.
        sessions: browsers that have shown a key.
    """

    def __init__(
        self,
        inner: ASGIApp,
        config: ServingConfig,
        keys: KeyFile | None,
        sessions: Sessions,
    ) -> None:
        self._inner, self._config, self._keys = inner, config, keys
        self._sessions = sessions
        self._rate = RateLimit(config.rate, config.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began, answer = time.perf_counter(), _Answer(send)
        route = route_of(scope["method"], scope["path"])
        try:
            scope = self._admit(scope, route)
            async with asyncio.timeout(self._config.timeout):
                body = await self._body(scope, receive)
                await self._inner(scope, _once(body, receive), answer)
        except Exception as error:
            page = route is not None and route.page
            await answer.fail(*(told_to_reader(error, scope) if page else told(error)))
        name = route.path if route else "other"
        answered(name, answer.status)(time.perf_counter() - began)

    def _admit(self, scope: Scope, route: Route | None) -> Scope:
        """The request with whose it is, where it is a browser's; raises what is to be told."""
        headers = dict(scope["headers"])
        caller = str((scope.get("client") or ("",))[0])
        if self._keys is None:
            _refuse_foreign_pages(headers)
        if route is not None and (route.page or self._by_session(headers, route)):
            visit = self._sessions.visit(headers)
            scope = {**scope, "state": {**scope.get("state", {}), "visit": visit}}
            if route.role is not None:
                visit.require(route.role)
            if not route.page and route.method not in _READING:
                visit.confirm(headers.get(TOKEN_HEADER, b"").decode("latin-1"))
            caller = visit.key or caller
        elif self._keys is not None and (route is None or route.role is not None):
            shown = headers.get(b"authorization", b"").decode("latin-1")
            scheme, _, token = shown.partition(" ")
            bearer = token.strip() if scheme.lower() == "bearer" else None
            # Who may not even know what there is gets 401 before 404.
            role = route.role if route is not None and route.role else ROUTES[0].role
            assert role is not None, "the first route has a role"
            try:
                caller = self._keys.check(bearer, role).id
            except NotAllowed as error:
                # Who tries keys out is held up, and to the rate as well, by where they come from.
                if not error.known:
                    self._sessions.refused.take(caller)
                self._rate.take(caller)
                raise
        self._rate.take(caller)
        if route is None:
            raise HTTPException(*_missing(scope["path"], scope["method"]))
        return scope

    def _by_session(self, headers: dict[bytes, Any], route: Route) -> bool:
        """Whether a browser that has signed in asks for something of the API."""
        if self._keys is None or route.role is None or b"authorization" in headers:
            return False
        return bool(self._sessions.visit(headers).key)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self._config.max_body
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            piece = message.get("body", b"")
            size += len(piece)
            if size > most:
                raise _too_large(most)
            pieces.append(piece)
            if not message.get("more_body", False):
                break
        return b"".join(pieces)


class _Answer:
    """Sends on, adds headers, and remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send, self.status, self.begun = send, 0, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            headers = [*message.get("headers", []), *_SAFE]
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def fail(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Tell of an error, unless an answer is on its way already."""
        if self.begun:
            return
        lines = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        lines.append((b"content-length", str(len(body)).encode()))
        await self({"type": "http.response.start", "status": status, "headers": lines})
        await self({"type": "http.response.body", "body": body})


def _once(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, given once; then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refuse_foreign_pages(headers: dict[bytes, Any]) -> None:
    """Without keys, a page of another site in a browser on this machine must not get in."""
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin")
    named = [host] if host else []
    if origin is not None:
        # A page without an origin of its own says `null`.
        named.append(origin.decode("latin-1").rpartition("://")[2])
    for name in (place.rsplit(":", 1)[0] for place in named):
        if name not in LOOPBACK:
            raise HTTPException(403, f"{name} is not this machine")


LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
"""Names of this machine to itself."""


def _missing(path: str, method: str) -> tuple[int, str, dict[str, str] | None]:
    known = [route.method for route in EVERY if route.pattern.fullmatch(path)]
    if known:
        return 405, f"{path} does not take {method}", {"allow": ", ".join(known)}
    return 404, f"there is no {path}", None


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {most:,} bytes", where="body", hint="Send it in several requests"
    )
