"""Live learning: what each version learnt, how it did against the one before, and what waits."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from isthmus.errors import LogUnavailable
from isthmus.report.page import embedded
from isthmus.serving.pages.pictures import learnt_chart, verdict_chart
from isthmus.serving.pages.rendering import page
from isthmus.serving.pages.versions import streams, versions, waiting
from isthmus.serving.service import Service


class LearningPage:
    """See the module.

    Args:
        service: what is shown.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def show(self, request: Request) -> Response:
        """The page."""
        keeper = self._service.keeper
        told = versions(keeper)
        champion = next(version for version in told if version.role == "champion")
        try:
            unseen, problem = waiting(keeper.log, champion.offset), None
        except LogUnavailable as error:
            unseen, problem = None, error.what
        return page(
            request,
            "learning.html",
            versions=told,
            champion=champion,
            verdicts=embedded(verdict_chart(told)) if any(v.measured for v in told) else None,
            learnt=embedded(learnt_chart(told)) if any(v.progress.updates for v in told) else None,
            unseen=unseen,
            problem=problem,
            streams=streams(told),
        )
