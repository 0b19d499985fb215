"""The rarely called routes: FastAPI, with forms that check themselves."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from fastapi.responses import FileResponse
from pydantic import AfterValidator

from isthmus.errors import LogUnavailable
from isthmus.online.catalogue import Item
from isthmus.serving import forms
from isthmus.serving.exports import NotFound
from isthmus.serving.messages import ItemRef
from isthmus.serving.metrics import exposition
from isthmus.serving.service import Service
from isthmus.serving.shelf import Shelf
from isthmus.serving.similar import similar, text_alone

Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries of a page.")]
Cursor = Annotated[
    str,
    Query(max_length=256, description="`next_cursor` of the page before."),
    AfterValidator(forms.storable),
]
IdQuery = Annotated[str, Query(min_length=1, max_length=256), AfterValidator(forms.storable)]


def add_items(app: FastAPI, service: Service) -> None:
    """Items: register, hide, delete, look up."""

    @app.put("/v1/items", tags=["items"], responses={202: {"model": forms.ItemsTaken}})
    def register_items(form: forms.ItemsForm, response: Response) -> forms.ItemsTaken:
        """Register items, or new descriptions; 202: they can be recommended in a moment."""
        recommendable = service.describe([Item(**item.model_dump()) for item in form.items])
        response.status_code = 200 if recommendable else 202
        return forms.ItemsTaken(registered=len(form.items), recommendable=recommendable)

    @app.post("/v1/items/hide", tags=["items"])
    def hide_item(form: forms.ItemKey) -> forms.Done:
        """Offer an item no more; no later answer has it."""
        service.hide(form.domain, form.item_id, hidden=True)
        return forms.Done()

    @app.post("/v1/items/show", tags=["items"])
    def show_item(form: forms.ItemKey) -> forms.Done:
        """Offer a hidden item again."""
        service.hide(form.domain, form.item_id, hidden=False)
        return forms.Done()

    @app.delete("/v1/items", tags=["items"])
    def delete_item(domain: IdQuery, item_id: IdQuery) -> forms.Done:
        """Take an item out; registering it again brings it back."""
        service.delete(domain, item_id)
        return forms.Done()

    @app.get("/v1/items", tags=["items"])
    def list_items(domain: IdQuery, cursor: Cursor = "", limit: Limit = 100) -> forms.ItemPage:
        """Items of a domain by id, page by page."""
        live = service.keeper.refresh()
        d = live.domain(domain)
        shelf, in_model = live.shelves[d], live.recommender.dataset.domains[d].n_items
        places = shelf.after(cursor, limit)
        return forms.ItemPage(
            items=[_shown(shelf, place, in_model) for place in places],
            next_cursor=shelf.ids[places[-1]] if len(places) == limit else None,
        )

    @app.get("/v1/items/one", tags=["items"])
    def one_item(domain: IdQuery, item_id: IdQuery) -> forms.ItemShown:
        """One item."""
        live = service.keeper.refresh()
        d = live.domain(domain)
        shelf = live.shelves[d]
        place = service.place(live, d, item_id)
        return _shown(shelf, place, live.recommender.dataset.domains[d].n_items)


def _shown(shelf: Shelf, place: int, in_model: int) -> forms.ItemShown:
    return forms.ItemShown(
        domain=shelf.name,
        item_id=shelf.ids[place],
        title=shelf.titles[place],
        category=shelf.categories[place],
        attributes={
            k: column[place] for k, column in shelf.extra.items() if column[place] is not None
        },
        hidden=bool(shelf.hidden[place]),
        in_model=place < in_model,
    )


def add_users(app: FastAPI, service: Service) -> None:
    """People: register, hide, delete, look up."""
    catalogue = service.keeper.catalogue

    @app.put("/v1/users", tags=["users"])
    def register_user(form: forms.UserForm) -> forms.Done:
        """Register a person, or new attributes."""
        catalogue.put_person(form.user_id, form.attributes)
        return forms.Done()

    @app.post("/v1/users/hide", tags=["users"])
    def hide_user(form: forms.UserKey) -> forms.Done:
        """Record and use nothing of a person; what was recorded stays."""
        catalogue.hide_person(form.user_id, hidden=True)
        service.keeper.refresh()
        return forms.Done()

    @app.post("/v1/users/show", tags=["users"])
    def show_user(form: forms.UserKey) -> forms.Done:
        """Record and use a hidden person's events again.

        Those from before they were hidden are their history again at once. Those that an update
        passed over meanwhile are neither learnt nor counted as popular later on.
        """
        catalogue.hide_person(form.user_id, hidden=False)
        service.keeper.refresh()
        return forms.Done()

    @app.delete("/v1/users", tags=["users"])
    def erase_user(user_id: IdQuery) -> forms.Receipt:
        """Delete a person from log, registrations and exports."""
        return forms.Receipt(**service.erase(user_id))

    @app.get("/v1/users", tags=["users"])
    def list_users(cursor: Cursor = "", limit: Limit = 100) -> forms.UserPage:
        """Registered people by id, page by page."""
        known = service.live.recommender.dataset.user_index
        people = catalogue.people(cursor, limit)
        return forms.UserPage(
            users=[
                forms.UserShown(
                    user_id=person.user_id,
                    attributes=dict(person.attributes),
                    hidden=person.hidden,
                    in_model=person.user_id in known,
                    registered=True,
                )
                for person in people
            ],
            next_cursor=people[-1].user_id if len(people) == limit else None,
        )

    @app.get("/v1/users/one", tags=["users"])
    def one_user(user_id: IdQuery) -> forms.UserShown:
        """What is held of one person."""
        person = catalogue.person(user_id)
        in_model = user_id in service.live.recommender.dataset.user_index
        if person is None and not in_model and not service.keeper.log.history(user_id, limit=1):
            raise NotFound("nothing is held of this person", where="user_id")
        return forms.UserShown(
            user_id=user_id,
            attributes=dict(person.attributes) if person else {},
            hidden=person.hidden if person else False,
            in_model=in_model,
            registered=person is not None,
        )


def add_questions(app: FastAPI, service: Service) -> None:
    """Questions that are asked now and then."""

    @app.post("/v1/similar", tags=["recommend"])
    def similar_items(form: forms.SimilarForm) -> forms.SimilarAnswer:
        """Items like an item, in its own domain or another."""
        live = service.keeper.refresh()
        domain = live.domain(form.domain)
        to = domain if form.to is None else live.domain(form.to)
        place = service.place(live, domain, form.item_id)
        shelf = live.shelves[to]
        found = similar(live, domain, place, to, form.k)
        return forms.SimilarAnswer(
            recommendation_id=secrets.token_hex(12),
            model_version=live.version,
            domain=shelf.name,
            fallback=text_alone(live, domain, place, to),
            items=[
                forms.SimilarItem(
                    rank=n,
                    item_id=shelf.ids[near.place],
                    title=shelf.titles[near.place],
                    category=shelf.categories[near.place],
                    score=near.score,
                    parts=near.parts,
                )
                for n, near in enumerate(found, 1)
            ],
        )

    @app.post("/v1/profile", tags=["recommend"])
    def profile(form: forms.ProfileForm) -> forms.ProfileAnswer:
        """What somebody cares about, and what that suggests elsewhere."""
        history = [ItemRef(entry.domain, entry.item_id) for entry in form.history]
        version, found = service.profile(form.user_id, history)
        return forms.ProfileAnswer(model_version=version, **found.to_dict())

    @app.get("/v1/domains", tags=["recommend"])
    def domains() -> forms.Domains:
        """The catalogues, and what filters may ask of them."""
        live = service.keeper.refresh()
        gates = live.recommender.gates
        return forms.Domains(
            model_version=live.version,
            domains=[
                forms.DomainShown(
                    name=shelf.name,
                    items=int((~shelf.deleted).sum()),
                    offered=int(shelf.offered.sum()),
                    attributes=["item_id", "title", "category", *shelf.extra],
                    gate=gates[shelf.name].reason if shelf.name in gates else "",
                )
                for shelf in live.shelves
            ],
        )


def add_models(app: FastAPI, service: Service) -> None:
    """Versions of the model, and exports."""
    keeper = service.keeper

    @app.get("/v1/models", tags=["models"])
    def list_models() -> forms.Versions:
        """Versions that are kept, the latest first, and why each does or does not serve."""
        live, versions = keeper.versions()
        return forms.Versions(
            answering=service.standing.version,
            live=live,
            problem=service.standing.problem,
            versions=[forms.VersionShown(**version) for version in versions],
        )

    @app.post("/v1/models/promote", tags=["models"])
    def promote_model(form: forms.VersionForm) -> forms.Switched:
        """Put a version live."""
        return forms.Switched(live=keeper.promote(form.version))

    @app.post("/v1/models/rollback", tags=["models"])
    def roll_back_model() -> forms.Switched:
        """Put the version live that was live before."""
        return forms.Switched(live=keeper.promote(None))

    @app.post("/v1/exports", status_code=202, tags=["exports"])
    def begin_export(form: forms.ExportForm) -> forms.ExportShown:
        """Begin to write the best items for everybody whom the model knows."""
        return forms.ExportShown(**service.exports.begin(form.domain, form.k).to_dict())

    @app.get("/v1/exports", tags=["exports"])
    def list_exports() -> forms.ExportList:
        """Exports that are done, and those of this worker that run or failed."""
        found: list[dict[str, Any]] = service.exports.listed()
        return forms.ExportList(exports=[forms.ExportShown(**export) for export in found])

    @app.get(
        "/v1/exports/{export_id}",
        tags=["exports"],
        response_class=FileResponse,
        responses={200: {"content": {_PARQUET: {}}, "description": "A Parquet file."}},
    )
    def fetch_export(export_id: str) -> FileResponse:
        """The file of an export: user_id, rank, item_id, score, basis, model_version."""
        return FileResponse(service.exports.file(export_id), media_type=_PARQUET)


_PARQUET = "application/vnd.apache.parquet"


def add_operation(app: FastAPI, service: Service) -> None:
    """For whoever runs the service."""
    keeper = service.keeper

    @app.get("/v1/health", tags=["operation"])
    async def health() -> forms.Health:
        """The process answers; needs none of the threads that others may be waiting in."""
        return forms.Health()

    @app.get("/v1/ready", tags=["operation"], responses={503: {"model": forms.Readiness}})
    def ready(response: Response) -> forms.Readiness:
        """Whether it is warm and the log can be reached; 503 while it is not."""
        standing = service.standing
        problem, is_ready = standing.problem, standing.ready
        try:
            keeper.log.head()
        except LogUnavailable as error:
            is_ready, problem = False, error.what
        response.status_code = 200 if is_ready else 503
        return forms.Readiness(ready=is_ready, model_version=standing.version, problem=problem)

    @app.get(
        "/v1/metrics",
        tags=["operation"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "For Prometheus."}},
    )
    def metrics() -> Response:
        """Counts and times of all workers, for Prometheus."""
        content, kind = exposition()
        return Response(content, media_type=kind)
