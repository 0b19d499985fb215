"""The routes that are called most: plain ASGI, JSON through msgspec."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from isthmus.errors import did_you_mean
from isthmus.serving.messages import (
    ErrorAnswer,
    EventBatch,
    EventIn,
    EventResult,
    EventResults,
    Problem,
)
from isthmus.serving.metrics import reported
from isthmus.serving.service import Service

_EVENT = msgspec.json.Decoder(EventIn)
_BATCH = msgspec.json.Decoder(EventBatch)
_JSON = msgspec.json.Encoder()
_LONGEST = 256
"""Characters of an unknown domain that are told and compared; no known one is longer."""
_TAKEN = ("accepted", "repeated")
_STATUS = {**dict.fromkeys(_TAKEN, 200), "conflict": 409}


class _Hot:
    """An ASGI application of one function from the body to status and answer.

    The guard has read the body and turns what is raised into an answer, so Starlette's own requests
    and responses would add nothing but time.
    """

    def __init__(self, answer: Callable[[bytes], Awaitable[tuple[int, object]]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        status, content = await self._answer((await receive())["body"])
        body = _JSON.encode(content)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def hot_routes(service: Service) -> dict[str, ASGIApp]:
    """Recommend, and report events: what answers a POST, by path."""

    async def recommend(body: bytes) -> tuple[int, object]:
        return 200, msgspec.Raw(await service.recommend(body))

    async def report_event(body: bytes) -> tuple[int, object]:
        event = _EVENT.decode(body)
        (result,) = await service.report([event])
        status = _STATUS.get(result.outcome, 422)
        if status != 200:
            return status, ErrorAnswer(_refused(event, result, service.live.names))
        return status, result

    async def report_events(body: bytes) -> tuple[int, object]:
        read = [_read(raw) for raw in _BATCH.decode(body).events]
        for event in read:
            if isinstance(event, EventResult):
                reported(event.outcome).inc()
        taken = iter(await service.report([event for event in read if isinstance(event, EventIn)]))
        told = [next(taken) if isinstance(event, EventIn) else event for event in read]
        acknowledged = sum(result.outcome in _TAKEN for result in told)
        return 200, EventResults(acknowledged, len(told) - acknowledged, told)

    return {
        "/v1/recommend": _Hot(recommend),
        "/v1/events": _Hot(report_event),
        "/v1/events/batch": _Hot(report_events),
    }


def _refused(event: EventIn, result: EventResult, domains: Sequence[str]) -> Problem:
    """Why a single event is not taken: `where` begins with the outcome."""
    if result.outcome != "unknown-domain":
        return Problem(result.message, result.outcome)
    named = event.domain[:_LONGEST]
    return Problem(result.message, f"{result.outcome}: {named!r}", did_you_mean(named, domains))


def _read(raw: msgspec.Raw) -> EventIn | EventResult:
    """One event of a batch, or what is wrong with it."""
    try:
        return _EVENT.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return EventResult(_id_of(raw), "malformed", str(error))


class _Named(msgspec.Struct):
    """What tells a reporter which event is meant."""

    event_id: str


_NAMED = msgspec.json.Decoder(_Named)


def _id_of(raw: msgspec.Raw) -> str | None:
    """The id of an event that is wrong otherwise; None: it has none that can be read."""
    try:
        return _NAMED.decode(raw).event_id
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
