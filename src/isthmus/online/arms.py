"""Recommenders in this process as answerers of simulated traffic.

All see the live history. One keeps the weights it began with, one learns incrementally every night,
one is trained anew every night on everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.continual.progress import Progress
from isthmus.continual.rolling import rolling_split
from isthmus.data.appending import COLUMNS, append_events
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.growth import Growth
from isthmus.data.splits import Queries
from isthmus.evaluation.ranks import canonical_order
from isthmus.online.events import Event
from isthmus.online.guided import guided_positions
from isthmus.online.traffic import Visit
from isthmus.recommender import Recommender
from isthmus.recommender.asking import Asked, Origin
from isthmus.recommender.ranking import best_items
from isthmus.scoring import Request, Requests
from isthmus.transfer.system import fit_system

Guided = NDArray[np.int64]

Learn = Callable[[Recommender, Growth, Guided], tuple[Recommender, Progress]]
"""What happens in a night: the recommender of the day, what came, and where in it answers to
recommendations stand → the next day's recommender, and what was done, whether or not it serves."""


class Local:
    """A recommender that is shown live histories and, perhaps, learns every night.

    Attributes:
        name: in results.
        recommender: of today.
        seconds: process time of each night's learning.
        progress: what each night did, whether or not it serves.
    """

    def __init__(self, name: str, recommender: Recommender, learn: Learn | None = None) -> None:
        self.name, self.recommender, self._learn = name, recommender, learn
        self.seconds: list[float] = []
        self.progress: list[Progress] = []
        self._offered: dict[str, NDArray[np.bool_]] = {}
        self._equals = {
            d: np.argsort(canonical_order(recommender.dataset, d))
            for d in range(len(recommender.dataset.domains))
        }
        self._new: list[Event] = []
        self._since: dict[str, list[tuple[int, int, float]]] = {}
        self._had: dict[str, set[tuple[str, str]]] = {}

    def release(self, domain: str, item_ids: Sequence[str]) -> None:
        """See `Answerer`."""
        catalogue = self.recommender.dataset.domains[self.recommender.dataset.domain_index(domain)]
        offered = np.zeros(catalogue.n_items, bool)
        offered[[catalogue.item_index[raw] for raw in item_ids]] = True
        self._offered[domain] = offered

    def answer(self, visits: Sequence[Visit], k: int) -> list[list[str]]:
        """See `Answerer`."""
        found: list[list[str]] = [[] for _ in visits]
        for domain in sorted({visit.domain for visit in visits}):
            rows = [n for n, visit in enumerate(visits) if visit.domain == domain]
            for row, items in zip(
                rows, self._lists(domain, [visits[n] for n in rows], k), strict=True
            ):
                found[row] = items
        return found

    def observe(self, events: Sequence[Event]) -> None:
        """See `Answerer`; what a person has had already is not taken again."""
        dataset = self.recommender.dataset
        for event in events:
            had = self._had.setdefault(event.user_id, set())
            key = (event.domain, event.item_id)
            d = dataset.domain_index(event.domain)
            item = dataset.domains[d].item_index[event.item_id]
            if key in had or (d, item) in self._before(event.user_id):
                continue
            had.add(key)
            self._new.append(event)
            self._since.setdefault(event.user_id, []).append((d, item, event.time))

    def rest(self) -> None:
        """See `Answerer`."""
        if self._learn is None or not self._new:
            return
        rows = pl.DataFrame(
            [
                (e.user_id, e.domain, e.item_id, e.time, e.kind, e.rating, e.weight)
                for e in self._new
            ],
            schema=COLUMNS,
            orient="row",
        )
        growth = append_events(self.recommender.dataset, rows)
        # As the learner does: answers of a night that was kept back judge the next one.
        guided = guided_positions(growth.dataset, growth.fresh, self._new)
        start = time.process_time()
        successor, progress = self._learn(self.recommender, growth, guided)
        self.seconds.append(time.process_time() - start)
        self.progress.append(progress)
        self.recommender = successor
        self._new, self._since = [], {}

    def _before(self, user_id: str) -> set[tuple[int, int]]:
        """Items of a person in the snapshot."""
        dataset = self.recommender.dataset
        row = dataset.user_index.get(user_id, -1)
        if row < 0:
            return set()
        some = slice(dataset.events.offsets[row], dataset.events.offsets[row + 1])
        pairs = zip(dataset.events.domain[some], dataset.events.item[some], strict=True)
        return {(int(d), int(item)) for d, item in pairs}

    def _lists(self, domain: str, visits: Sequence[Visit], k: int) -> list[list[str]]:
        recommender = self.recommender
        d = recommender.dataset.domain_index(domain)
        whole = Requests.of([self._request(visit) for visit in visits])
        asked = Asked(
            [visit.user_id for visit in visits],
            np.full(len(visits), Origin.KNOWN, np.int8),
            whole,
            whole.keep(whole.age < recommender.config.evaluation.max_history),
        )
        top = best_items(
            recommender.system.gated,
            asked,
            d,
            k,
            offered=self._offered[domain],
            rank_of_equals=self._equals[d],
            batch=recommender.config.evaluation.batch,
        )
        ids = recommender.dataset.domains[d].items["item_id"]
        return [[ids[int(i)] for i in row if i >= 0] for row in top.item]

    def _request(self, visit: Visit) -> Request:
        """Everything the person did up to now, the snapshot's events first."""
        dataset = self.recommender.dataset
        row = dataset.user_index.get(visit.user_id, -1)
        history: list[tuple[int, int, float]] = []
        if row >= 0:
            some = slice(dataset.events.offsets[row], dataset.events.offsets[row + 1])
            history = list(
                zip(
                    dataset.events.domain[some].tolist(),
                    dataset.events.item[some].tolist(),
                    dataset.events.time[some].tolist(),
                    strict=True,
                )
            )
        history += self._since.get(visit.user_id, [])
        return Request(
            [(d, item) for d, item, _ in history],
            [moment for *_, moment in history],
            query_time=visit.time,
            user=row,
        )


def counting_only(
    recommender: Recommender, growth: Growth, guided: Guided
) -> tuple[Recommender, Progress]:
    """The same weights; popularity is counted up to now, for that is looked up, not learnt."""
    grown = recommender.grown(growth)
    return grown, grown.progress


def incrementally(
    recommender: Recommender, growth: Growth, guided: Guided
) -> tuple[Recommender, Progress]:
    """The challenger where it is no worse, else the champion over what has come."""
    update = recommender.update(growth, guided=guided)
    if update.verdict.no_worse:
        return update.recommender, update.progress
    return recommender.grown(growth), update.progress


def from_scratch(
    recommender: Recommender, growth: Growth, guided: Guided
) -> tuple[Recommender, Progress]:
    """Fit everything again, whatever has been learnt before."""
    found = fitted_anew(growth.dataset, recommender.raw, recommender.config, guided)
    return found, found.progress


def fitted_anew(
    dataset: Dataset,
    raw: Sequence[ItemFeatures],
    config: Config,
    guided: Guided | None = None,
) -> Recommender:
    """A recommender fitted to all but the newest tenth, which stops training and weighs the parts.

    Args:
        dataset: the snapshot.
        raw: text vectors per domain.
        config: everything else.
        guided: int64 [n] positions of events that answer a recommendation.
    """
    n_events = len(dataset.events)
    held = rolling_split(
        dataset,
        np.zeros(n_events, bool),
        share=0.1,
        most=n_events,
        salt="anew",
        guided=guided,
    )
    split = replace(held, stopping=held.test, test=Queries(held.test.position[:0]))
    return Recommender(dataset, config, split, raw, fit_system(dataset, split, raw, config))
