"""Requests drawn from the OpenAPI document: no server error, and nothing that it does not promise.

Some 500 requests here; `benchmarks/fuzz_service.py` sends ten thousand.
"""

from pathlib import Path

import schemathesis
from serving_world import running
from starlette.types import ASGIApp, Receive, Scope, Send

from fuzz_service import fuzz


def from_here(app: ASGIApp) -> ASGIApp:
    """The application as a caller on this machine sees it; the client here calls itself another."""

    async def local(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            kept = [pair for pair in scope["headers"] if pair[0] not in (b"host", b"origin")]
            scope = {**scope, "headers": [(b"host", b"127.0.0.1"), *kept]}
        await app(scope, receive, send)

    return local


def test_five_hundred_requests_bring_no_server_error(tmp_path: Path) -> None:
    with running(tmp_path) as shop:
        schema = schemathesis.openapi.from_asgi("/openapi.json", from_here(shop.app))
        seen = fuzz(schema, 14)
    statuses = {name.rsplit(" ", 1)[1] for name in seen}
    assert seen.total() >= 500
    # Both sound and unsound requests were among them.
    assert {"200", "422"} <= statuses
    assert not any(status.startswith("5") for status in statuses)
