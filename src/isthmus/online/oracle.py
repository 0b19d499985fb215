"""Who knows what people like: the bound that no recommender can pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.online.events import Event
from isthmus.online.traffic import Traffic, Visit


class Oracle:
    """Shows every visitor what they like best at that moment, by the world's true preference.

    Of what can be had and the person has not had, no list has a higher true-preference
    click-through.

    Args:
        traffic: whose world it knows.
        name: in results.
    """

    def __init__(self, traffic: Traffic, name: str = "oracle") -> None:
        self.name, self._traffic = name, traffic
        self._offered: dict[str, list[str]] = {}
        self._had: dict[str, set[tuple[str, str]]] = {}
        dataset = traffic.world.dataset
        before = dataset.events.keep(dataset.events.time < traffic.config.since)
        ids = [domain.items["item_id"].to_list() for domain in dataset.domains]
        people = dataset.user_ids.to_list()
        for user, d, item in zip(
            before.user.tolist(), before.domain.tolist(), before.item.tolist(), strict=True
        ):
            self._had.setdefault(people[user], set()).add((dataset.names[d], ids[d][item]))

    def release(self, domain: str, item_ids: Sequence[str]) -> None:
        """See `Answerer`."""
        self._offered[domain] = list(item_ids)

    def answer(self, visits: Sequence[Visit], k: int) -> list[list[str]]:
        """See `Answerer`."""
        return [self._best(visit, k) for visit in visits]

    def observe(self, events: Sequence[Event]) -> None:
        """See `Answerer`."""
        for event in events:
            self._had.setdefault(event.user_id, set()).add((event.domain, event.item_id))

    def rest(self) -> None:
        """See `Answerer`; there is nothing that it does not know."""

    def _best(self, visit: Visit, k: int) -> list[str]:
        had = self._had.get(visit.user_id, set())
        items = [raw for raw in self._offered[visit.domain] if (visit.domain, raw) not in had]
        liking = self._traffic.preference(visit, items)
        return [items[n] for n in np.argsort(-liking, kind="stable")[:k].tolist()]
