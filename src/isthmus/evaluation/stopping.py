"""The one figure that training watches to know when to stop, and the questions behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isthmus.config import EvaluationConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Scorer


def fixed_sample(dataset: Dataset, queries: Queries, domain: int, most: int) -> Queries:
    """At most `most` of the questions about a domain, by its index; always the same choice."""
    position = queries.position[dataset.events.domain[queries.position] == domain]
    if len(position) > most:
        position = np.sort(np.random.default_rng(0).choice(position, most, replace=False))
    return Queries(position)


def mean_ndcg(
    scorer: Scorer,
    dataset: Dataset,
    questions: Mapping[int, Queries],
    config: EvaluationConfig,
) -> float | None:
    """NDCG@10 as a mean over domains, so that a large one does not decide alone.

    Args:
        scorer: whom to ask, as trained so far.
        dataset: holds the questions' events.
        questions: by index of the domain that their answers lie in.
        config: protocol and batch.

    Returns:
        None where there is no question.
    """
    rankings = [
        rank(scorer, dataset, asked, domain, config=config, lists=False)
        for domain, asked in questions.items()
    ]
    gains = [per_query(ranking, [10])["ndcg@10"].mean() for ranking in rankings]
    return float(np.mean(gains)) if gains else None
