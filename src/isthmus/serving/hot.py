"""The routes that are called most: plain Starlette, JSON through msgspec."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.serving.messages import (
    ErrorAnswer,
    EventBatch,
    EventIn,
    EventResult,
    EventResults,
    Problem,
    Recommend,
)
from isthmus.serving.service import Service

_RECOMMEND = msgspec.json.Decoder(Recommend)
_EVENT = msgspec.json.Decoder(EventIn)
_BATCH = msgspec.json.Decoder(EventBatch)
_JSON = msgspec.json.Encoder()
_TAKEN = ("accepted", "repeated")
_STATUS = {**dict.fromkeys(_TAKEN, 200), "conflict": 409}


def hot_routes(service: Service) -> list[Route]:
    """Recommend, and report events."""

    async def recommend(request: Request) -> Response:
        asked = _RECOMMEND.decode(await request.body())
        return _answer(await service.recommend(asked))

    async def report_event(request: Request) -> Response:
        event = _EVENT.decode(await request.body())
        (result,) = await service.report([event])
        status = _STATUS.get(result.outcome, 422)
        if status != 200:
            return _answer(ErrorAnswer(Problem(result.message, result.outcome)), status)
        return _answer(result)

    async def report_events(request: Request) -> Response:
        batch = _BATCH.decode(await request.body())
        read = [_read(raw) for raw in batch.events]
        taken = iter(await service.report([event for event in read if isinstance(event, EventIn)]))
        told = [next(taken) if isinstance(event, EventIn) else event for event in read]
        acknowledged = sum(result.outcome in _TAKEN for result in told)
        return _answer(EventResults(acknowledged, len(told) - acknowledged, told))

    return [
        Route("/v1/recommend", recommend, methods=["POST"]),
        Route("/v1/events", report_event, methods=["POST"]),
        Route("/v1/events/batch", report_events, methods=["POST"]),
    ]


def _read(raw: msgspec.Raw) -> EventIn | EventResult:
    """One event of a batch, or what is wrong with it."""
    try:
        return _EVENT.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return EventResult(None, "malformed", str(error))


def _answer(content: object, status: int = 200) -> Response:
    return Response(_JSON.encode(content), status, media_type="application/json")
