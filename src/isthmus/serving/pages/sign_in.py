"""Signing in with a key, and out again."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from isthmus.serving.keys import NotAllowed, Role
from isthmus.serving.pages.rendering import PAGES, moved, page
from isthmus.serving.pages.sessions import Sessions, Visit


async def fields(request: Request) -> dict[str, str]:
    """Fields of a form that was sent from a page of ours, the last of each name.

    Raises:
        HTTPException: 403, it was not.
    """
    body = (await request.body()).decode("utf-8", "replace")
    found = {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()}
    visit: Visit = request.state.visit
    visit.confirm(found.get("token", ""))
    return found


class SignIn:
    """The pages for it.

    Args:
        sessions: gives cookies.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def form(self, request: Request) -> Response:
        """The empty form; who is in already is sent on."""
        onward = _onward(request.query_params.get("next", ""))
        if request.state.visit.may(Role.READ):
            return moved(request, onward)
        return page(request, "sign_in.html", onward=onward, problem=None)

    async def enter(self, request: Request) -> Response:
        """Look at the key that was shown."""
        found = await fields(request)
        onward = _onward(found.get("next", ""))
        if self._sessions.keys is None:
            return moved(request, onward)
        try:
            token = found.get("key", "").strip()
            key = await run_in_threadpool(self._sessions.keys.check, token, Role.READ)
        except NotAllowed as error:
            if not error.known:
                self._sessions.refused.take(request.client.host if request.client else "")
            # The key is never shown again, not even to whoever typed it.
            return page(
                request,
                "sign_in.html",
                status=403 if error.known else 401,
                onward=onward,
                problem=f"{error.what[:1].upper()}{error.what[1:]}.",
            )
        return moved(request, onward, self._sessions.begin(key))

    async def leave(self, request: Request) -> Response:
        """Forget the key."""
        await fields(request)
        return moved(request, "/sign-in", self._sessions.begin(None))


def _onward(wanted: str) -> str:
    """Where to go then: a page of ours, never another site."""
    return wanted if wanted in dict(PAGES) else "/"
