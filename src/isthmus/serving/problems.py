"""Errors → what a caller is told: a status and `{"error": {"what", "where", "hint"}}`."""

from __future__ import annotations

import logging
import math

import msgspec
from starlette.exceptions import HTTPException

from isthmus.errors import (
    CheckpointError,
    IsthmusError,
    LogUnavailable,
    RequestError,
)
from isthmus.serving.batching import Overloaded
from isthmus.serving.belonging import NotOfThisLog
from isthmus.serving.exports import Busy, NotFound
from isthmus.serving.keys import NotAllowed
from isthmus.serving.limits import TooMany
from isthmus.serving.messages import ErrorAnswer, Problem

_log = logging.getLogger(__name__)

Headers = dict[str, str]


class TooLarge(IsthmusError):
    """A body that is larger than allowed."""


class Malformed(IsthmusError):
    """A body that is no JSON, or nests too deeply."""


class Away(IsthmusError):
    """What answers questions has died, and is being started again."""


class Told(Exception):
    """An error that another process has put in words already.

    Args:
        status: of HTTP.
        headers: with the content type.
        body: JSON.
    """

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(body.decode())
        self.answer = status, headers, body


def told(error: Exception) -> tuple[int, Headers, bytes]:
    """Status, headers and body for an error; what is no fault of the caller's is logged."""
    if isinstance(error, Told):
        return error.answer
    status, headers = _status(error)
    if status == 500:
        _log.error("unexpected error", exc_info=error)
        problem = Problem("something went wrong here", None, "It was logged; tell who runs this")
    else:
        problem = _problem(error)
    body = msgspec.json.encode(ErrorAnswer(problem))
    return status, {**headers, "content-type": "application/json"}, body


def _status(error: Exception) -> tuple[int, Headers]:
    match error:
        case NotAllowed(known=True):
            return 403, {}
        case NotAllowed():
            return 401, {"www-authenticate": "Bearer"}
        case TooMany():
            return 429, {"retry-after": str(math.ceil(error.retry_after))}
        case TooLarge():
            return 413, {}
        case Malformed():
            return 400, {}
        case LogUnavailable():
            return 503, {"retry-after": str(math.ceil(error.retry_after))}
        case Overloaded() | Away() | TimeoutError():
            return 503, {"retry-after": "1"}
        case NotFound():
            return 404, {}
        case Busy() | CheckpointError() | NotOfThisLog():
            return 409, {}
        case RequestError() | msgspec.ValidationError():
            return 422, {}
        case msgspec.DecodeError() | RecursionError() | UnicodeError():
            return 400, {}
        case HTTPException():
            return error.status_code, dict(error.headers or {})
    return 500, {}


def _problem(error: Exception) -> Problem:
    match error:
        case LogUnavailable() | CheckpointError() | NotOfThisLog():
            # Where log and models lie is no business of a caller's.
            return Problem(error.what, None, error.hint)
        case IsthmusError():
            return Problem(error.what, error.where, error.hint)
        case msgspec.ValidationError():
            what, _, where = str(error).partition(" - at `$")
            where = where.rstrip("`").lstrip(".")
            return Problem(what, f"body: {where}" if where else "body", "See /openapi.json")
        case msgspec.DecodeError() | UnicodeError():
            return Problem(f"the body is no JSON: {error}", "body", "Send one JSON document")
        case RecursionError():
            return Problem("the body nests too deeply", "body", "Send what /openapi.json says")
        case TimeoutError():
            return Problem("no answer in time", None, "Ask again in a moment")
        case HTTPException():
            return Problem(str(error.detail).lower(), None, "See /openapi.json for what there is")
    return Problem("the request cannot be answered")
