"""A running service as an answerer of simulated traffic; see `isthmus.online.traffic`.

It serves a model of the beginning of the same world (`isthmus simulate --save-model`) from a log of
its own. Every visit is a question, everything that people do is reported, and items appear when
they are released. A learner runs beside the service, if any does; nothing here waits for it but
the pause at night.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import polars as pl

from isthmus.data.dataset import Dataset, Domain
from isthmus.errors import RequestError, did_you_mean
from isthmus.online.events import Event
from isthmus.online.traffic import Visit
from isthmus.serving.caller import Caller

AT_ONCE = 1000
"""Events or items in one request."""

_ANOTHER = (
    "Serve the model that 'isthmus simulate --save-model' saves with the same world's options"
)
_FRESH = "Serve the saved model again, with a new event log: every run of a world needs its own"


class Remote:
    """A service over HTTP that is shown a world's traffic.

    Its key must have the roles read and ingest.

    Args:
        caller: speaks to the service.
        dataset: the world's, with all its items.
        name: in results.
        rest_seconds: pause at night, for a learner beside the service.
    """

    def __init__(
        self, caller: Caller, dataset: Dataset, *, name: str = "service", rest_seconds: float = 0.0
    ) -> None:
        self.name, self._caller, self._dataset = name, caller, dataset
        self._rest_seconds = rest_seconds
        self._hidden: dict[str, dict[str, bool]] = {}
        self._answers: dict[str, str] = {}
        self._told: set[tuple[str, str, str]] = set()

    def release(self, domain: str, item_ids: Sequence[str]) -> None:
        """See `Answerer`: what is not out yet is hidden.

        Raises:
            RequestError: the service cannot be reached, or serves another world.
        """
        if domain not in self._hidden:
            self._hidden[domain] = self._met(domain)
        hidden, out = self._hidden[domain], set(item_ids)
        for item_id, is_hidden in hidden.items():
            if is_hidden is (item_id in out):
                what = "show" if is_hidden else "hide"
                key = {"domain": domain, "item_id": item_id}
                self._caller.ask("POST", f"/v1/items/{what}", key)
                hidden[item_id] = not is_hidden

    def answer(self, visits: Sequence[Visit], k: int) -> list[list[str]]:
        """See `Answerer`: the service looks up the history that was reported so far."""
        lists = []
        for visit in visits:
            asked = {"user_id": visit.user_id, "domains": [visit.domain], "k": k}
            found = self._caller.ask("POST", "/v1/recommend", asked)
            self._answers[visit.answer_id] = found["recommendation_id"]
            lists.append([item["item_id"] for item in found["lists"][0]["items"]])
        return lists

    def observe(self, events: Sequence[Event]) -> None:
        """See `Answerer`; what a person has had already is not reported again.

        Raises:
            RequestError: the service refuses an event.
        """
        new = []
        for event in events:
            key = (event.user_id, event.domain, event.item_id)
            if key not in self._told:
                self._told.add(key)
                new.append(self._report(event))
        for start in range(0, len(new), AT_ONCE):
            some = {"events": new[start : start + AT_ONCE]}
            found = self._caller.ask("POST", "/v1/events/batch", some)
            for result in found["results"]:
                if result["outcome"] != "accepted":
                    seen = result["outcome"] in ("repeated", "conflict")
                    raise RequestError(
                        f"event {result['event_id']} was not taken: {result['message']}",
                        where=self._caller.url,
                        hint=_FRESH if seen else None,
                    )

    def rest(self) -> None:
        """See `Answerer`: a pause, for whoever learns beside the service."""
        self._answers.clear()
        time.sleep(self._rest_seconds)

    def _report(self, event: Event) -> dict[str, Any]:
        told = {
            "event_id": event.event_id,
            "user_id": event.user_id,
            "domain": event.domain,
            "item_id": event.item_id,
            "time": event.time,
            "kind": event.kind,
        }
        if event.recommendation_id is not None:
            # Clicks name the answer by the visit; the service knows it by a name of its own.
            told["recommendation_id"] = self._answers[event.recommendation_id]
        return told

    def _met(self, domain: str) -> dict[str, bool]:
        """Whether each item of a catalogue is hidden; those that the service lacks are registered.

        Raises:
            RequestError: the service has no such domain, or its items are others.
        """
        names = [shown["name"] for shown in self._caller.ask("GET", "/v1/domains")["domains"]]
        if domain not in names:
            raise RequestError(
                f"the service has no domain {domain!r}. {did_you_mean(domain, names)}",
                where=self._caller.url,
                hint=_ANOTHER,
            )
        catalogue = self._dataset.domains[self._dataset.domain_index(domain)]
        titles = dict(catalogue.items.select("item_id", "title").iter_rows())
        hidden: dict[str, bool] = {}
        for item in self._items(domain):
            title = titles.get(item["item_id"])
            if item["item_id"] not in titles or (title and item["title"] not in (None, title)):
                raise RequestError(
                    f"its model is of another world: item {item['item_id']!r} of {domain} is "
                    f"{item['title']!r} there and {title!r} here",
                    where=self._caller.url,
                    hint=_ANOTHER,
                )
            hidden[item["item_id"]] = item["hidden"]
        self._register(catalogue, [raw for raw in titles if raw not in hidden])
        return dict.fromkeys(titles, False) | hidden

    def _items(self, domain: str) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            query = urlencode({"domain": domain, "limit": AT_ONCE, "cursor": cursor})
            page = self._caller.ask("GET", f"/v1/items?{query}")
            yield from page["items"]
            if not page["next_cursor"]:
                return
            cursor = page["next_cursor"]

    def _register(self, catalogue: Domain, item_ids: Sequence[str]) -> None:
        rows = catalogue.items.filter(pl.col("item_id").is_in(item_ids))
        described = rows.select("item_id", "title", "category", "text").to_dicts()
        items = [{"domain": catalogue.name, **row} for row in described]
        for start in range(0, len(items), AT_ONCE):
            self._caller.ask("PUT", "/v1/items", {"items": items[start : start + AT_ONCE]})
