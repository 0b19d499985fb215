"""Browsers that have shown a key: a signed cookie, and a token that every change must bring along.

A cookie is `KEY_ID.EXPIRES.NONCE.SIGNATURE` and holds no key. The key that it names is looked up at
every request, so a key that is revoked or expires takes its sessions with it. Who has not signed in
gets a cookie that names no key, so that the form for signing in is guarded as well.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.exceptions import HTTPException
from starlette.responses import Response

from isthmus.serving.keys import Key, KeyFile, NotAllowed, Role
from isthmus.serving.limits import RateLimit

COOKIE = "isthmus_session"
TOKEN_HEADER = b"x-isthmus-token"
LASTING_SECONDS = 12 * 3600


@dataclass(frozen=True)
class Visit:
    """One browser.

    Attributes:
        cookie: what it keeps.
        token: what a form or script of ours sends back with a change; no other site can read it.
        key: id of the key that was shown; "": none.
        roles: what it is good for.
        fresh: whether the browser has yet to be given the cookie.
    """

    cookie: str
    token: str
    key: str = ""
    roles: frozenset[Role] = frozenset()
    fresh: bool = False

    def may(self, role: Role) -> bool:
        """Whether it is good for that."""
        return role in self.roles

    def require(self, role: Role) -> None:
        """Raise NotAllowed unless it is good for that."""
        if self.may(role):
            return
        if not self.key:
            raise NotAllowed("a key is needed", "Sign in with one")
        raise NotAllowed(
            f"the key is good for {' and '.join(sorted(self.roles))}, this needs {role}",
            f"Sign in with a key that has the role {role}",
            known=True,
        )

    def confirm(self, token: str) -> None:
        """Raise HTTPException 403 unless a change comes from a page of ours."""
        if self.fresh or not hmac.compare_digest(token.encode(), self.token.encode()):
            raise HTTPException(403, "this was not sent from an open page of this dashboard")


class Sessions:
    """Gives cookies and reads them.

    Args:
        keys: who may come in; None: anybody, for services that only this machine can reach.
        secret: signs; every worker of a service has the same.
        refused: holds up who shows a key that is none, by address.
    """

    def __init__(self, keys: KeyFile | None, secret: bytes, refused: RateLimit) -> None:
        self.keys, self.refused, self._secret = keys, refused, secret

    def visit(self, headers: Mapping[bytes, bytes]) -> Visit:
        """Whose request this is; somebody new where there is no sound cookie."""
        cookie = _cookie(headers.get(b"cookie", b""))
        name = self._named(cookie)
        if name is None:
            return self.begin(None)
        if self.keys is None:
            return Visit(cookie, self._token(cookie), roles=frozenset(Role))
        key = self.keys.sound(name) if name else None
        if key is None:
            return Visit(cookie, self._token(cookie))
        return Visit(cookie, self._token(cookie), key.id, _roles(key))

    def begin(self, key: Key | None) -> Visit:
        """A new cookie for a browser, with the key that it has shown."""
        content = ".".join(
            (
                key.id if key else "",
                str(int(time.time()) + LASTING_SECONDS),
                secrets.token_urlsafe(16),
            )
        )
        cookie = f"{content}.{self._signed('cookie', content)}"
        token = self._token(cookie)
        if key is not None:
            return Visit(cookie, token, key.id, _roles(key), fresh=True)
        anybody = frozenset(Role) if self.keys is None else frozenset[Role]()
        return Visit(cookie, token, roles=anybody, fresh=True)

    def _named(self, cookie: str) -> str | None:
        """Id of the key that a sound cookie names, "" for none; None: the cookie is not sound."""
        content, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signed("cookie", content).encode()):
            return None
        name, expires, _ = content.split(".")
        return name if int(expires) > time.time() else None

    def _token(self, cookie: str) -> str:
        return self._signed("token", cookie)

    def _signed(self, purpose: str, content: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{content}".encode(), hashlib.sha256).hexdigest()


def give(response: Response, visit: Visit, *, secure: bool) -> None:
    """Have the browser keep the cookie: out of reach of scripts, and sent by our own pages only."""
    response.set_cookie(
        COOKIE,
        visit.cookie,
        max_age=LASTING_SECONDS,
        httponly=True,
        samesite="strict",
        secure=secure,
    )


def _roles(key: Key) -> frozenset[Role]:
    roles = frozenset(Role(role) for role in key.roles)
    return frozenset(Role) if Role.ADMIN in roles else roles


def _cookie(header: bytes) -> str:
    try:
        found = SimpleCookie(header.decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""
