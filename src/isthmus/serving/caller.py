"""A caller of a running service: JSON over HTTP, one request after the other."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from isthmus.errors import RequestError

IDLE_SECONDS = 2.0
"""After a pause this long the connection is opened anew: the other side may have closed it."""

TRIES = 10
"""Times that a request is sent to a service that says that it has too much to do."""

_BUSY = (429, 503)
_TIMEOUT = 60.0


class Caller:
    """Speaks to a service at an address.

    Args:
        url: where it is, such as http://127.0.0.1:8765.
        key: shown with every request; None: the service asks for none.

    Raises:
        RequestError: the address is none.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._line, self._path = _line_to(self.url)
        self._last = time.monotonic()
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def ask(self, method: str, path: str, content: object = None) -> Any:
        """The answer to a request, as plain values; waits where the service is too busy.

        Raises:
            RequestError: the service cannot be reached, or refuses.
        """
        body = None if content is None else json.dumps(content)
        for left in reversed(range(TRIES)):
            status, retry_after, text = self._send(method, self._path + path, body)
            if status in _BUSY and left:
                time.sleep(retry_after)
                continue
            return self._understood(status, text, f"{self.url}{path.partition('?')[0]}")

    def close(self) -> None:
        """Let go of the connection."""
        self._line.close()

    def _send(self, method: str, path: str, body: str | None) -> tuple[int, float, bytes]:
        if time.monotonic() - self._last > IDLE_SECONDS:
            self._line.close()
        try:
            self._line.request(method, path, body, self._headers)
            answer = self._line.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._line.close()
            raise RequestError(
                f"the service cannot be reached: {error}",
                where=self.url,
                hint="Start it with 'isthmus serve', or check the address",
            ) from None
        self._last = time.monotonic()
        said = answer.headers.get("retry-after", "")
        return answer.status, float(said) if said.isdigit() else 1.0, text

    def _understood(self, status: int, text: bytes, where: str) -> Any:
        try:
            content = json.loads(text)
            if status < 300:
                return content
            problem = content["error"]
            what, hint = str(problem["what"]), problem.get("hint")
        except (ValueError, KeyError, TypeError):
            what, hint = "this is no answer of an Isthmus service", "Check the address"
        raise RequestError(f"HTTP {status}: {what}", where=where, hint=hint)


def _line_to(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is not open yet, and what stands before every path."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    secure = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(
            "no address of a service", where=url, hint="Write it as http://127.0.0.1:8765"
        )
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return kind(parts.hostname, port, timeout=_TIMEOUT), parts.path
