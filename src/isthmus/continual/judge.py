"""Champion against challenger, on events that neither has learnt.

Both answer the same questions, asked in the moment before each event with everything the person
had done by then. The challenger is no worse where a bootstrap over people is confident enough that
it keeps at least `1 - margin` of the champion's NDCG@100: over all domains together at the
configured confidence, and in no single domain may the opposite be 95 % certain. The margin is for
what chance may hide: where the whole 95 % interval of the change is below 0, it is worse. Too few
questions, or too few people who ask them, say nothing.

A cutoff of 100, not 10: several times as many answers are seen, so that the questions of one night
tell more, and the places that count most are still the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.evaluation.significance import resampled_means
from isthmus.scoring import Scorer

CUTOFF = 100
"""Of the NDCG that decides."""

HARM_LEVEL = 0.95
"""How sure it must be that a domain is worse off to keep a challenger back on that account."""


@dataclass(frozen=True)
class Gains:
    """NDCG of the served lists, question by question.

    Attributes:
        value: float64 [n].
        domain: int64 [n].
        user: int64 [n].
        time: float64 [n] Unix seconds, NaN where unknown.
    """

    value: NDArray[np.float64]
    domain: NDArray[np.int64]
    user: NDArray[np.int64]
    time: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison.

    Attributes:
        no_worse: whether the challenger may go live.
        reason: why, in words.
        n_questions: asked of both.
        n_people: who asked.
        champion: mean NDCG@100; NaN where too little was asked.
        challenger: likewise.
        confidence: that the challenger keeps `1 - margin` of it; NaN where too little was asked.
        relative: change with its 95 % interval; None where too little was asked, or the champion
            finds nothing.
    """

    no_worse: bool
    reason: str
    n_questions: int = 0
    n_people: int = 0
    champion: float = np.nan
    challenger: float = np.nan
    confidence: float = np.nan
    relative: tuple[float, float, float] | None = None


def served_gains(
    scorer: Scorer, dataset: Dataset, queries: Queries, config: Config, *, cutoff: int = CUTOFF
) -> Gains:
    """Ask a scorer questions about any domains; `gains_at` with one cutoff."""
    return gains_at(scorer, dataset, queries, config, [cutoff])[0]


def gains_at(
    scorer: Scorer, dataset: Dataset, queries: Queries, config: Config, cutoffs: Sequence[int]
) -> list[Gains]:
    """Ask a scorer questions about any domains, once for all cutoffs.

    Args:
        scorer: whole system, over the catalogues of `dataset`.
        dataset: holds the questions' events.
        queries: the questions.
        config: batch and history length are those of evaluation; the whole catalogue is ranked.
        cutoffs: of the NDCG.

    Returns:
        One for each cutoff.
    """
    events = dataset.events
    protocol = config.evaluation.model_copy(update={"candidates": None})
    asked = [
        rank(scorer, dataset, queries, d, config=protocol, lists=False)
        for d in np.unique(events.domain[queries.position]).tolist()
    ]
    position, user = (
        np.concatenate([np.empty(0, np.int64), *(getattr(ranking, name) for ranking in asked)])
        for name in ("position", "user")
    )
    values = [per_query(ranking, cutoffs) for ranking in asked]
    return [
        Gains(
            np.concatenate([np.empty(0), *(value[f"ndcg@{cutoff}"] for value in values)]),
            events.domain[position].astype(np.int64),
            user,
            events.time[position],
        )
        for cutoff in cutoffs
    ]


def judge(champion: Gains, challenger: Gains, names: tuple[str, ...], config: Config) -> Verdict:
    """Whether the challenger is no worse.

    Args:
        champion: on the newest questions.
        challenger: on the same ones.
        names: of the domains.
        config: margin, confidence, and how much must be asked.
    """
    settings = config.learning
    if not len(champion):
        return Verdict(False, "Nothing was asked lately that both could be judged by.")
    people, least = len(np.unique(champion.user)), settings.least_judged
    if len(champion) < least or 2 * people < least:
        return Verdict(
            False,
            f"{len(champion):,} questions of {people:,} people are too few to judge by: "
            f"learning.least_judged asks for {least:,} of {-(-least // 2):,}.",
            n_questions=len(champion),
            n_people=people,
        )
    columns = np.column_stack([challenger.value, champion.value])
    # Bootstrap of relative change over people; all of a person's questions come along.
    domains = np.unique(champion.domain)
    masks = np.column_stack([np.ones(len(columns), bool), *(champion.domain == d for d in domains)])
    means, draws = resampled_means(
        columns, champion.user, masks, n_resamples=config.evaluation.bootstrap
    )
    kept = draws[..., 0] - (1 - settings.margin) * draws[..., 1]
    confidence = float((kept[:, 0] >= 0).mean())
    harmed = [
        names[d]
        for column, d in enumerate(domains, 1)
        if (kept[:, column] < 0).sum() > HARM_LEVEL * np.isfinite(kept[:, column]).sum()
    ]
    relative = _relative(means[0], draws[:, 0])
    worse = float(np.quantile(draws[:, 0, 0] - draws[:, 0, 1], 0.975)) < 0
    moved = f"has NDCG@{CUTOFF} {means[0, 0]:.4f} where the one before has {means[0, 1]:.4f}"
    if relative is not None:
        change, low, high = relative
        moved = f"changes NDCG@{CUTOFF} by {change:+.1%} ({low:+.1%} to {high:+.1%})"
    said = (
        f"On the newest {len(columns):,} questions of {people:,} people it {moved}; "
        f"that it keeps all but {settings.margin:.0%} is {confidence:.0%} certain, and "
        f"{settings.confidence:.0%} is asked for"
    )
    if worse:
        said += "; that it is worse is beyond chance"
    if harmed:
        said += f"; {' and '.join(harmed)} would be worse off"
    return Verdict(
        no_worse=confidence >= settings.confidence and not harmed and not worse,
        reason=f"{said}.",
        n_questions=len(columns),
        n_people=people,
        champion=float(means[0, 1]),
        challenger=float(means[0, 0]),
        confidence=confidence,
        relative=relative,
    )


def _relative(
    means: NDArray[np.float64], draws: NDArray[np.float64]
) -> tuple[float, float, float] | None:
    """Change of the first of two means [2] against the second, with the interval of draws [n, 2].

    Two that are 0 do not differ; None where the second is 0 alone, there or at an end.
    """
    pairs = np.vstack([means, draws])
    changed = np.where(pairs[:, 0] > 0, np.inf, 0.0)
    some = pairs[:, 1] > 0
    changed[some] = pairs[some, 0] / pairs[some, 1] - 1
    with np.errstate(invalid="ignore"):  # between two that have no bound
        low, high = np.quantile(changed[1:], [0.025, 0.975])
    found = float(changed[0]), float(low), float(high)
    return found if np.isfinite(found).all() else None
