"""What goes wrong on a page, told to a reader: the same status as elsewhere, as a page."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.types import Scope

from isthmus.serving.keys import NotAllowed
from isthmus.serving.messages import ErrorAnswer
from isthmus.serving.pages.rendering import moved, page
from isthmus.serving.pages.sessions import Visit
from isthmus.serving.problems import Headers, told

_TITLES = {
    403: "Not allowed",
    404: "Not found",
    409: "Not possible now",
    429: "Too many requests",
    503: "Not now",
}


def told_to_reader(error: Exception, scope: Scope) -> tuple[int, Headers, bytes]:
    """Status, headers and body for an error; who has not signed in is asked to."""
    # The request may have been refused before it was known whose it is.
    scope = {**scope, "state": {"visit": Visit("", ""), **scope.get("state", {})}}
    request = Request(scope)
    if isinstance(error, NotAllowed) and not error.known:
        wanted = quote(scope["path"], safe="/") if scope["method"] == "GET" else "/"
        response = moved(request, f"/sign-in?next={wanted}")
        return response.status_code, dict(response.headers), b""
    status, headers, body = told(error)
    problem = msgspec.json.decode(body, type=ErrorAnswer).error
    title = _TITLES.get(status, "Something went wrong" if status >= 500 else "Not understood")
    response = page(request, "refused.html", status=status, title=title, problem=problem)
    return status, {**headers, **dict(response.headers)}, bytes(response.body)
