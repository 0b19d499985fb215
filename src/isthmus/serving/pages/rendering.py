"""Templates → answers: every page under one strict policy, every value from data escaped."""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import cache
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from isthmus.report.page import TEMPLATES as REPORT
from isthmus.report.page import environment as report_environment
from isthmus.serving.pages.sessions import Visit, give

_HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self'; style-src-attr 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""Scripts and styles are files of ours alone. Attributes may carry a style, for Plotly places its
labels so; an attribute cannot load anything under this policy."""
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
_FILES = {
    "report.css": (REPORT / "style.css", "text/css"),
    "dashboard.css": (_HERE / "static" / "dashboard.css", "text/css"),
    "charts.js": (REPORT / "page.js", "text/javascript"),
    "live.js": (_HERE / "static" / "live.js", "text/javascript"),
    "try.js": (_HERE / "static" / "try.js", "text/javascript"),
    "icon.svg": (_HERE / "static" / "icon.svg", "image/svg+xml"),
    "plotly.js": (None, "text/javascript"),
}
PAGES = (
    ("/", "Overview"),
    ("/try", "Try it"),
    ("/transfer", "Transfer"),
    ("/map", "Item map"),
    ("/models", "Models"),
    ("/learning", "Learning"),
)


def page(request: Request, template: str, *, status: int = 200, **content: object) -> Response:
    """An HTML page for whoever asks; gives a browser that has none its cookie."""
    visit: Visit = request.state.visit
    text = (
        environment()
        .get_template(template)
        .render(visit=visit, here=request.url.path, pages=PAGES, **content)
    )
    response = Response(text, status, _HEADERS, "text/html; charset=utf-8")
    if visit.fresh:
        give(response, visit, secure=over_tls(request))
    return response


def moved(request: Request, to: str, visit: Visit | None = None) -> Response:
    """See another page, after a form; with a new cookie where `visit` is given."""
    response = Response(status_code=303, headers={"location": to, **_HEADERS})
    if visit is not None:
        give(response, visit, secure=over_tls(request))
    return response


def over_tls(request: Request) -> bool:
    """Whether the browser speaks to us, or to the proxy before us, over TLS."""
    told = request.headers.get("x-forwarded-proto", request.url.scheme)
    return told.split(",")[0].strip() == "https"


def static(request: Request) -> Response:
    """A file of ours, compressed where the browser can read that; kept until it changes."""
    name = request.path_params["name"]
    if name not in _FILES:
        raise HTTPException(404, f"there is no /static/{name}")
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
    content = _content(name)
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = _compressed(name)
        headers["content-encoding"] = "gzip"
    return Response(content, headers=headers, media_type=_FILES[name][1])


@cache
def environment() -> jinja2.Environment:
    """The report's templates and filters, and ours."""
    env = report_environment().overlay(
        loader=jinja2.FileSystemLoader([_HERE / "templates", REPORT])
    )
    env.globals["static"] = _address
    env.globals["plotly_styles"] = _styles_of_plotly
    return env


@cache
def _styles_of_plotly() -> list[str]:
    """Ids of style elements that Plotly's script adds for maps, unless they are there already.

    The policy would refuse them, with an error on the console, and no map is drawn here.
    """
    guarded = r'if\(!document\.getElementById\("([0-9a-f]{64})"\)\)'
    return re.findall(guarded, _content("plotly.js").decode())


def _address(name: str) -> str:
    return f"/static/{name}?{hashlib.sha256(_content(name)).hexdigest()[:12]}"


@cache
def _content(name: str) -> bytes:
    path = _FILES[name][0]
    return get_plotlyjs().encode() if path is None else path.read_bytes()


@cache
def _compressed(name: str) -> bytes:
    squeeze = zlib.compressobj(6, wbits=31)
    return squeeze.compress(_content(name)) + squeeze.flush()
