"""One version of a model with the catalogue of this moment: what a request is answered from.

A `Live` is a value. What changes, a hidden item or a new model, makes another one, so whoever
answers from one never mixes two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import RequestError
from isthmus.online.catalogue import Item
from isthmus.recommender import Recommender
from isthmus.recommender.asking import Asked
from isthmus.recommender.encoding import Encoder
from isthmus.recommender.profile import Profile
from isthmus.recommender.ranking import Top
from isthmus.recommender.reasons import reasons
from isthmus.recommender.serving import POPULAR, Served, bases
from isthmus.serving.arrivals import Arrivals
from isthmus.serving.cursors import cursor_after, shown_by
from isthmus.serving.diversity import LARGEST_POOL, POOL, spread_out
from isthmus.serving.filters import Filter, parse
from isthmus.serving.messages import Listing, Offered, Recommend
from isthmus.serving.past import Past, Place, asked_by
from isthmus.serving.quick import Quick
from isthmus.serving.shelf import Shelf
from isthmus.training.versions import read_pointer

Mask = NDArray[np.bool_]
READ_AT_ONCE = 64
"""New texts that are encoded before they can be recommended."""


@dataclass(frozen=True)
class Question:
    """One list that is asked for.

    Attributes:
        domain: index.
        past: of the person.
        asked: how.
        closed: int64 places of items that must not be offered: excluded, or shown already.
        shown: float64 lots of the items that were shown on the pages before.
        tree: the filter, read.
    """

    domain: int
    past: Past
    asked: Recommend
    closed: NDArray[np.int64]
    shown: NDArray[np.float64]
    tree: Filter | None


@dataclass(frozen=True)
class Live:
    """See the module.

    Attributes:
        version: name of the model version.
        recommender: the model.
        quick: its tables, grown by what has arrived.
        shelves: catalogue per domain, in the order of `quick`.
        counted: offset of the log up to which events are counted among what is popular.
    """

    version: str
    recommender: Recommender
    quick: Quick
    shelves: tuple[Shelf, ...]
    counted: int
    _arrivals: Arrivals = field(repr=False)
    _texts: Mapping[tuple[int, int], str | None] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: Path, *, encoder: Encoder | None = None) -> Live:
        """The live version of a model folder.

        Raises:
            CheckpointError: no such folder, damaged, or newer than this library.
        """
        while True:
            before = read_pointer(folder)
            recommender = Recommender.load(folder)
            # Another version may have been published while this one was read.
            if read_pointer(folder) == before:
                return cls.of(recommender, before.folder.name, encoder=encoder)

    @classmethod
    def of(cls, recommender: Recommender, version: str, *, encoder: Encoder | None = None) -> Live:
        """A model in memory, by the name of its version."""
        return cls(
            version,
            recommender,
            Quick.of(recommender.system),
            tuple(map(Shelf.of, recommender.dataset.domains)),
            0 if recommender.log is None else recommender.log.offset,
            Arrivals(recommender, encoder),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Domain names in index order."""
        return self.recommender.dataset.names

    @property
    def places(self) -> dict[str, Mapping[str, int]]:
        """Domain name → raw item id → local index."""
        return {shelf.name: shelf.index for shelf in self.shelves}

    def prepare(self) -> None:
        """Make ready to read new texts.

        Raises:
            LanguageModelError: the language model cannot be found or run.
        """
        self._arrivals.prepare()

    def marked(self, changes: Sequence[Item]) -> Live:
        """With what changed of known items that needs no reading: marks, titles, attributes."""
        shelves = list(self.shelves)
        for d, shelf in enumerate(shelves):
            own = [c for c in changes if c.domain == shelf.name and c.item_id in shelf.index]
            if own:
                shelves[d] = shelf.changed(own)
        return replace(self, shelves=tuple(shelves))

    def counting(
        self,
        domain: NDArray[np.int64],
        item: NDArray[np.int64],
        time: NDArray[np.float64],
        *,
        upto: int,
    ) -> Live:
        """With events [n] counted among what is popular, the last that the log holds up to `upto`.

        Args:
            domain: int64 [n] indices.
            item: int64 [n] places on the shelf.
            time: float64 [n] Unix seconds.
            upto: offset.
        """
        return replace(self, quick=self.quick.counting(domain, item, time), counted=upto)

    def unread(self, changes: Sequence[Item]) -> list[Item]:
        """Those of `changes` that are new here, or have another text than before."""
        return [
            change
            for change in changes
            if change.described
            and not change.deleted
            and change.domain in self.names
            and not self._knows(change)
        ]

    def _knows(self, item: Item) -> bool:
        domain = self.names.index(item.domain)
        place = self.shelves[domain].index.get(item.item_id)
        if place is None:
            return False
        catalogue = self.recommender.dataset.domains[domain]
        if (domain, place) in self._texts:
            return self._texts[domain, place] == _text(item)
        return bool(catalogue.items["text"][place] == _text(item))

    def read(self, items: Sequence[Item]) -> Live:
        """With new items, or new texts; they can be recommended from now on.

        Raises:
            LanguageModelError: the language model cannot be found or run.
        """
        found = self
        for d, shelf in enumerate(self.shelves):
            own = list({i.item_id: i for i in items if i.domain == shelf.name}.values())
            for start in range(0, len(own), READ_AT_ONCE):
                found = found._grown(d, own[start : start + READ_AT_ONCE])
        return found

    def _grown(self, domain: int, items: Sequence[Item]) -> Live:
        shelf = self.shelves[domain].changed(items)
        place = np.array([shelf.index[item.item_id] for item in items], np.int64)
        told = self._arrivals.read(domain, list(map(_text, items)))
        quick = self.quick.extended(domain, place, told.aligned, told.own, told.whitened)
        shelves = (*self.shelves[:domain], shelf, *self.shelves[domain + 1 :])
        texts = {(domain, int(p)): _text(i) for p, i in zip(place, items, strict=True)}
        return replace(self, quick=quick, shelves=shelves, _texts={**self._texts, **texts})

    def domain(self, name: str) -> int:
        """Index of a domain; RequestError names the near ones."""
        return self.recommender.dataset.domain_index(name)

    def given(self, history: Sequence[tuple[str, str]]) -> list[Place]:
        """A session of (domain, raw item id) pairs as places.

        Raises:
            RequestError: an unknown domain or item; says which entry.
        """
        found = []
        for n, (name, item_id) in enumerate(history, 1):
            domain = self.domain(name)
            found.append((domain, self.shelves[domain].place(item_id, f"history, entry {n}")))
        return found

    def questions(self, asked: Recommend, past: Past) -> list[Question]:
        """One question per domain that is asked about.

        Raises:
            RequestError: an unknown domain, a filter that cannot be understood, or a cursor that
                is not of this service.
        """
        domains = [self.domain(name) for name in dict.fromkeys(asked.domains or self.names)]
        if asked.cursor is not None and len(domains) != 1:
            raise RequestError(
                "a cursor belongs to one list", where="cursor", hint="Name its domain alone"
            )
        shown = np.zeros(0) if asked.cursor is None else shown_by(asked.cursor)
        tree = None if asked.filter is None else parse(asked.filter)
        found = []
        for domain in domains:
            shelf = self.shelves[domain]
            if tree is not None:
                shelf.passing(tree)
            excluded = [shelf.index[i] for i in asked.exclude if i in shelf.index]
            closed = np.concatenate([np.array(excluded, np.int64), shelf.drawn(shown)])
            found.append(Question(domain, past, asked, closed, shown, tree))
        return found

    def answers(self, questions: Sequence[Question]) -> list[Listing]:
        """Lists, in the order of the questions; those about one domain are scored together."""
        found: list[Listing | None] = [None] * len(questions)
        for domain in {question.domain for question in questions}:
            rows = [row for row, q in enumerate(questions) if q.domain == domain]
            listings = self._listings([questions[row] for row in rows], domain)
            for row, listing in zip(rows, listings, strict=True):
                found[row] = listing
        return [listing for listing in found if listing is not None]

    def _listings(self, questions: Sequence[Question], domain: int) -> list[Listing]:
        shelf = self.shelves[domain]
        offered = np.broadcast_to(shelf.offered, (len(questions), len(shelf))).copy()
        for row, question in enumerate(questions):
            if question.tree is not None:
                offered[row] &= shelf.passing(question.tree)
            offered[row, question.closed] = False
        asked = asked_by(
            [q.past for q in questions], self.recommender.config.evaluation.max_history
        )
        pools = [
            min(q.asked.k * POOL, LARGEST_POOL) if q.asked.diversity else q.asked.k
            for q in questions
        ]
        top = self.quick.top(
            asked,
            domain,
            max(pools),
            offered=offered,
            rank_of_equals=shelf.rank_of_equals,
            seen=[q.asked.seen for q in questions],
        )
        chosen = [
            self._chosen(domain, top.item[row, :pool], top.score[row, :pool], q.asked)
            for row, (q, pool) in enumerate(zip(questions, pools, strict=True))
        ]
        basis, why = self._words(questions, asked, domain, top)
        nobody = np.zeros(len(questions), bool)
        personal = np.logical_or.reduce(
            [spoke for name, spoke in top.opinion.items() if name != POPULAR] or [nobody]
        )
        return [
            Listing(
                shelf.name,
                _offered(shelf, top, row, chosen[row], why.get(row)),
                basis[row] + _short_of(int(top.n_offered[row]), q.asked.k),
                not personal[row],
                cursor_after(
                    q.shown, shelf.lot[top.item[row, chosen[row]]], int(top.n_offered[row])
                ),
            )
            for row, q in enumerate(questions)
        ]

    def _chosen(
        self, domain: int, item: NDArray[np.int64], score: NDArray[np.float32], asked: Recommend
    ) -> NDArray[np.int64]:
        """Columns of the pool to show, in order."""
        n_found = int((item >= 0).sum())
        if not asked.diversity:
            return np.arange(min(n_found, asked.k))
        vectors = self.quick.described(domain, item[:n_found])
        return spread_out(score[:n_found], vectors, asked.k, asked.diversity)

    def _words(
        self, questions: Sequence[Question], asked: Asked, domain: int, top: Top
    ) -> tuple[list[str], dict[int, list[str]]]:
        """What each list rests on; and what carried each item, where that was asked for."""
        basis = [""] * len(questions)
        why: dict[int, list[str]] = {}
        for served in Served.each(self.recommender.system, domain, asked.visible):
            everybody = len(served.rows) == len(questions)
            people = asked if everybody else asked.select(served.rows)
            best = top if everybody else top.select(served.rows)
            for row, words in zip(
                served.rows.tolist(),
                bases(self.names, people, domain, 0, served, best),
                strict=True,
            ):
                basis[row] = words
            wanted = [n for n, row in enumerate(served.rows) if questions[row].asked.explain]
            if wanted:
                told = self._reasons(served, people, domain, best, np.array(wanted, np.int64))
                why |= {int(served.rows[n]): of_row for n, of_row in zip(wanted, told, strict=True)}
        return basis, why

    def _reasons(
        self, served: Served, people: Asked, domain: int, top: Top, rows: NDArray[np.int64]
    ) -> list[list[str]]:
        """Phrases for the items of some rows; relations are known of the model's own items."""
        dataset = self.recommender.dataset
        some, top = people.visible.select(rows), top.select(rows)
        sizes = np.diff(dataset.item_offsets)
        some = some.keep(some.item < sizes[some.domain.astype(np.int64)])
        new = top.item >= sizes[domain]
        top = replace(top, item=np.where(new, -1, top.item))
        found = reasons(dataset, served, self.recommender.related(served.side), some, domain, top)
        return [
            ["by its text" if is_new else phrase for phrase, is_new in zip(*pair, strict=True)]
            for pair in zip(found, new, strict=True)
        ]

    def profile(self, past: Past, user_id: str | None) -> Profile:
        """What somebody cares about; of items that the model was made with."""
        asked = asked_by([past], self.recommender.config.evaluation.max_history)
        sizes = np.diff(self.recommender.dataset.item_offsets)
        whole = asked.whole.keep(asked.whole.item < sizes[asked.whole.domain.astype(np.int64)])
        visible = whole.keep(whole.age < self.recommender.config.evaluation.max_history)
        return self.recommender.profile_of(replace(asked, whole=whole, visible=visible), user_id)


def _text(item: Item) -> str | None:
    """What the language model reads of an item."""
    return item.text or item.title


def _offered(
    shelf: Shelf, top: Top, row: int, columns: NDArray[np.int64], why: Sequence[str] | None
) -> list[Offered]:
    parts = {name: part[row, columns].tolist() for name, part in top.parts.items()}
    return [
        Offered(
            n + 1,
            shelf.ids[place],
            shelf.titles[place],
            shelf.categories[place],
            score,
            {name: values[n] for name, values in parts.items()},
            None if why is None else why[column],
        )
        for n, (place, score, column) in enumerate(
            zip(
                top.item[row, columns].tolist(),
                top.score[row, columns].tolist(),
                columns.tolist(),
                strict=True,
            )
        )
    ]


def _short_of(n_offered: int, k: int) -> str:
    return f"; only {n_offered} could be offered" if n_offered < k else ""
