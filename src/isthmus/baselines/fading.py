"""Whether what followed what lately counts for more, by what held-back questions say of it.

A cut in time lies behind all that is counted, and there a catalogue may be one of fashions, or one
in which what once went together still does. Leave-one-out asks in the midst of what is counted, so
there nothing is old.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.baselines.cooccurrence import CoOccurrence, CoOccurrenceConfig
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.evaluation.significance import resampled_means
from isthmus.evaluation.stopping import fixed_sample

CONFIDENT = 0.9
"""Share of resamples of people in which fading answers better, for it to be taken."""


def fit_fading(
    dataset: Dataset,
    split: Split,
    config: CoOccurrenceConfig,
    settings: Config,
    *,
    reads: Sequence[int],
    domains: Sequence[int],
    fades_to: float,
) -> CoOccurrence:
    """Count what a split lets know; pairs fade where that answers better with 90 % confidence.

    The questions are those that stop training, so that a blend and its gate are judged by people
    who chose nothing; NDCG@10 decides.

    Args:
        dataset: the snapshot.
        split: what may be counted, and the questions.
        config: everything but `fades_to`.
        settings: how many questions are asked, and how.
        reads: indices of the domains whose events count.
        domains: indices of those that are asked about.
        fades_to: what an old pair counts beside a new one, where they fade.

    Returns:
        The fitted scorer; its `config` says what fades.
    """
    known = split.known(dataset) & np.isin(dataset.events.domain, reads)
    events, learnt = dataset.events.keep(known), split.in_train[known]

    def fit(fading: set[int]) -> CoOccurrence:
        each = [fades_to if d in fading else 1.0 for d in range(max(fading, default=-1) + 1)]
        ours = config.model_copy(update={"fades_to": tuple(each)})
        return CoOccurrence.fit(dataset, events, ours, learnt=learnt)

    steady = fit(set())
    if split.name != "global":
        return steady
    most = settings.training.stopping_questions
    asked = {d: fixed_sample(dataset, split.stopping, d, most) for d in domains}
    asked = {d: questions for d, questions in asked.items() if len(questions)}
    if not asked:
        return steady
    fading = fit(set(asked))

    def surely_better(d: int) -> bool:
        before, after = (
            rank(scorer, dataset, asked[d], d, config=settings.evaluation, lists=False)
            for scorer in (steady, fading)
        )
        gain, usual = (per_query(ranking, [10])["ndcg@10"] for ranking in (after, before))
        _, draws = resampled_means((gain - usual)[:, None], after.user)
        return bool((draws > 0).mean() >= CONFIDENT)

    better = {d for d in asked if surely_better(d)}
    return fading if len(better) == len(asked) else fit(better) if better else steady
