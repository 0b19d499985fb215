"""Weights of a blend's parts, from validation, and what validation says of the blend.

What validation says of the blend is cross-fitted: every question is judged under weights that were
fitted on other people. People with a history elsewhere are asked once more as if they were new to
the target: newcomers get weights of their own, since popularity tells more of somebody of whom the
target knows nothing, and the gate knows how a blend serves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.blend.mixture import histories, standardise
from isthmus.config import BlendConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, user_hash
from isthmus.evaluation.slices import cold_users
from isthmus.scoring import Requests, Scorer

LEAST_WEIGHT = 0.01
"""Of any part, so that a question on which only one part has an opinion is ranked by it."""

NEWCOMER_QUESTIONS = 100
"""Least people asked as newcomers for these to get weights of their own."""

CANDIDATES_PER_PART = 100
RANDOM_CANDIDATES = 200
"""What stands for a catalogue while weights are fitted: the best of every part and some others."""

EXACT_RANKS = 20
"""Ranks that the best of every part decide, whatever the random candidates are."""

DEEP = 100
"""Ranks that the gate looks at beside the first ten."""


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
) -> Examples:
    """Ask every part every question about `domain` and keep the candidates that matter.

    With `hide_target_history` the parts see people as if they were new to the domain; what these
    had there is still no candidate.
    """
    position = _about(dataset, queries, domain)
    rng = np.random.default_rng(seed)
    kept = []
    for start in range(0, len(position), batch):
        asked = position[start : start + batch]
        whole = Requests.at(dataset, asked, max_history=max_history)
        visible = whole.as_newcomers(domain) if hide_target_history else whole
        kept.append(_gather_batch(parts, dataset, asked, domain, whole, visible, rng))
    n_candidates = 1 + len(parts) * CANDIDATES_PER_PART + RANDOM_CANDIDATES
    none = np.zeros((0, n_candidates, len(parts)), np.float32)
    scores = np.concatenate([none, *(k[0] for k in kept)])
    stands_for = np.concatenate([none[:, :, 0], *(k[1] for k in kept)])
    return Examples(scores, stands_for, dataset.events.user[position])


def _gather_batch(
    parts: Mapping[str, Scorer],
    dataset: Dataset,
    position: NDArray[np.int64],
    domain: int,
    whole: Requests,
    visible: Requests,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    answer = dataset.events.item[position].astype(np.int64)[:, None]
    n_items = dataset.domains[domain].n_items
    seen = np.zeros((len(position), n_items), bool)
    own = whole.only(domain)
    seen[own.rows, own.item] = True
    np.put_along_axis(seen, answer, False, axis=1)
    standardised = [standardise(part.score(visible, domain).total) for part in parts.values()]
    chosen = [answer]
    for block in standardised:
        top = torch.from_numpy(np.where(seen, -np.inf, block)).topk(
            min(CANDIDATES_PER_PART, n_items)
        )
        best = np.full((len(position), CANDIDATES_PER_PART), -1, np.int64)
        best[:, : top.indices.shape[1]] = top.indices.numpy()
        chosen.append(best)
    chosen.append(rng.integers(0, n_items, (len(position), RANDOM_CANDIDATES)))
    candidates = np.concatenate(chosen, axis=1)
    inside = np.maximum(candidates, 0)
    scores = np.stack([np.take_along_axis(b, inside, axis=1) for b in standardised], axis=2)
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


def fit_weights(examples: Examples, *, ridge: float = 1e-3) -> NDArray[np.float64]:
    """Weights [n_parts] that make the answers likeliest under a softmax over the catalogue.

    Random candidates count for the items that they stand for, which makes it an estimate of the
    whole catalogue's softmax, not of one among the hardest candidates. No part counts against what
    it says: one that would get a negative weight is left out and the others are fitted again.
    """
    n_parts = examples.scores.shape[2]
    kept = np.arange(n_parts)
    fitted = np.full(n_parts, 0.5)
    while len(examples.user) and len(kept):
        fitted = _most_likely(examples.scores[:, :, kept], examples.stands_for, ridge)
        if fitted.min() >= 0:
            break
        kept = np.delete(kept, fitted.argmin())
    weights = np.full(n_parts, LEAST_WEIGHT)
    weights[kept] = np.maximum(fitted[: len(kept)], LEAST_WEIGHT)
    return weights


def _most_likely(
    scores: NDArray[np.float32], stands_for: NDArray[np.float32], ridge: float
) -> NDArray[np.float64]:
    """Weights without a bound on their sign."""
    parts, logarithm = torch.from_numpy(scores), torch.from_numpy(stands_for).log()
    weights = torch.full((scores.shape[2],), 0.5, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = parts @ weights + logarithm
        loss: torch.Tensor = (logits.logsumexp(1) - logits[:, 0]).mean()
        loss = loss + ridge * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach().numpy().astype(np.float64)


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
        )

    examples = ask(queries, as_newcomers=False)
    fold = _folds(dataset, examples.user, config.folds)
    if given is None:
        without = [fit_weights(examples.where(fold != k)) for k in range(config.folds)]
        weights = fit_weights(examples)
    else:
        weights = np.array([given[name] for name in parts])
        without = [weights] * config.folds
    gain, user = _cross_fitted(examples, fold, without), examples.user  # [n, 2], both depths
    own, elsewhere = _carried(dataset, queries, domain, batch, max_history)
    new, new_fold = examples.where(own == 0), fold[own == 0]
    del examples  # the largest thing here, and the next asking needs as much
    known = _about(dataset, queries, domain)[(own > 0) & (elsewhere > 0)]
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


def _about(dataset: Dataset, queries: Queries, domain: int) -> NDArray[np.int64]:
    """Positions of the questions whose answers lie in `domain`."""
    return np.asarray(queries.position[dataset.events.domain[queries.position] == domain])


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
    position = _about(dataset, queries, domain)
    each = [
        histories(Requests.at(dataset, position[s : s + batch], max_history=max_history), domain)
        for s in range(0, len(position), batch)
    ]
    own, elsewhere = ([_none(), *(pair[i] for pair in each)] for i in (0, 1))
    return np.concatenate(own), np.concatenate(elsewhere)
