"""The dashboard's routes; `isthmus.serving.routes` says who may call each."""

from __future__ import annotations

from starlette.routing import Route

from isthmus.experiment.schema import RunRecord
from isthmus.serving.pages.item_map import MapPage
from isthmus.serving.pages.learning import LearningPage
from isthmus.serving.pages.models import ModelsPage
from isthmus.serving.pages.overview import OverviewPage
from isthmus.serving.pages.rendering import static
from isthmus.serving.pages.sessions import Sessions
from isthmus.serving.pages.sign_in import SignIn
from isthmus.serving.pages.transfer import TransferPage
from isthmus.serving.pages.trying import TryPage
from isthmus.serving.service import Service


def page_routes(service: Service, sessions: Sessions, run: RunRecord | None) -> list[Route]:
    """Every page.

    Args:
        service: what the pages show.
        sessions: browsers that have shown a key.
        run: a comparison whose figures are shown beside the model's own; None: none.
    """
    sign_in, trying, models = SignIn(sessions), TryPage(service), ModelsPage(service)
    return [
        Route("/", OverviewPage(service).show),
        Route("/try", trying.show),
        Route("/try/people", trying.people),
        Route("/try/items", trying.items),
        Route("/try/history", trying.history),
        Route("/transfer", TransferPage(service, run).show),
        Route("/map", MapPage(service).show),
        Route("/models", models.show),
        Route("/models/promote", models.promote, methods=["POST"]),
        Route("/models/rollback", models.roll_back, methods=["POST"]),
        Route("/learning", LearningPage(service).show),
        Route("/sign-in", sign_in.form),
        Route("/sign-in", sign_in.enter, methods=["POST"]),
        Route("/sign-out", sign_in.leave, methods=["POST"]),
        Route("/static/{name}", static),
    ]
