"""Where the true answer of each question stands among all candidates.

Every question has one true answer, so each accuracy metric follows from two counts: how many
candidates score above the answer and how many score the same. Ties are kept as counts and resolved
in `metrics.py` as the expectation under random order; nothing here depends on how items are
numbered, on the order of rows or on the batch size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        top: int64 [n, k] best items, best first, -1 where fewer are offered; k is 0 if sampled.
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
    order = canonical_order(dataset, domain)
    column = np.empty_like(order)
    column[order] = np.arange(len(order))
    draw = None if full else _NegativeSampler(dataset, domain, config.candidates or 0, seed)
    length = min(list_length(config.cutoffs), len(order)) if full else 0

    parts: list[tuple[NDArray[np.int64], ...]] = []
    for start in range(0, len(position), config.batch):
        asked = position[start : start + config.batch]
        whole = Requests.at(dataset, asked, max_history=len(events))
        seen = whole.only(domain)
        visible = _as_newcomer(whole, domain) if hide_target_history else whole
        requests = visible.keep(visible.age < config.max_history)
        answer = events.item[asked].astype(np.int64)
        if draw is not None:
            items = draw(asked, seen, answer, exclude_seen=config.exclude_seen)
            scores = _scores(scorer, requests, domain, items, items.shape)
            own = np.nonzero(items == answer[:, None])[1]
            counts = _counts(scores, scores[np.arange(len(asked)), own])
            parts.append((*counts, np.empty((len(asked), 0), np.int64)))
            continue
        scores = _scores(scorer, requests, domain, None, (len(asked), len(order)))
        # Laid out by a hash of the raw ids, whatever topk takes among equals is the same choice
        # under any numbering of the items.
        block = np.take(scores, order, axis=1)
        row = np.arange(len(asked))
        own_score = block[row, column[answer]]
        if config.exclude_seen:
            block[seen.rows, column[seen.item]] = -np.inf
            block[row, column[answer]] = own_score
        parts.append((*_counts(block, own_score), _best(block, order, length)))

    above, tied, candidates, top = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Ranking(
        protocol="full" if full else "sampled",
        position=position,
        user=events.user[position],
        answer=events.item[position].astype(np.int64),
        above=above,
        tied=tied,
        candidates=candidates,
        top=top,
        n_items=len(order),
    )


def list_length(cutoffs: list[int]) -> int:
    """Length of the lists kept: the largest cutoff up to 100, or 10 where none is so small."""
    return max((k for k in cutoffs if k <= LONGEST_LIST), default=10)


def canonical_order(dataset: Dataset, domain: int) -> NDArray[np.int64]:
    """Local item indices [n_items] in an order that depends on raw ids alone."""
    raw = dataset.domains[domain].items["item_id"].to_list()
    return np.argsort(user_hash(raw, "item-order"))


def earlier_in(events: Events, position: NDArray[np.int64], domain: int) -> NDArray[np.int64]:
    """Events of the same user in `domain` before each position, int64 [n]."""
    running = np.concatenate([[0], np.cumsum(events.domain == domain)])
    return np.asarray(running[position] - running[events.offsets[events.user[position]]])


def earlier_elsewhere(
    events: Events, position: NDArray[np.int64], domain: int
) -> NDArray[np.int64]:
    """Events of the same user in all other domains before each position, int64 [n]."""
    whole = position - events.offsets[events.user[position]]
    return np.asarray(whole - earlier_in(events, position, domain))


def _as_newcomer(requests: Requests, domain: int) -> Requests:
    """The requests of people of whom nothing is known in `domain`."""
    nobody = np.full(len(requests), -1, np.int64)
    return replace(requests.keep(requests.domain != domain), user=nobody)


def _scores(
    scorer: Scorer,
    requests: Requests,
    domain: int,
    items: NDArray[np.int64] | None,
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    total = scorer.score(requests, domain, items).total
    if total.shape != shape:
        raise RequestError(
            f"scores of shape {total.shape} for expected {shape}", where=f"scorer {scorer.name!r}"
        )
    if np.isnan(total.max()):
        rows = int(np.isnan(total).any(axis=1).sum())
        raise RequestError(
            f"NaN among the scores of {rows} of {len(total)} questions",
            where=f"scorer {scorer.name!r}",
            hint="Check that its training did not diverge, and that no input vector holds NaN",
        )
    return total


def _counts(
    block: NDArray[np.float32], own: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Candidates above each answer's score [batch], tied with it, and offered at all."""
    above = np.count_nonzero(block > own[:, None], axis=1)
    tied = np.count_nonzero(block == own[:, None], axis=1)
    offered = np.count_nonzero(block > -np.inf, axis=1)
    return above, np.where(own > -np.inf, tied, 0), offered


def _best(block: NDArray[np.float32], order: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    import torch  # here, so that reading saved figures does not load it

    values, columns = torch.from_numpy(block).topk(length, dim=1)
    return np.where(values.numpy() > -np.inf, order[columns.numpy()], -1)


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
