"""What a recommender answers: lists, items like an item, and what a person cares about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.forgetting import is_somebody
from isthmus.errors import RequestError
from isthmus.evaluation.ranks import canonical_order
from isthmus.recommender.answers import table
from isthmus.recommender.asking import Asked, History, Origin, ask, ask_rows
from isthmus.recommender.export import write_lists
from isthmus.recommender.filters import offered_items
from isthmus.recommender.profile import Profile, domain_profiles
from isthmus.recommender.ranking import best_items
from isthmus.recommender.reasons import reasons
from isthmus.recommender.relations import Relations
from isthmus.recommender.serving import Served, bases
from isthmus.recommender.similar import similar_items
from isthmus.recommender.suggesting import suggestion
from isthmus.recommender.themes import Themes
from isthmus.transfer.sides import Side
from isthmus.transfer.system import System

if TYPE_CHECKING:
    from isthmus.language.cross_encoder import CrossEncoder


class Answering:
    """How a `Recommender` answers for people and items.

    Histories of known users hold all their events, those after the training cut as well.
    """

    dataset: Dataset
    config: Config
    system: System

    def __init__(self, dataset: Dataset) -> None:
        self._relations: dict[int, Relations] = {}
        self._themes = {d: Themes(domain) for d, domain in enumerate(dataset.domains)}
        self._rank_of_equals: dict[int, NDArray[np.int64]] = {}

    def recommend(
        self,
        domain: str,
        *,
        users: Sequence[str] | None = None,
        histories: Sequence[History] | None = None,
        k: int = 10,
        seen: bool = False,
        category: str | None = None,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] | None = None,
        query_time: float | None = None,
        rerank: CrossEncoder | None = None,
    ) -> pl.DataFrame:
        """The best items of a domain for each person, with what carried them.

        Args:
            domain: where to recommend.
            users: raw ids; one that the dataset does not hold is a person without a history.
            histories: (domain, item id) pairs, oldest first; called `history 1`, `history 2` ….
            k: most items each.
            seen: whether items of the person's own history are offered too.
            category: only items with this in their category, upper and lower case alike.
            allow: only these items.
            deny: none of these items.
            query_time: Unix seconds of the question; None: after everything known.
            rerank: a language model that puts the best `tasks.cross_encoder.rerank` in order anew.

        Returns:
            Columns `request`, `rank` (from 1), `item_id`, `title`, `category`, `score` (relative
            to the average item of that request), `parts` (a struct; they add up to the score),
            `basis` (what the ranking rests on) and `why` (what carried this item). Fewer than `k`
            rows where fewer items can be offered, which `basis` says. After `rerank` also
            `first_rank`, as it was before, and `reread`, what the items now stand in order of.

        Raises:
            RequestError: an unknown domain or item, or nothing can be offered; says why.
        """
        target = self.dataset.domain_index(domain)
        _positive(k)
        offered = offered_items(
            self.dataset.domains[target], category=category, allow=allow, deny=deny
        )
        asked = ask(
            self.dataset,
            users=users,
            histories=histories,
            query_time=query_time,
            max_history=self.config.evaluation.max_history,
        )
        # In stretches, because reasons compare every item with every event behind it.
        batch = self.config.evaluation.batch
        depth = k if rerank is None else max(k, rerank.config.rerank)
        frames = [
            self._answers(asked.part(start, start + batch), target, depth, offered, seen)
            for start in range(0, max(len(asked), 1), batch)
        ]
        answers = pl.concat(frames)
        if len(asked) and answers.is_empty():
            raise RequestError(
                f"everything in {domain!r} that the filters leave ({offered.sum():,} items) is in "
                "the history already",
                where="filters",
                hint="Offer seen items too, or loosen the filters",
            )
        if rerank is not None:
            from isthmus.recommender.rereading import reread

            return reread(answers, self.dataset, target, asked, rerank, k)
        return answers

    def similar(
        self, domain: str, item_id: str, *, to: str | None = None, k: int = 10
    ) -> pl.DataFrame:
        """Items like an item: by text, by what was chosen together, and in the neural item space.

        Args:
            domain: where the item is.
            item_id: its raw id.
            to: domain to look in; None: the same.
            k: most items.

        Returns:
            Columns `item_id`, `title`, `category`, `score` (relative to the average item) and
            `parts` (a struct; they add up to the score).

        Raises:
            RequestError: an unknown domain or item, or one without text and behaviour.
        """
        source = self.dataset.domain_index(domain)
        target = source if to is None else self.dataset.domain_index(to)
        _positive(k)
        item = self.dataset.domains[source].index_of(item_id)
        relations = self.related(self.system.comparing(source, target))
        return similar_items(self.dataset, relations, source, item, target, k, self._equals(target))

    def profile(self, user: str | None = None, *, history: History | None = None) -> Profile:
        """What a person cares about in each domain, and what that suggests in the others.

        Args:
            user: raw id; one that the dataset does not hold has no history.
            history: or (domain, item id) pairs, oldest first.

        Raises:
            RequestError: neither or both are given, or an unknown domain or item.
        """
        if (user is None) == (history is None):
            raise RequestError("a profile is of one person", hint="Give a user or a history")
        asked = ask(
            self.dataset,
            users=None if user is None else [user],
            histories=None if history is None else [history],
            max_history=self.config.evaluation.max_history,
        )
        return self.profile_of(asked, user)

    def profile_of(self, asked: Asked, user: str | None = None) -> Profile:
        """The same for a person whose history has been looked up, a batch of one."""
        suggestions = [
            suggestion(
                self.dataset.names,
                Served.each(self.system, d, asked.visible)[0],
                asked,
                d,
                themes,
                self._equals(d),
            )
            for d, themes in self._themes.items()
        ]
        return Profile(
            user=user,
            known=int(asked.origin[0]) == Origin.KNOWN,
            n_events=len(asked.whole.item),
            domains=domain_profiles(asked.whole, self._themes),
            suggestions=tuple(found for found in suggestions if found is not None),
        )

    def export(
        self, domain: str, path: Path | str, *, k: int = 10, chunk: int = 1024, seen: bool = False
    ) -> int:
        """Write the best items for every known user to Parquet, in chunks of bounded memory.

        Columns `user_id`, `rank`, `item_id`, `score`, `basis`, as `recommend` gives them.

        Args:
            domain: where to recommend.
            path: the file; it appears whole or not at all.
            k: most items each.
            chunk: users at once.
            seen: whether items of a user's own history are offered too.

        Returns:
            Rows written.

        Raises:
            RequestError: an unknown domain.
            DataError: the file cannot be written.
        """
        target = self.dataset.domain_index(domain)
        _positive(k)
        _positive(chunk, "chunk")
        people = np.flatnonzero(is_somebody(self.dataset.user_ids).to_numpy())
        starts = range(0, len(people), chunk)
        offered = self.dataset.domains[target].offered

        def frames() -> Iterator[pl.DataFrame]:
            for start in starts:
                rows = people[start : start + chunk]
                asked = ask_rows(self.dataset, rows, max_history=self.config.evaluation.max_history)
                yield self._answers(asked, target, k, offered, seen, explained=False)

        return write_lists(Path(path), frames(), len(starts))

    def related(self, side: Side) -> Relations:
        """How items stand to each other as a side learnt it, computed once."""
        if id(side) not in self._relations:
            self._relations[id(side)] = Relations(side)
        return self._relations[id(side)]

    def _answers(
        self,
        asked: Asked,
        target: int,
        k: int,
        offered: NDArray[np.bool_],
        seen: bool,
        *,
        explained: bool = True,
    ) -> pl.DataFrame:
        top = best_items(
            self.system.gated,
            asked,
            target,
            k,
            offered=offered,
            rank_of_equals=self._equals(target),
            seen=seen,
            batch=self.config.evaluation.batch,
        )
        why = [[""] * top.item.shape[1]] * len(asked)
        basis = [""] * len(asked)
        for served in Served.each(self.system, target, asked.visible):
            people, best = asked.select(served.rows), top.select(served.rows)
            said = bases(self.dataset.names, people, target, k, served, best)
            phrases = why[: len(people)]
            if explained:
                relations = self.related(served.side)
                phrases = reasons(self.dataset, served, relations, people.visible, target, best)
            for row, sentence, of_items in zip(served.rows, said, phrases, strict=True):
                basis[row], why[row] = sentence, of_items
        return table(self.dataset.domains[target], asked.labels, top, basis, why)

    def _equals(self, domain: int) -> NDArray[np.int64]:
        """Which of two items of equal score goes first: a draw by raw id, [n_items]."""
        if domain not in self._rank_of_equals:
            order = canonical_order(self.dataset, domain)
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            self._rank_of_equals[domain] = rank
        return self._rank_of_equals[domain]


def _positive(number: int, name: str = "k") -> None:
    if number < 1:
        raise RequestError(f"{name} is {number}", where=name, hint="Set it to 1 or more")
