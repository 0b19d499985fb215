"""One scorer, one split, one target: every metric for every question, slice by slice.

`evaluate` asks the questions as they are, and once more for a fixed share of users with their
target history hidden (the slice `cold users`).
"""

from __future__ import annotations

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
    n_items = dataset.domains[domain].n_items
    train = split.train_events(dataset)
    popularity = popularity_of(train, domain, n_items)

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

    events = dataset.events
    cold = asked.where(
        cold_users(dataset, config.cold_share)[events.user[asked.position]]
        & (events.domain[asked.position] == domain)
        & (earlier_elsewhere(events, asked.position, domain) > 0)
    )
    if len(cold) >= config.min_slice:
        rankings.append(
            rank(scorer, dataset, cold, domain, config=config, hide_target_history=True, seed=seed)
        )
        first, second = (np.zeros(len(r), bool) for r in rankings)
        masks = {name: np.concatenate([mask, second]) for name, mask in masks.items()}
        masks[COLD] = np.concatenate([first, ~second])
    else:
        notes.append(f"{COLD}: {len(cold)} questions, too few to be asked")

    by_ranking = [per_query(r, config.cutoffs, popularity) for r in rankings]
    return Evaluation(
        system=scorer.name,
        target=dataset.names[domain],
        protocol=rankings[0].protocol,
        split=split.name,
        position=np.concatenate([r.position for r in rankings]),
        user=np.concatenate([r.user for r in rankings]),
        values={
            metric: np.concatenate([values[metric] for values in by_ranking])
            for metric in by_ranking[0]
        },
        slices=masks,
        totals=whole_ranking(rankings[0], config.cutoffs),
        n_resamples=config.bootstrap,
        seed=seed,
        notes=tuple(notes),
    )
