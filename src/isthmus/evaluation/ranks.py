"""Where the true answer of each question stands among all candidates.

Every question has one true answer, so each accuracy metric follows from two counts: how many
candidates score above the answer and how many score the same. Ties are kept as counts and resolved
in `metrics.py` as the expectation under random order; nothing here depends on how items are
numbered, on the order of rows or on the batch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.config import EvaluationConfig
from isthmus.data.dataset import Dataset, Events
from isthmus.data.splits import Queries, user_hash
from isthmus.errors import DataError, RequestError
from isthmus.scoring import Requests, Scorer

LONGEST_LIST = 100

Protocol = Literal["full", "sampled"]


@dataclass(frozen=True)
class Ranking:
    """Places of the true answers, one row per question.

    Attributes:
        protocol: `full` catalogue, or `sampled` candidates.
        position: int64 [n] position of the answer in `Dataset.events`.
        user: int64 [n] user row.
        answer: int64 [n] local index of the true item.
        above: int64 [n] candidates that score strictly above the answer.
        tied: int64 [n] candidates that score the same, the answer included; 0 where the scorer
            does not offer the answer at all (its score is -inf).
        candidates: int64 [n] candidates offered.
        top: int64 [n, k] best items, best first, -1 where fewer are offered; k is 0 where no lists
            are kept and for sampled candidates.
        n_items: size of the catalogue.
    """

    protocol: Protocol
    position: NDArray[np.int64]
    user: NDArray[np.int64]
    answer: NDArray[np.int64]
    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    candidates: NDArray[np.int64]
    top: NDArray[np.int64]
    n_items: int

    def __len__(self) -> int:
        return len(self.position)


def rank(
    scorer: Scorer,
    dataset: Dataset,
    queries: Queries,
    domain: int,
    *,
    config: EvaluationConfig,
    hide_target_history: bool = False,
    lists: bool = True,
    hidden: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Ranking:
    """Rank the true answers of the questions whose answer lies in `domain`.

    Candidates are the whole catalogue, or with `config.candidates` that many uniform unseen items
    and the answer. Items of the user's whole earlier history are no candidates, but the answer
    always is, bought before or not.

    Args:
        scorer: whom to ask; it sees at most the last `config.max_history` events.
        dataset: holds the questions' events.
        queries: the questions.
        domain: index of the target domain.
        config: protocol, batch and list lengths.
        hide_target_history: take the target domain out of each history and make the user unknown
            to the scorer, which is how a person new to the target looks. What they had is still
            no candidate. Questions left without any history are not asked.
        lists: keep the best items of each question; accuracy does not need them.
        hidden: bool [n_events], events to take out of each history; what they were about is still
            no candidate. Questions left without any history are asked all the same.
        seed: draws the sampled candidates.

    Raises:
        DataError: no question to ask, or fewer unseen items than `config.candidates`.
        RequestError: the scorer gives NaN or scores of the wrong shape.
    """
    events = dataset.events
    position = queries.position[events.domain[queries.position] == domain]
    if hide_target_history:
        position = position[earlier_elsewhere(events, position, domain) > 0]
    if not len(position):
        raise DataError(
            f"no question has its answer in {dataset.names[domain]!r}",
            where="split",
            hint="Choose another target, or a split that leaves it some events",
        )
    full = config.candidates is None
    ask = (_FullCatalogue if full else _SampledCandidates)(scorer, dataset, domain, config, seed)
    ask.length = list_length(config.cutoffs) if lists else 0

    # Histories of about one length share a batch, so that a scorer pads little.
    by_length = np.argsort(position - events.offsets[events.user[position]], kind="stable")
    parts: list[Placed] = []
    for start in range(0, len(position), config.batch):
        asked = position[by_length[start : start + config.batch]]
        whole = Requests.at(dataset, asked, max_history=len(events))
        visible = whole
        if hidden is not None:
            visible = Requests.at(dataset, asked, max_history=len(events), hidden=hidden)
        if hide_target_history:
            visible = visible.as_newcomers(domain)
        requests = visible.keep(visible.age < config.max_history)
        parts.append(ask(asked, requests, whole.only(domain)))

    back = np.argsort(by_length)
    above, tied, candidates, top = (
        np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True)
    )
    return Ranking(
        protocol="full" if full else "sampled",
        position=position,
        user=events.user[position],
        answer=events.item[position].astype(np.int64),
        above=above,
        tied=tied,
        candidates=candidates,
        top=top,
        n_items=dataset.domains[domain].n_items,
    )


def list_length(cutoffs: list[int]) -> int:
    """Length of the lists kept: the largest cutoff up to 100, or 10 where none is so small."""
    return max((k for k in cutoffs if k <= LONGEST_LIST), default=10)


def canonical_order(dataset: Dataset, domain: int) -> NDArray[np.int64]:
    """Local item indices [n_items] in an order that depends on raw ids alone."""
    raw = dataset.domains[domain].items["item_id"].to_list()
    return np.argsort(user_hash(raw, "item-order"))


def earlier_in(
    events: Events,
    position: NDArray[np.int64],
    domain: int,
    *,
    hidden: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Events of the same user in `domain` before each position, int64 [n]; none of `hidden`."""
    counted = events.domain == domain
    if hidden is not None:
        counted &= ~hidden
    running = np.concatenate([[0], np.cumsum(counted)])
    return np.asarray(running[position] - running[events.offsets[events.user[position]]])


def earlier_elsewhere(
    events: Events, position: NDArray[np.int64], domain: int
) -> NDArray[np.int64]:
    """Events of the same user in all other domains before each position, int64 [n]."""
    whole = position - events.offsets[events.user[position]]
    return np.asarray(whole - earlier_in(events, position, domain))


Placed = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Of each question: candidates above its answer, tied with it, offered [batch]; and the list."""


class _Protocol:
    """Asks a scorer about one domain and places the answers; subclasses choose the candidates."""

    length = 0

    def __init__(
        self, scorer: Scorer, dataset: Dataset, domain: int, config: EvaluationConfig, seed: int
    ) -> None:
        self.scorer, self.dataset, self.domain, self.config = scorer, dataset, domain, config
        self.n_items = dataset.domains[domain].n_items
        self.seed = seed

    def __call__(self, asked: NDArray[np.int64], requests: Requests, seen: Requests) -> Placed:
        """Place the answers at `asked` [batch]; `seen` holds what is no candidate."""
        raise NotImplementedError

    def _answer(self, asked: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.dataset.events.item[asked].astype(np.int64)

    def _scores(
        self, requests: Requests, items: NDArray[np.int64] | None, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        total = self.scorer.score(requests, self.domain, items).total
        where = f"scorer {self.scorer.name!r}"
        if total.shape != shape:
            raise RequestError(f"scores of shape {total.shape} for expected {shape}", where=where)
        if np.isnan(total.max()):
            rows = int(np.isnan(total).any(axis=1).sum())
            raise RequestError(
                f"NaN among the scores of {rows} of {len(total)} questions",
                where=where,
                hint="Check that its training did not diverge, and that no input vector holds NaN",
            )
        return total


class _FullCatalogue(_Protocol):
    """Every item that was not seen, and the answer."""

    def __call__(self, asked: NDArray[np.int64], requests: Requests, seen: Requests) -> Placed:
        scores = self._scores(requests, None, (len(asked), self.n_items))
        answer = self._answer(asked)
        own = scores[np.arange(len(asked)), answer]
        row, item = self._not_offered(seen, answer)
        above, tied = _per_row(scores > own[:, None]), _per_row(scores == own[:, None])
        # The scores may be the scorer's own, so what was seen is taken off the counts instead.
        hidden = scores[row, item]
        above -= np.bincount(row[hidden > own[row]], minlength=len(asked))
        tied -= np.bincount(row[hidden == own[row]], minlength=len(asked))
        offered = np.full(len(asked), self.n_items) - np.bincount(row, minlength=len(asked))
        if scores.min() == -np.inf:
            offered -= _per_row(scores == -np.inf)
            offered += np.bincount(row[hidden == -np.inf], minlength=len(asked))
        return above, np.where(own > -np.inf, tied, 0), offered, self._best(scores, row, item)

    def _not_offered(
        self, seen: Requests, answer: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Distinct (row, item) pairs that are no candidates, int64 [n] each."""
        if not self.config.exclude_seen:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        cell = np.unique(seen.rows * self.n_items + seen.item)
        row, item = np.divmod(cell, self.n_items)
        other = item != answer[row]
        return row[other], item[other]

    def _best(
        self, scores: NDArray[np.float32], row: NDArray[np.int64], item: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The best items, [batch, length]; among equals those first in the canonical order."""
        import torch  # here, so that reading saved figures does not load it

        length = min(self.length, self.n_items)
        if not length:
            return np.empty((len(scores), 0), np.int64)
        block = scores.copy()
        block[row, item] = -np.inf
        # One more than is kept shows whether equals stand on both sides of the edge.
        found = torch.from_numpy(block).topk(min(length + 1, self.n_items), dim=1)
        values, best = found.values.numpy(), found.indices.numpy()
        tied = np.flatnonzero((values[:, 1:] == values[:, :-1]).any(axis=1))
        if len(tied):
            ordered = torch.from_numpy(np.take(block[tied], self.canonical, axis=1))
            # A stable sort keeps the canonical order among equals.
            again = ordered.sort(dim=1, descending=True, stable=True)
            width = values.shape[1]
            values[tied] = again.values[:, :width].numpy()
            best[tied] = self.canonical[again.indices[:, :width].numpy()]
        return np.where(values > -np.inf, best, -1)[:, :length]

    @cached_property
    def canonical(self) -> NDArray[np.int64]:
        """See `canonical_order`."""
        return canonical_order(self.dataset, self.domain)


class _SampledCandidates(_Protocol):
    """Uniform unseen items, and the answer; for published tables."""

    def __call__(self, asked: NDArray[np.int64], requests: Requests, seen: Requests) -> Placed:
        answer = self._answer(asked)
        items = self.sampler(asked, seen, answer, exclude_seen=self.config.exclude_seen)
        scores = self._scores(requests, items, items.shape)
        own = scores[np.arange(len(asked)), np.nonzero(items == answer[:, None])[1]]
        tied = np.where(own > -np.inf, _per_row(scores == own[:, None]), 0)
        nothing = np.empty((len(asked), 0), np.int64)
        return _per_row(scores > own[:, None]), tied, _per_row(scores > -np.inf), nothing

    @cached_property
    def sampler(self) -> _NegativeSampler:
        """Draws the candidates."""
        assert self.config.candidates is not None
        return _NegativeSampler(self.dataset, self.domain, self.config.candidates, self.seed)


def _per_row(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """True entries of each row, int64 [batch]; row by row NumPy counts bits, not integers."""
    return np.fromiter((np.count_nonzero(row) for row in mask), np.int64, len(mask))


class _NegativeSampler:
    """Uniform unseen items for each question, the same under any numbering or batch size.

    Each (question, item) pair has a pseudo-random key from the raw ids; the items with the lowest
    keys are the sample.
    """

    def __init__(self, dataset: Dataset, domain: int, n: int, seed: int) -> None:
        self.events, self.n, self.n_items = dataset.events, n, dataset.domains[domain].n_items
        raw = dataset.domains[domain].items["item_id"].to_list()
        self.item_key = _as_key(user_hash(raw, f"candidate-{seed}"))
        self.user_key = _as_key(user_hash(dataset.user_ids.to_list(), f"candidate-{seed}"))

    def __call__(
        self,
        position: NDArray[np.int64],
        seen: Requests,
        answer: NDArray[np.int64],
        *,
        exclude_seen: bool,
    ) -> NDArray[np.int64]:
        """Local item indices [batch, n + 1], sorted, so that the answer's column says nothing."""
        user = self.events.user[position]
        nth = (position - self.events.offsets[user]).astype(np.uint64)
        question = _mix(self.user_key[user] + nth)
        key = _mix(question[:, None] ^ self.item_key)
        never = np.iinfo(np.uint64).max
        if exclude_seen:
            key[seen.rows, seen.item] = never
        key[np.arange(len(answer)), answer] = never
        if self.n >= self.n_items or np.any((key < never).sum(axis=1) < self.n):
            raise DataError(
                f"fewer than {self.n} unseen items to draw candidates from",
                where="evaluation.candidates",
                hint="Lower it, or leave it out to rank the whole catalogue",
            )
        drawn = np.argpartition(key, self.n - 1, axis=1)[:, : self.n]
        return np.sort(np.column_stack([drawn, answer]), axis=1)


def _as_key(unit: NDArray[np.float64]) -> NDArray[np.uint64]:
    return _mix((unit * 2.0**53).astype(np.uint64))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
