"""The item map: a sample of every domain's items on a plane, before and after alignment."""

from __future__ import annotations

import threading

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from isthmus.experiment.pictures import item_map
from isthmus.report.charts import map_charts
from isthmus.report.page import embedded
from isthmus.serving.live import Live
from isthmus.serving.pages.rendering import page
from isthmus.serving.service import Service

PER_DOMAIN, IN_ALL = 2_000, 6_000
"""Most items shown of a domain, and of all together: a phone has to draw each."""

Charts = list[tuple[str, Markup]]


class MapPage:
    """See the module; maps are kept until another version answers.

    Args:
        service: what is shown.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._of, self._charts, self._shown = "", Charts(), 0

    def show(self, request: Request) -> Response:
        """The page."""
        live = self._service.keeper.refresh()
        with self._lock:
            if self._of != live.version:
                self._charts, self._shown = self._drawn(live)
                self._of = live.version
            drawn, shown = self._charts, self._shown
        return page(
            request,
            "map.html",
            version=live.version,
            charts=drawn,
            shown=shown,
            per_domain=PER_DOMAIN,
            without=[
                (shelf.name, int((~features.present).sum()), len(features))
                for shelf, features in zip(live.shelves, live.recommender.raw, strict=True)
            ],
        )

    def _drawn(self, live: Live) -> tuple[Charts, int]:
        model = live.recommender
        points = min(PER_DOMAIN * len(live.shelves), IN_ALL)
        found = item_map(model.dataset, model.raw, model.system.features, points=points)
        if found is None:
            return [], 0
        return [(said, embedded(chart)) for said, chart in map_charts(found)], len(found.title)
