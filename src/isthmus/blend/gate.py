"""The gate: for whom the transferred blend is let in beside the target-only one, and how far.

People are grouped by how much they have done in the target so far, and by whether they have done
anything elsewhere. Each group is judged by the validation questions of its people, its figure drawn
towards the whole target's as far as noise explains the difference (`shrinkage.py`). People new to
the target are a group of their own kind: validation holds few, so everybody with a history
elsewhere is asked again as one.

That flatters transfer: a network that has learnt what somebody took in the target after what they
did elsewhere remembers some of it. On half of Food-Kitchen, with histories elsewhere that are
somebody else's, it gains 6 and 8 % of NDCG@100 among these people and -4 and 1 % among people whom
it does not know; with their own, food gains 18 and 13 % (`benchmarks/newcomers.py`). Not to learn
it of a fifth of the people, and to judge by these, was tried: they are too few to tell where there
are few questions, and with a tenth of the people food gained 17 % of NDCG@10 instead of 24 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.blend.mixture import histories
from isthmus.blend.shrinkage import Mask, Uplifts, Values
from isthmus.blend.weights import FittedWeights
from isthmus.config import BlendConfig
from isthmus.scoring import Float, Requests, Scorer, Scores

Change = tuple[float, float, float]
"""A relative change with both ends of its 95 % interval."""

LENGTHS = 3
"""Most groups by length of the target history, beside people who have none. People with a history
elsewhere and people without one are cut apart, each by their own lengths."""

FROM_NOTHING = 1000.0
"""Relative change above which no figure is told: what it is relative to is no success at all."""

NEWCOMERS_SPREAD = 0.2
"""By how much newcomers are taken to gain more or less than the others: a standard deviation of the
logarithm of the ratio. On real data the two lie .1 (Food and Kitchen) to 2.3 apart (Beauty, Toys)
beyond noise, for to somebody new the target alone can only name what is popular."""


@dataclass(frozen=True)
class SliceGate:
    """How far transfer is let in for people who have done about as much.

    Attributes:
        least: fewest events in the target that put somebody here.
        most: most such events, None without a bound.
        elsewhere: whether they have done anything in other domains.
        weight: 0 (shut) to 1 (open).
        n: validation questions judged by, those asked again as newcomers included.
        asked_again: how many of them were asked again as newcomers.
        confidence: probability that transfer ranks better for them, after shrinkage; None where
            they are too few to be judged and share the whole target's decision.
        measured: change of validation NDCG@10 among them; None likewise.
        shrunk: the same drawn towards the whole target's, which decides; None likewise.
    """

    least: int
    most: int | None
    elsewhere: bool
    weight: float
    n: int = 0
    asked_again: int = 0
    confidence: float | None = None
    measured: Change | None = None
    shrunk: Change | None = None

    def holds(self, own: NDArray[np.int64], elsewhere: NDArray[np.int64]) -> Mask:
        """Who is meant, bool [batch], by events in the target and elsewhere."""
        high = np.inf if self.most is None else self.most
        alike = (elsewhere > 0) == self.elsewhere
        return np.asarray((own >= self.least) & (own <= high) & alike)

    def people(self, target: str) -> str:
        """Who they are, in words: "people with 1–3 events in gear and a history elsewhere"."""
        if self.most == 0:
            return f"people new to {target}" if self.elsewhere else "people without any history"
        if self.most is None:
            many = "any" if self.least == 1 else f"{self.least} or more"
        else:
            many = f"{self.least}" if self.least == self.most else f"{self.least}–{self.most}"
        events = "event" if many == "1" else "events"
        beside = "a history" if self.elsewhere else "none"
        return f"people with {many} {events} in {target} and {beside} elsewhere"


@dataclass(frozen=True)
class GateDecision:
    """How far transfer is let in for one target.

    Attributes:
        weight: 0 (shut) to 1 (open), the mean over validation questions.
        confidence: probability, over resampled users, that transfer ranks better; NaN untested.
        relative: change of validation NDCG@10 with its 95 % interval, None untested.
        reason: what it rests on, in words.
        slices: the decision for each group of people; empty: `weight` is everybody's.
    """

    weight: float
    confidence: float = np.nan
    relative: Change | None = None
    reason: str = ""
    slices: tuple[SliceGate, ...] = ()

    def weights(self, requests: Requests, domain: int) -> Float:
        """The weight of each request, float32 [batch], by the history that it carries."""
        if (one := self.everywhere) is not None:
            return np.full(len(requests), one, np.float32)
        found = np.full(len(requests), self.weight, np.float32)
        own, elsewhere = histories(requests, domain)
        for part in self.slices:
            found[part.holds(own, elsewhere)] = part.weight
        return found

    @property
    def everywhere(self) -> float | None:
        """The weight if it is one and the same for everybody, else None."""
        weights = {part.weight for part in self.slices} or {self.weight}
        return weights.pop() if len(weights) == 1 else None


def decide(
    transferred: FittedWeights,
    alone: FittedWeights,
    config: BlendConfig,
    *,
    target: str = "the target",
    what: str = "transfer",
) -> GateDecision:
    """Weigh the evidence that transfer helps, for all and for each group of people.

    The gate is shut up to `gate_from` confidence, wide open from `gate_level` on, and in between
    its weight rises with the confidence. Groups with fewer than `slice_users` validation users
    share the decision for all.

    Args:
        transferred: what validation says of the blend that learnt from all domains.
        alone: the same of the target-only blend, on the same questions.
        config: thresholds.
        target: name of the domain, for the reason.
        what: what `transferred` has and `alone` has not, likewise.
    """
    if not len(alone.gain):
        reason = f"There is no validation question to judge {what} by."
        return GateDecision(0.0 if config.gate else 1.0, reason=reason)
    both = np.column_stack([transferred.gain, alone.gain])
    deeper = _side_by_side(transferred.deep_gain, alone.deep_gain)
    everybody = np.ones(len(both), bool)
    uplifts = Uplifts.measure(both, deeper, alone.user, everybody, np.empty((len(both), 0), bool))
    confidence = _confidence(uplifts.told.draws[:, 0])
    weight = _weight(confidence, config)
    change = _change(uplifts.top.value[0], uplifts.top.draws[:, 0])
    if not config.gate:
        reason = f"The gate is switched off, and {what} is let in wholly."
        return GateDecision(1.0, confidence, change, reason)
    slices = _judged(transferred, alone, config, weight)
    told = ", ranks down to 100 considered," if len(deeper) else ""
    reason = (
        f"On {len(alone.gain):,} validation questions {what} changes NDCG@10 by "
        f"{_words(change)}; it is better{told} with {confidence:.0%} confidence, so the gate is "
        f"{_state(weight)}{_exceptions(slices, weight, target)}."
    )
    if len({part.weight for part in slices}) > 1:
        served = sum(part.weight * (part.n - part.asked_again) for part in slices)
        weight = served / len(alone.gain)
    elif slices:
        weight = slices[0].weight
    return GateDecision(weight, confidence, change, reason, slices)


def _judged(
    transferred: FittedWeights, alone: FittedWeights, config: BlendConfig, fallback: float
) -> tuple[SliceGate, ...]:
    """Every group with its weight; none where either side did not keep what it takes."""
    if not len(transferred.own) == len(alone.own) == len(alone.gain):
        return ()
    again = len(alone.newcomer_gain)
    as_asked = np.arange(len(alone.gain) + again) < len(alone.gain)
    own = np.concatenate([alone.own, np.zeros(again, np.int64)])
    elsewhere = np.concatenate([alone.elsewhere, np.ones(again, np.int64)])
    user = np.concatenate([alone.user, alone.newcomer_user])
    groups = []
    for beside in (True, False):
        mine = (alone.elsewhere > 0) == beside
        cut = lengths(alone.own[mine], alone.user[mine], config.slice_users)
        groups += [SliceGate(low, high, beside, fallback) for low, high in [(0, 0), *cut]]
    masks = [group.holds(own, elsewhere) for group in groups]
    groups = [
        replace(group, n=int(mask.sum()), asked_again=int((mask & ~as_asked).sum()))
        for group, mask in zip(groups, masks, strict=True)
    ]
    enough = [g for g, m in enumerate(masks) if len(np.unique(user[m])) >= config.slice_users]
    if not enough:
        return tuple(groups)
    sides = (transferred, alone)
    uplifts = Uplifts.measure(
        _side_by_side(*(np.concatenate([s.gain, s.newcomer_gain]) for s in sides)),
        _side_by_side(*(np.concatenate([s.deep_gain, s.newcomer_deep_gain]) for s in sides)),
        user,
        as_asked,
        np.column_stack([masks[g] for g in enough]),
    )
    new = np.array([groups[g].most == 0 for g in enough])
    # People with a history in the target are alike enough to tell of each other; people without
    # one get recommendations of another kind, so each group of them is a family of its own.
    families = [(np.flatnonzero(~new), 0.0)]
    families += [(family, NEWCOMERS_SPREAD) for family in np.flatnonzero(new)[:, None]]
    for family, least in families:
        if not len(family):
            continue
        found = uplifts.shrunk(family, least_spread=least)
        for column, value, draws in zip(family, *found, strict=True):
            confidence = _confidence(draws)
            groups[enough[column]] = replace(
                groups[enough[column]],
                weight=_weight(confidence, config),
                confidence=confidence,
                measured=_change(uplifts.top.value[1 + column], uplifts.top.draws[:, 1 + column]),
                shrunk=_change(value, draws),
            )
    return tuple(groups)


def lengths(
    own: NDArray[np.int64], user: NDArray[np.int64], slice_users: int
) -> list[tuple[int, int | None]]:
    """Groups by length of a target history that is not empty, as (least, most) events.

    At most `LENGTHS`, of about as many questions each, and no more than leave each twice the
    `slice_users` people that it takes, for they are never of quite one size.

    Args:
        own: int64 [n] events in the target that each question carries.
        user: int64 [n].
        slice_users: least people of a group that is judged.
    """
    n_groups = min(LENGTHS, len(np.unique(user[own > 0])) // (2 * slice_users))
    length, count = np.unique(own[own > 0], return_counts=True)
    # A length has many questions, so a cut falls where it comes nearest to an equal part.
    ends = {
        int(length[np.abs(count.cumsum() / count.sum() - part / n_groups).argmin()])
        for part in range(1, n_groups)
    }
    inner = sorted(ends - set(length[-1:].tolist()))
    return list(zip([1, *(end + 1 for end in inner)], [*inner, None], strict=True))


def _side_by_side(transferred: Values, alone: Values) -> Values:
    """Gains of both sides, [n, 2]; none where either side did not keep them."""
    if len(transferred) != len(alone):
        return np.empty((0, 2))
    return np.column_stack([transferred, alone])


def _confidence(better: Values) -> float:
    """Share of resamples [n] above zero; those that tie speak for neither side."""
    return float((better > 0).mean() + 0.5 * (better == 0).mean())


def _weight(confidence: float, config: BlendConfig) -> float:
    span = config.gate_level - config.gate_from
    return float(np.clip((confidence - config.gate_from) / span, 0, 1))


def _change(value: float, draws: Values) -> Change:
    """Logarithms of ratios as relative changes."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(np.expm1(value)), float(np.expm1(low)), float(np.expm1(high))


def _state(weight: float) -> str:
    return "open" if weight == 1 else "shut" if weight == 0 else f"open by {weight:.0%}"


def _words(change: Change) -> str:
    if change[0] > FROM_NOTHING:
        return "more than a thousandfold, for without it next to nothing succeeds"
    return f"{change[0]:+.1%} ({change[1]:+.1%} to {change[2]:+.1%})"


def _exceptions(slices: Sequence[SliceGate], weight: float, target: str) -> str:
    """Groups for which a gate that is open, shut or in between is not, with what decided."""
    told = [
        f"{_state(part.weight)} for {part.people(target)}, {_words(part.shrunk)}"
        for part in slices
        if part.shrunk and (part.weight == 0, part.weight == 1) != (weight == 0, weight == 1)
    ]
    return f", but {'; '.join(told)}" if told else ""


class Gated:
    """The transferred and the target-only scorer, mixed by the gate.

    Args:
        transferred: learnt from all domains.
        alone: learnt from the target, per domain index.
        gates: decision per domain index; a domain without one uses the transferred scorer.
        joined: per index of a domain that joined later, what stands for the transferred scorer.
        knows: how many domains there were when what answers for a domain was made; what people did
            in later ones is no history to it. A domain without an entry takes everything.
    """

    name = "gated"

    def __init__(
        self,
        transferred: Scorer,
        alone: Mapping[int, Scorer],
        gates: Mapping[int, GateDecision],
        *,
        joined: Mapping[int, Scorer] | None = None,
        knows: Mapping[int, int] | None = None,
    ) -> None:
        self.transferred, self.alone, self.gates = transferred, dict(alone), dict(gates)
        self.joined, self.knows = dict(joined or {}), dict(knows or {})

    def weights(self, requests: Requests, domain: int) -> Float:
        """The gate's weight for each request, float32 [batch]."""
        if domain in self.alone and domain in self.gates:
            return self.gates[domain].weights(self.known(requests, domain), domain)
        return np.ones(len(requests), np.float32)

    def known(self, requests: Requests, domain: int) -> Requests:
        """The requests without what happened in domains that joined later."""
        later = requests.domain >= self.knows.get(domain, np.iinfo(np.int16).max)
        return requests.keep(~later) if later.any() else requests

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """Score items of `domain`; a side is asked for the requests that it has a weight for."""
        requests = self.known(requests, domain)
        transferred = self.joined.get(domain, self.transferred)
        weight = self.weights(requests, domain)
        if (weight == 1).all():
            return transferred.score(requests, domain, items)
        if (weight == 0).all():
            return self.alone[domain].score(requests, domain, items)
        asked = []
        for scorer, share in ((transferred, weight), (self.alone[domain], 1 - weight)):
            rows = np.flatnonzero(share > 0)
            of_rows = items[rows] if items is not None and items.ndim == 2 else items
            found = scorer.score(requests.select(rows), domain, of_rows)
            asked.append((rows, share[rows, None], found))
        shape = (len(requests), asked[0][2].total.shape[1])
        total = np.zeros(shape, np.float32)
        parts = {name: np.zeros(shape, np.float32) for *_, found in asked for name in found.parts}
        for rows, share, found in asked:
            total[rows] += share * found.total
            for name, part in found.parts.items():
                parts[name][rows] += share * part
        return Scores(total, parts)
