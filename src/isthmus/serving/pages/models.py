"""The versions of the model: champion and challenger, promote, roll back."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from isthmus.serving.pages.rendering import moved, page
from isthmus.serving.pages.sign_in import fields
from isthmus.serving.pages.versions import versions
from isthmus.serving.service import Service


class ModelsPage:
    """See the module.

    Args:
        service: whose model it is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def show(self, request: Request) -> Response:
        """The page."""
        keeper = self._service.keeper
        told, standing = versions(keeper), self._service.standing
        return page(
            request,
            "models.html",
            versions=told,
            champion=next(version for version in told if version.role == "champion"),
            challenger=next((v for v in told if v.role == "challenger"), None),
            rolled_back=next((v for v in told if v.role == "rolled back"), None),
            answering=standing.version,
            problem=standing.problem,
        )

    async def promote(self, request: Request) -> Response:
        """Put a version live."""
        found = await fields(request)
        await run_in_threadpool(self._service.keeper.promote, found.get("version", ""))
        return moved(request, "/models")

    async def roll_back(self, request: Request) -> Response:
        """Put the version live that was live before."""
        await fields(request)
        await run_in_threadpool(self._service.keeper.promote, None)
        return moved(request, "/models")
