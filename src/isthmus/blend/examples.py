"""What every part of a blend says of a validation question's answer and of its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.blend.mixture import standardise
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries
from isthmus.scoring import Requests, Scorer

CANDIDATES_PER_PART = 100
RANDOM_CANDIDATES = 200
"""What stands for a catalogue while weights are fitted: the best of every part and some others."""


@dataclass(frozen=True)
class Examples:
    """Validation questions with what every part says of a few candidates.

    Attributes:
        scores: float32 [n, n_candidates, n_parts] standardised; the answer stands first.
        stands_for: float32 [n, n_candidates] items that a candidate speaks for: 1 for the answer
            and the best of each part, more for random ones, 0 where it was seen or appears twice.
        user: int64 [n].
    """

    scores: NDArray[np.float32]
    stands_for: NDArray[np.float32]
    user: NDArray[np.int64]

    def where(self, mask: NDArray[np.bool_]) -> Examples:
        """The questions where `mask` [n] is true."""
        return Examples(self.scores[mask], self.stands_for[mask], self.user[mask])


def gather(
    parts: Mapping[str, Scorer],
    dataset: Dataset,
    queries: Queries,
    domain: int,
    *,
    batch: int,
    max_history: int,
    seed: int,
    hide_target_history: bool = False,
    exclude_seen: bool = True,
) -> Examples:
    """Ask every part every question about `domain` and keep the candidates that matter.

    With `hide_target_history` the parts see people as if they were new to the domain; what these
    had there is still no candidate. Without `exclude_seen` it is one, in every question.
    """
    position = about(dataset, queries, domain)
    rng = np.random.default_rng(seed)
    kept = []
    for start in range(0, len(position), batch):
        asked = position[start : start + batch]
        whole = Requests.at(dataset, asked, max_history=max_history)
        visible = whole.as_newcomers(domain) if hide_target_history else whole
        answer = dataset.events.item[asked].astype(np.int64)[:, None]
        seen = np.zeros((len(asked), dataset.domains[domain].n_items), bool)
        if exclude_seen:
            own = whole.only(domain)
            seen[own.rows, own.item] = True
            np.put_along_axis(seen, answer, False, axis=1)
        kept.append(_gather_batch(parts, visible, domain, answer, seen, rng))
    n_candidates = 1 + len(parts) * CANDIDATES_PER_PART + RANDOM_CANDIDATES
    none = np.zeros((0, n_candidates, len(parts)), np.float32)
    scores = np.concatenate([none, *(k[0] for k in kept)])
    stands_for = np.concatenate([none[:, :, 0], *(k[1] for k in kept)])
    return Examples(scores, stands_for, dataset.events.user[position])


def _gather_batch(
    parts: Mapping[str, Scorer],
    visible: Requests,
    domain: int,
    answer: NDArray[np.int64],
    seen: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores and what they stand for; `answer` is [n, 1], and `seen` [n, n_items] no candidate."""
    n_items = seen.shape[1]
    standardised = [standardise(part.score(visible, domain).total) for part in parts.values()]
    chosen = [answer]
    for block in standardised:
        top = torch.from_numpy(np.where(seen, -np.inf, block)).topk(
            min(CANDIDATES_PER_PART, n_items)
        )
        best = np.full((len(answer), CANDIDATES_PER_PART), -1, np.int64)
        best[:, : top.indices.shape[1]] = top.indices.numpy()
        chosen.append(best)
    chosen.append(rng.integers(0, n_items, (len(answer), RANDOM_CANDIDATES)))
    candidates = np.concatenate(chosen, axis=1)
    inside = np.maximum(candidates, 0)
    where = torch.from_numpy(inside)
    said = [torch.from_numpy(block).gather(1, where) for block in standardised]
    scores = torch.stack(said, dim=2).numpy()
    valid = (candidates >= 0) & ~np.take_along_axis(seen, inside, axis=1) & _first(candidates)
    random = np.arange(candidates.shape[1]) >= candidates.shape[1] - RANDOM_CANDIDATES
    others = n_items - (valid & ~random).sum(1) - seen.sum(1)
    drawn = np.maximum((valid & random).sum(1), 1)
    each = np.where(random, np.maximum(others / drawn, 0)[:, None], 1.0)
    return scores, np.where(valid, each, 0.0).astype(np.float32)


def _first(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where a value [n, m] stands for the first time in its row."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones_like(values, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first


def about(dataset: Dataset, queries: Queries, domain: int) -> NDArray[np.int64]:
    """Positions of the questions whose answers lie in `domain`."""
    return np.asarray(queries.position[dataset.events.domain[queries.position] == domain])
