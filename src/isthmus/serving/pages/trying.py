"""Try it: choose or describe somebody, see what they did and what is recommended, and click.

The page asks `/v1/recommend` and reports to `/v1/events`, as any other program does. What those do
not tell is asked here: whose ids begin like this, which titles hold these words, and what somebody
has done.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from isthmus.data.forgetting import is_somebody
from isthmus.errors import RequestError
from isthmus.serving.pages.rendering import page
from isthmus.serving.pages.sessions import Visit
from isthmus.serving.service import Service
from isthmus.serving.shelf import Shelf

FOUND, SHOWN = 20, 30
"""Most ids or titles of an answer, and most events of a domain."""
_LONGEST = 256


class TryPage:
    """See the module.

    Args:
        service: what is tried.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def show(self, request: Request) -> Response:
        """The page."""
        live, visit = self._service.keeper.refresh(), _visit(request)
        return page(request, "try.html", domains=live.names, version=live.version, guest=visit)

    def people(self, request: Request) -> Response:
        """Ids of people whom the model knows or who are registered, by how they begin."""
        prefix = _asked(request, "prefix")
        live, keeper = self._service.keeper.refresh(), self._service.keeper
        ids = live.recommender.dataset.user_ids
        begin_so = ids.filter(is_somebody(ids) & ids.str.starts_with(prefix))
        # Who was erased is in it by another way only: registered anew.
        known = islice((name for name in begin_so if not keeper.absent(live, name)), FOUND)
        registered = [
            person.user_id
            for person in keeper.catalogue.people(prefix, FOUND)
            if person.user_id.startswith(prefix) and not person.hidden
        ]
        # These are behind the prefix; whose whole id it is comes first.
        whole = keeper.catalogue.person(prefix)
        exactly = [] if whole is None or whole.hidden else [prefix]
        return _json({"users": list(dict.fromkeys([*exactly, *known, *registered]))[:FOUND]})

    def items(self, request: Request) -> Response:
        """Items of a domain whose titles hold all words; those that begin so come first."""
        live = self._service.keeper.refresh()
        shelf = live.shelves[live.domain(_asked(request, "domain"))]
        words = _asked(request, "words").casefold().split()
        return _json({"items": _by_words(shelf, words)})

    def history(self, request: Request) -> Response:
        """What somebody has done, by domain, the latest first."""
        user_id, service = _asked(request, "user_id"), self._service
        live = service.keeper.refresh()
        past = service.keeper.past(live, user_id, [], limit=service.config.history)
        domains = []
        for d, shelf in enumerate(live.shelves):
            here = np.flatnonzero(past.domain == d)[::-1]
            entries = [_entry(shelf, int(past.item[e]), past.time[e]) for e in here[:SHOWN]]
            domains.append({"name": shelf.name, "n_events": len(here), "items": entries})
        return _json({"user_id": user_id, "n_events": len(past), "domains": domains})


def _by_words(shelf: Shelf, words: list[str]) -> list[dict[str, Any]]:
    if not words:
        return []
    first: list[int] = []
    rest: list[int] = []
    for place in np.flatnonzero(shelf.offered).tolist():
        title = (shelf.titles[place] or shelf.ids[place]).casefold()
        if all(word in title for word in words):
            (first if title.startswith(words[0]) else rest).append(place)
            if len(first) == FOUND:
                break
    return [_entry(shelf, place, np.nan) for place in [*first, *rest][:FOUND]]


def _entry(shelf: Shelf, place: int, time: float) -> dict[str, Any]:
    return {
        "item_id": shelf.ids[place],
        "title": shelf.titles[place],
        "category": shelf.categories[place],
        "time": None if np.isnan(time) else float(time),
    }


def _asked(request: Request, name: str) -> str:
    value = request.query_params.get(name, "")
    if len(value) > _LONGEST or "\0" in value:
        raise RequestError(f"at most {_LONGEST} characters, and no NUL", where=name)
    return value


def _visit(request: Request) -> Visit:
    visit: Visit = request.state.visit
    return visit


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
