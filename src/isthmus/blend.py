"""Several scorers become one, and transfer is let in only as far as validation supports it.

`Blend` adds up the standardised scores of its parts with weights fitted on validation questions.
`Gate` mixes a blend that learnt from all domains with one that learnt from the target alone; its
weight is 0 unless the first ranks validation questions better with enough confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.config import BlendConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, user_hash
from isthmus.evaluation.significance import resampled_means
from isthmus.scoring import Float, Requests, Scorer, Scores, pick

LEAST_WEIGHT = 0.01
"""Of any part, so that a question on which only one part has an opinion is ranked by it."""

CANDIDATES_PER_PART = 100
RANDOM_CANDIDATES = 200
"""What stands for a catalogue while weights are fitted: the best of every part and some others."""


def standardise(scores: Float) -> Float:
    """Scores [batch, n_items] of every part on one scale: z + asinh(z), z with mean 0, deviation 1.

    A row without any spread has no opinion and becomes 0. The sum keeps the far end of a part that
    is sure of few items, such as a near copy by text, and lifts what is a little above the rest in
    one with a heavy tail, such as co-occurrence. On Food–Kitchen validation, cross-fitted, it is
    level with z alone (ahead on two of four targets) and ahead of asinh alone on three of four.
    """
    centred = scores - scores.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    z = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)
    scaled: Float = z + np.arcsinh(z)
    return scaled


class Blend:
    """A weighted sum of standardised parts.

    Args:
        parts: scorers by the name under which their share is reported.
        weights: per domain index, the weight of every part.
        name: how the blend is called in reports.
    """

    def __init__(
        self,
        parts: Mapping[str, Scorer],
        weights: Mapping[int, Mapping[str, float]],
        *,
        name: str = "blend",
    ) -> None:
        self.parts, self.weights, self.name = dict(parts), dict(weights), name

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """Score items of `domain`; `Scores.parts` add up to the total."""
        # Standardising needs the whole catalogue, so candidates are picked afterwards.
        shares = {
            name: pick(
                standardise(part.score(requests, domain).total)
                * np.float32(self.weights[domain][name]),
                items,
            )
            for name, part in self.parts.items()
        }
        return Scores(np.sum(list(shares.values()), axis=0), shares)


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
) -> Examples:
    """Ask every part every question about `domain` and keep the candidates that matter."""
    position = queries.position[dataset.events.domain[queries.position] == domain]
    rng = np.random.default_rng(seed)
    kept = [
        _gather_batch(parts, dataset, position[s : s + batch], domain, max_history, rng)
        for s in range(0, len(position), batch)
    ]
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
    max_history: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    requests = Requests.at(dataset, position, max_history=max_history)
    answer = dataset.events.item[position].astype(np.int64)[:, None]
    n_items = dataset.domains[domain].n_items
    seen = np.zeros((len(position), n_items), bool)
    own = requests.domain == domain
    seen[requests.rows[own], requests.item[own]] = True
    np.put_along_axis(seen, answer, False, axis=1)
    standardised = [standardise(part.score(requests, domain).total) for part in parts.values()]
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
    """NDCG@cutoff of each example under `weights`, [n]; ties count against the answer."""
    total = examples.scores @ weights.astype(np.float32)
    above = ((total[:, 1:] >= total[:, :1]) & (examples.stands_for[:, 1:] > 0)).sum(1)
    return np.where(above < cutoff, 1 / np.log2(above + 2.0), 0.0)


@dataclass(frozen=True)
class FittedWeights:
    """What validation says of a blend.

    Attributes:
        weights: weight of every part.
        gain: float64 [n] NDCG@10 of each question under weights that were fitted on other users.
        user: int64 [n].
    """

    weights: dict[str, float]
    gain: NDArray[np.float64]
    user: NDArray[np.int64]


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
) -> FittedWeights:
    """Weigh the parts on validation questions, cross-fitted over users.

    Args:
        parts: fitted scorers by name.
        dataset: holds the questions' events.
        queries: validation questions that trained nothing else.
        domain: index of the target.
        config: number of folds.
        batch: questions scored at once.
        max_history: latest events that a question carries.
        seed: draws the random candidates.
    """
    examples = gather(
        parts, dataset, queries, domain, batch=batch, max_history=max_history, seed=seed
    )
    salt = user_hash(dataset.user_ids.gather(examples.user).to_list(), "blend-fold")
    fold = np.floor(salt * config.folds)
    gain = np.zeros(len(fold))
    for held_out in range(config.folds):
        mask = fold == held_out
        gain[mask] = gains(examples.where(mask), fit_weights(examples.where(~mask)))
    weights = fit_weights(examples)
    return FittedWeights(dict(zip(parts, weights.tolist(), strict=True)), gain, examples.user)


@dataclass(frozen=True)
class GateDecision:
    """How far transfer is let in for one target.

    Attributes:
        weight: 0 (shut) to 1 (open).
        confidence: probability, over resampled users, that transfer ranks better; NaN untested.
        relative: change of validation NDCG@10 with its 95 % interval, None untested.
        reason: one sentence.
    """

    weight: float
    confidence: float
    relative: tuple[float, float, float] | None
    reason: str


def decide(transferred: FittedWeights, alone: FittedWeights, config: BlendConfig) -> GateDecision:
    """Weigh the evidence that transfer helps.

    The gate is shut up to `gate_from` confidence, wide open from `gate_level` on, and in between
    its weight rises with the confidence.
    """
    if not len(alone.gain):
        reason = "There is no validation question to judge transfer by."
        return GateDecision(0.0 if config.gate else 1.0, np.nan, None, reason)
    columns = np.column_stack([transferred.gain, alone.gain])
    means, draws = resampled_means(columns, alone.user)
    better = draws[:, 0, 0] - draws[:, 0, 1]
    # Resamples that tie speak for neither side.
    confidence = float((better > 0).mean() + 0.5 * (better == 0).mean())
    span = config.gate_level - config.gate_from
    weight = float(np.clip((confidence - config.gate_from) / span, 0, 1)) if config.gate else 1.0
    base = max(means[0, 1], 1e-9)
    relative = draws[:, 0, 0] / np.maximum(draws[:, 0, 1], 1e-9) - 1
    low, high = np.quantile(relative, [0.025, 0.975])
    change = float(means[0, 0] / base - 1)
    verb = "open" if weight == 1 else "shut" if weight == 0 else f"open by {weight:.0%}"
    reason = (
        f"On {len(alone.gain):,} validation questions transfer changes NDCG@10 by {change:+.1%} "
        f"({low:+.1%} to {high:+.1%}); it is better with {confidence:.0%} confidence, "
        f"so the gate is {verb}."
    )
    if not config.gate:
        reason = "The gate is switched off; the transferred model is used as it is."
    return GateDecision(weight, confidence, (change, float(low), float(high)), reason)


class Gated:
    """The transferred and the target-only scorer, mixed by the gate.

    Args:
        transferred: learnt from all domains.
        alone: learnt from the target, per domain index.
        weights: gate weight per domain index; a domain without one uses the transferred scorer.
    """

    name = "gated"

    def __init__(
        self, transferred: Scorer, alone: Mapping[int, Scorer], weights: Mapping[int, float]
    ) -> None:
        self.transferred, self.alone, self.weights = transferred, dict(alone), dict(weights)

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """Score items of `domain`; a side of weight 0 is not asked."""
        weight = np.float32(self.weights.get(domain, 1.0) if domain in self.alone else 1.0)
        if weight == 1:
            return self.transferred.score(requests, domain, items)
        own = self.alone[domain].score(requests, domain, items)
        if weight == 0:
            return own
        other = self.transferred.score(requests, domain, items)
        shares = {
            name: weight * other.parts[name] + (1 - weight) * own.parts[name] for name in own.parts
        }
        return Scores(weight * other.total + (1 - weight) * own.total, shares)
