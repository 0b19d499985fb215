"""One scorer, one split, one target: every metric for every question, slice by slice.

`evaluate` asks the questions as they are, and once more for a fixed share of users with their
target history hidden (the slice `cold users`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.config import EvaluationConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split
from isthmus.evaluation.metrics import per_query, popularity_of, whole_ranking
from isthmus.evaluation.ranks import earlier_elsewhere, rank
from isthmus.evaluation.result import Evaluation
from isthmus.evaluation.slices import COLD, cold_users, kept_slices, slice_masks
from isthmus.scoring import Scorer

QueryName = Literal["stopping", "tuning", "validation", "test"]


def evaluate(
    scorer: Scorer,
    dataset: Dataset,
    split: Split,
    domain: int,
    *,
    config: EvaluationConfig,
    queries: QueryName = "test",
    hidden: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure a scorer on the questions of a split whose answers lie in `domain`.

    Args:
        scorer: a fitted system.
        dataset: what the split divides.
        split: gives the questions, and the training events that define new and popular items.
        domain: index of the target domain.
        config: protocol, cutoffs, slices and resamples.
        queries: which questions; `test` is to be asked once.
        hidden: bool [n_events], events of the target that no history shows, see
            `data.thinning`; people are then told apart by whether the target still knows them.
        seed: draws sampled candidates and resamples of users.

    Raises:
        DataError: the split holds no question about this target.
        RequestError: the scorer gives NaN or scores of the wrong shape.
    """
    asked: Queries = getattr(split, queries)
    train = split.train_events(dataset)
    popularity = popularity_of(train, domain, dataset.domains[domain].n_items)
    rankings = [rank(scorer, dataset, asked, domain, config=config, hidden=hidden, seed=seed)]
    slices = slice_masks(
        dataset,
        rankings[0].position,
        domain,
        popularity,
        min_slice=config.min_slice,
        hidden=hidden,
    )
    masks, notes = dict(slices.masks), list(slices.notes)
    if hidden is not None:
        known = np.isin(rankings[0].user, train.user[train.domain == domain])
        kept = kept_slices(known, min_slice=config.min_slice)
        masks |= kept.masks
        notes += kept.notes

    cold = _cold_questions(dataset, asked, domain, config.cold_share)
    if len(cold) >= config.min_slice:
        rankings.append(
            rank(scorer, dataset, cold, domain, config=config, hide_target_history=True, seed=seed)
        )
        masks = _with_cold(masks, *map(len, rankings))
    else:
        notes.append(f"{COLD}: {len(cold)} questions, too few to be asked")

    return Evaluation(
        system=scorer.name,
        target=dataset.names[domain],
        protocol=rankings[0].protocol,
        split=split.name,
        position=np.concatenate([r.position for r in rankings]),
        user=np.concatenate([r.user for r in rankings]),
        values=_joined([per_query(r, config.cutoffs, popularity) for r in rankings]),
        slices=masks,
        totals=whole_ranking(rankings[0], config.cutoffs),
        n_resamples=config.bootstrap,
        seed=seed,
        notes=tuple(notes),
    )


def _cold_questions(dataset: Dataset, asked: Queries, domain: int, share: float) -> Queries:
    """Those about `domain` of a fixed share of users who have a history elsewhere."""
    events = dataset.events
    return asked.where(
        cold_users(dataset, share)[events.user[asked.position]]
        & (events.domain[asked.position] == domain)
        & (earlier_elsewhere(events, asked.position, domain) > 0)
    )


def _with_cold(
    masks: Mapping[str, NDArray[np.bool_]], n_asked: int, n_again: int
) -> dict[str, NDArray[np.bool_]]:
    """Slices over questions and those asked again, [n_asked + n_again], which are COLD alone."""
    again = np.zeros(n_again, bool)
    return {
        **{name: np.concatenate([mask, again]) for name, mask in masks.items()},
        COLD: np.concatenate([np.zeros(n_asked, bool), ~again]),
    }


def _joined(
    values: Sequence[Mapping[str, NDArray[np.float64]]],
) -> dict[str, NDArray[np.float64]]:
    """Values of each metric, one ranking after the other."""
    return {name: np.concatenate([each[name] for each in values]) for name in values[0]}
