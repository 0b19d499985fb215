"""What the service does, without a word of HTTP: questions, reports, registrations, erasures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from isthmus.config import ServingConfig
from isthmus.errors import RequestError
from isthmus.online.catalogue import Item
from isthmus.online.erasure import delete_person
from isthmus.online.events import Event, Impression, Outcome, Record
from isthmus.recommender.profile import Profile
from isthmus.serving.answering import Answers, ThreadAnswers
from isthmus.serving.exports import Exports, NotFound
from isthmus.serving.keeper import Keeper, Standing
from isthmus.serving.live import Live
from isthmus.serving.messages import EventIn, EventResult, ItemRef
from isthmus.serving.metrics import reported

_REFUSALS = {
    "unknown-domain": "There is no such domain.",
    "unknown-item": "The catalogue has no such item, or it was deleted. Register it first.",
    "hidden-user": "The person is hidden: nothing of theirs is recorded.",
    "malformed": "An impression needs recommendation_id and rank, and has no kind, rating or "
    "weight; an event has no rank or propensity.",
}


class Service:
    """Everything behind the routes.

    Args:
        keeper: what all but recommendations rest on; started by `start`.
        config: bounds.
        exports: where batch exports go.
        answers: who recommends; None: a thread of this process, from the same keeper.
    """

    def __init__(
        self,
        keeper: Keeper,
        config: ServingConfig,
        exports: Exports,
        answers: Answers | None = None,
    ) -> None:
        self.keeper, self.config, self.exports = keeper, config, exports
        self._answers = answers or ThreadAnswers(keeper, config)

    @property
    def live(self) -> Live:
        """This worker's version, and its catalogue."""
        return self.keeper.live

    @property
    def standing(self) -> Standing:
        """How it stands with what recommends, and with all else."""
        answers, own = self._answers.standing, self.keeper.standing
        return Standing(
            answers.ready and own.ready,
            answers.version or own.version,
            min(answers.read, own.read),
            own.problem or answers.problem,
        )

    async def begin(self) -> None:
        """Have questions answered from now on."""
        await self._answers.begin()

    async def end(self) -> None:
        """Answer what waits, then let go of log and catalogue."""
        await self._answers.end()
        self.keeper.close()
        self.keeper.log.close()
        self.keeper.catalogue.close()

    async def recommend(self, body: bytes) -> bytes:
        """Answer one question, a `Recommend` in JSON, with a `Recommendation` in JSON.

        Raises:
            DecodeError: it is no such question.
            RequestError: an unknown domain or item, or a filter that cannot be understood.
            Overloaded: too many questions wait.
            LogUnavailable: the history cannot be looked up.
            Away: the process that answers has died, and is being started again.
            Told: any of the first four, in words already.
        """
        return await self._answers.ask(body)

    async def report(self, events: Sequence[EventIn]) -> list[EventResult]:
        """Take events and impressions; those that are acknowledged are on disk.

        Raises:
            LogUnavailable: none is acknowledged.
        """
        now = time.time()
        live, hidden = self.keeper.live, self.keeper.hidden_people
        places = live.places
        outcomes: list[Outcome | str | None] = []
        records: list[Record] = []
        for event in events:
            refusal = await self._refusal(event, live, places, hidden)
            outcomes.append(refusal)
            if refusal is None:
                records.append(_record(event, now))
        found: list[Outcome] = []
        if records:
            found = await asyncio.wrap_future(self.keeper.log.submit(records))
        written = iter(found)
        results = []
        for event, refusal in zip(events, outcomes, strict=True):
            outcome = next(written) if refusal is None else refusal
            if outcome is Outcome.CONFLICT and event.time is None:
                outcome = await asyncio.to_thread(self._repeated, event)
            message = outcome.message if isinstance(outcome, Outcome) else _REFUSALS[outcome]
            results.append(EventResult(event.event_id, str(outcome), message))
            reported(str(outcome)).inc()
        return results

    def _repeated(self, event: EventIn) -> Outcome:
        """A report without a time got that of its arrival, so a repeat of it has another."""
        before = self.keeper.log.find(event.event_id)
        same = before is not None and _record(event, before.time) == before
        return Outcome.REPEATED if same else Outcome.CONFLICT

    async def _refusal(
        self, event: EventIn, live: Live, places: Any, hidden: frozenset[str]
    ) -> str | None:
        if not _whole(event):
            return "malformed"
        if event.domain not in places:
            return "unknown-domain"
        if "\0" in event.item_id:
            return "unknown-item"
        if event.user_id in hidden:
            return "hidden-user"
        place = places[event.domain].get(event.item_id)
        if place is None:
            # Another worker may have taken it in a moment ago.
            found = await asyncio.to_thread(self.keeper.catalogue.item, event.domain, event.item_id)
            known = found is not None and found.described and not found.deleted
            return None if known else "unknown-item"
        shelf = live.shelves[live.names.index(event.domain)]
        return "unknown-item" if shelf.deleted[place] else None

    def describe(self, items: Sequence[Item]) -> bool:
        """Register items or new descriptions; whether they can be recommended already.

        Raises:
            RequestError: an unknown domain.
            LogUnavailable: nothing was registered.
        """
        for item in items:
            self.live.domain(item.domain)
        change = self.keeper.catalogue.describe(items)
        deadline = time.monotonic() + self.config.read_seconds
        return all(
            who.wait_for(change, deadline - time.monotonic())
            for who in (self.keeper, self._answers)
        )

    def hide(self, domain: str, item_id: str, *, hidden: bool) -> None:
        """Offer an item no more, or again; no later answer has it.

        Raises:
            RequestError: no such item.
            LogUnavailable: nothing has changed.
        """
        self._known(domain, item_id)
        self.keeper.catalogue.hide(domain, item_id, hidden=hidden)
        self.keeper.refresh()

    def delete(self, domain: str, item_id: str) -> None:
        """Take an item out: it is not offered, and events on it are refused.

        Raises:
            RequestError: no such item.
            LogUnavailable: nothing has changed.
        """
        self._known(domain, item_id)
        self.keeper.catalogue.delete(domain, item_id)
        self.keeper.refresh()

    def place(self, live: Live, domain: int, item_id: str) -> int:
        """Place of an item on a shelf.

        Raises:
            NotFound: no such item.
        """
        try:
            return live.shelves[domain].place(item_id, "item_id")
        except RequestError as error:
            raise NotFound(error.what, where=error.where, hint=error.hint) from None

    def _known(self, domain: str, item_id: str) -> None:
        try:
            self.place(self.live, self.live.domain(domain), item_id)
        except NotFound:
            # It may have been registered a moment ago, and wait to be read.
            found = self.keeper.catalogue.item(domain, item_id)
            if found is None or found.deleted or not found.described:
                raise

    def erase(self, user_id: str) -> dict[str, Any]:
        """Delete a person from log, registrations and exports; gives a receipt.

        Raises:
            LogUnavailable: it may not be complete; ask again.
        """
        found = delete_person(self.keeper.log, user_id, [self.keeper.catalogue, self.exports])
        self.keeper.refresh()
        held = user_id in self.live.recommender.dataset.user_index
        return {**found.to_dict(), "in_model": held}

    def profile(self, user_id: str | None, history: Sequence[ItemRef]) -> tuple[str, Profile]:
        """What somebody cares about, and by which version.

        Raises:
            RequestError: neither or both are given, or an unknown domain or item.
            LogUnavailable: the history cannot be looked up.
        """
        if (user_id is None) == (not history):
            raise RequestError("a profile is of one person", hint="Give a user_id or a history")
        live = self.keeper.refresh()
        past = self.keeper.past(live, user_id, history, limit=self.config.history)
        return live.version, live.profile(past, user_id)


def _whole(event: EventIn) -> bool:
    """Whether it has what an event or an impression needs, and nothing of the other's."""
    told = (event.kind, event.rating, event.weight) != ("event", None, 1.0)
    if event.type == "impression":
        return event.recommendation_id is not None and event.rank is not None and not told
    return event.rank is None and event.propensity is None


def _record(event: EventIn, now: float) -> Record:
    time_ = now if event.time is None else event.time
    who = (event.event_id, event.user_id, event.domain, event.item_id, time_)
    if event.type == "impression":
        assert event.recommendation_id is not None, "checked before"
        assert event.rank is not None, "checked before"
        return Impression(*who, event.recommendation_id, event.rank, event.propensity)
    return Event(*who, event.kind, event.rating, event.weight, event.recommendation_id)
