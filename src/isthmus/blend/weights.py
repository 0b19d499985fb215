"""What validation says of a blend: weights of its parts, and how well they serve.

What validation says of the blend is cross-fitted: every question is judged under weights that were
fitted on other people. People with a history elsewhere are asked once more as if they were new to
the target: newcomers get weights of their own, since popularity tells more of somebody of whom the
target knows nothing, and the gate knows how a blend serves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isthmus.blend.examples import Examples, about, gather
from isthmus.blend.fitting import Rivals, fit_weights
from isthmus.blend.mixture import histories
from isthmus.config import BlendConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, user_hash
from isthmus.evaluation.slices import cold_users
from isthmus.scoring import Requests, Scorer

NEWCOMER_QUESTIONS = 100
"""Least people asked as newcomers for these to get weights of their own."""

EXACT_RANKS = 20
"""Ranks that the best of every part decide, whatever the random candidates are."""

DEEP = 100
"""Ranks that the gate looks at beside the first ten."""


def gains(
    examples: Examples, weights: NDArray[np.float64], cutoff: int = 10
) -> NDArray[np.float64]:
    """NDCG@cutoff of each example under `weights`, [n]; ties count against the answer.

    Beyond the first few ranks a random candidate above the answer counts for all it stands for.
    """
    total = examples.scores @ weights.astype(np.float32)
    stands_for = examples.stands_for[:, 1:]
    each = (stands_for > 0) if cutoff <= EXACT_RANKS else stands_for
    above = ((total[:, 1:] >= total[:, :1]) * each).sum(1)
    return np.where(above < cutoff, 1 / np.log2(above + 2.0), 0.0)


def _none() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class FittedWeights:
    """What validation says of a blend.

    Attributes:
        weights: weight of every part.
        gain: float64 [n] NDCG@10 of each question under weights that were fitted on other users.
        user: int64 [n].
        own: int64 [n] events in the target that the question carries; empty where not kept.
        elsewhere: int64 [n] events in other domains that it carries; empty where not kept.
        newcomer_gain: float64 [m] like `gain`, for questions asked again with the person's target
            history hidden.
        newcomer_user: int64 [m].
        deep_gain: float64 [n] like `gain`, NDCG@100; empty where not kept.
        newcomer_deep_gain: float64 [m] likewise.
        newcomer_weights: weight of every part for people new to the target; None where too few
            questions could be asked to tell.
    """

    weights: dict[str, float]
    gain: NDArray[np.float64]
    user: NDArray[np.int64]
    own: NDArray[np.int64] = field(default_factory=_none)
    elsewhere: NDArray[np.int64] = field(default_factory=_none)
    newcomer_gain: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    newcomer_user: NDArray[np.int64] = field(default_factory=_none)
    deep_gain: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    newcomer_deep_gain: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    newcomer_weights: dict[str, float] | None = None


def fit_blend(
    parts: Mapping[str, Scorer],
    dataset: Dataset,
    queries: Queries,
    domain: int,
    config: BlendConfig,
    *,
    batch: int,
    max_history: int,
    seed: int,
    exclude_seen: bool = True,
    given: Mapping[str, float] | None = None,
) -> FittedWeights:
    """Weigh the parts on validation questions, cross-fitted over users.

    Args:
        parts: fitted scorers by name.
        dataset: holds the questions' events.
        queries: validation questions that trained nothing else.
        domain: index of the target.
        config: number of folds, and who is asked again as a newcomer.
        batch: questions scored at once.
        max_history: latest events that a question carries.
        seed: draws the random candidates.
        exclude_seen: whether items in the history are no candidates, as in the evaluation.
        given: weights that are only to be judged; None fits them.
    """

    def ask(some: Queries, *, as_newcomers: bool) -> Examples:
        return gather(
            parts,
            dataset,
            some,
            domain,
            batch=batch,
            max_history=max_history,
            seed=seed,
            hide_target_history=as_newcomers,
            exclude_seen=exclude_seen,
        )

    examples = ask(queries, as_newcomers=False)
    fold = _folds(dataset, examples.user, config.folds)
    if given is None:
        rivals = Rivals.of(examples)
        weights = fit_weights(rivals)
        without = [fit_weights(rivals.where(fold != k)) for k in range(config.folds)]
        del rivals
    else:
        weights = np.array([given[name] for name in parts])
        without = [weights] * config.folds
    gain, user = _cross_fitted(examples, fold, without), examples.user  # [n, 2], both depths
    own, elsewhere = _carried(dataset, queries, domain, batch, max_history)
    new, new_fold = examples.where(own == 0), fold[own == 0]
    del examples  # the largest thing here, and the next asking needs as much
    known = about(dataset, queries, domain)[(own > 0) & (elsewhere > 0)]
    again = known[cold_users(dataset, config.cold_share)[dataset.events.user[known]]]
    newcomers = ask(Queries(again), as_newcomers=True)
    fold = _folds(dataset, newcomers.user, config.folds)
    special = None
    if given is None and len(np.unique(newcomers.user)) >= NEWCOMER_QUESTIONS:
        special = _for_newcomers(newcomers, weights)
        without = [
            _for_newcomers(newcomers.where(fold != k), usual) for k, usual in enumerate(without)
        ]
        # Who is new as they are will be served by these weights, so they are judged by them.
        gain[own == 0] = _cross_fitted(new, new_fold, without)
    hidden = _cross_fitted(newcomers, fold, without)
    return FittedWeights(
        weights=dict(zip(parts, weights.tolist(), strict=True)),
        gain=gain[:, 0],
        user=user,
        own=own,
        elsewhere=elsewhere,
        newcomer_gain=hidden[:, 0],
        newcomer_user=newcomers.user,
        deep_gain=gain[:, 1],
        newcomer_deep_gain=hidden[:, 1],
        newcomer_weights=(
            None if special is None else dict(zip(parts, special.tolist(), strict=True))
        ),
    )


def _for_newcomers(examples: Examples, usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights fitted on hidden histories; parts that have no opinion then keep the usual ones."""
    silent = ~examples.scores.any(axis=(0, 1))
    return np.where(silent, usual, fit_weights(examples))


def _folds(dataset: Dataset, user: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Cross-fitting fold of each question [n], by a hash of its user."""
    salt = user_hash(dataset.user_ids.gather(user).to_list(), "blend-fold")
    return np.asarray(np.floor(salt * folds), np.int64)


def _cross_fitted(
    examples: Examples, fold: NDArray[np.int64], without: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """NDCG@10 and @100 of each example under weights fitted without its fold, [n, 2]."""
    gain = np.zeros((len(fold), 2))
    for held_out, weights in enumerate(without):
        mask = fold == held_out
        asked = examples.where(mask)
        gain[mask] = np.column_stack([gains(asked, weights, cutoff) for cutoff in (10, DEEP)])
    return gain


def _carried(
    dataset: Dataset, queries: Queries, domain: int, batch: int, max_history: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`histories` of the questions about `domain`."""
    position = about(dataset, queries, domain)
    each = [
        histories(Requests.at(dataset, position[s : s + batch], max_history=max_history), domain)
        for s in range(0, len(position), batch)
    ]
    own, elsewhere = ([_none(), *(pair[i] for pair in each)] for i in (0, 1))
    return np.concatenate(own), np.concatenate(elsewhere)
