"""The answer to "does the other domain help?", worded; and how figures are written for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from isthmus.evaluation.slices import (
    ALL,
    COLD,
    NEW,
    RARE,
    SEEN,
    WITH_SOURCE,
    WITHOUT_SOURCE,
)
from isthmus.experiment.schema import Estimate, GateSlice, Verdict

_LENGTH = "target history "

MATTERS = 0.05
"""Relative gain below which "does it help?" is answered "no" rather than "undecided"."""


def verdict(
    target: str,
    sources: Sequence[str],
    relative: float | None,
    low: float | None = None,
    high: float | None = None,
    gate_weight: float | None = None,
    *,
    metric: str = "ndcg@10",
    most_for: str | None = None,
    slices: Sequence[GateSlice] = (),
    unmeasured: str = "",
) -> Verdict:
    """Word the answer for one target.

    "Yes" when the interval lies above zero; "no" when it lies below zero or leaves no room for a
    relative gain of `MATTERS`; "undecided" otherwise.

    Args:
        target: domain of the question.
        sources: domains that might help it.
        relative: change of `metric`, transferred against target-only, .38 for +38 %; None where
            there is no target-only side, as `unmeasured` says.
        low, high: its 95 % interval.
        gate_weight: share of the transferred model that is served; None: there is no gate.
        metric: what was measured.
        most_for: for whom the gain is largest, "people with at most two events in gear".
        slices: what the gate decided for each group of people, where it was allowed to differ.
        unmeasured: a sentence that says why nothing was measured and what is served.
    """
    names, one = _listed(sources), len(sources) == 1
    does, help_, hurt = ("does", "helps", "hurts") if one else ("do", "help", "hurt")
    helps: Literal["yes", "no", "undecided"] = "undecided"
    estimate = None
    if relative is None or low is None or high is None:
        sentence = f"Whether {names} {help_} {target} cannot be measured. {unmeasured}".rstrip()
    else:
        estimate = Estimate(value=relative, low=low, high=high)
        change, span = percent(relative), f"{percent(low)} to {percent(high)}"
        served = _served(gate_weight, slices)
        if low > 0:
            helps = "yes"
            whom = f", and most for {most_for}" if most_for else ""
            sentence = (
                f"{names} {help_} {target}: {metric_label(metric)} {change} "
                f"(95 % interval {span}){whom}; {served}."
            )
        elif high < MATTERS:
            helps = "no"
            claim = f"{hurt} {target}" if high < 0 else f"{does} not help {target}"
            sentence = f"{names} {claim} ({change}, {span}): {served}."
        else:
            sentence = (
                f"Whether {names} {help_} {target} is undecided: {metric_label(metric)} {change} "
                f"(95 % interval {span}); {served}."
            )
    return Verdict(
        target=target,
        sources=list(sources),
        helps=helps,
        sentence=sentence,
        metric=metric,
        relative=estimate,
        gate_weight=gate_weight,
    )


def most_for(differences: pl.DataFrame, target: str, metric: str = "ndcg@10") -> str | None:
    """The group of people who gain most, in words; None unless it surely gains more than all do.

    Args:
        differences: rows of `evaluation.compare` of the transferred against target-only.
        target: their target.
        metric: what was measured.
    """
    rows = differences.filter(pl.col("target") == target, pl.col("metric") == metric)
    overall = rows.filter(pl.col("slice") == ALL)["relative"]
    people = pl.col("slice").is_in([COLD, WITH_SOURCE, WITHOUT_SOURCE]) | pl.col(
        "slice"
    ).str.starts_with(_LENGTH)
    if not len(overall):
        return None
    ahead = rows.filter(people, pl.col("rel_low") > overall[0], pl.col("p_holm") < 0.05)
    if not len(ahead):
        return None
    return slice_in_words(ahead.sort("relative", descending=True)["slice"][0], target)


def slice_in_words(name: str, target: str) -> str:
    """What a person would call a slice: "cold users" → "people new to gear"."""
    words = {
        ALL: "everybody",
        COLD: f"people new to {target}",
        NEW: "items nobody had taken before",
        RARE: "items with at most 3 events",
        SEEN: "items seen in training",
        WITH_SOURCE: "people with a history elsewhere",
        WITHOUT_SOURCE: "people without a history elsewhere",
        f"{_LENGTH}0": f"people with no events in {target}",
    }
    if name not in words and name.startswith(_LENGTH):
        length = name.removeprefix(_LENGTH).replace("> ", "more than ")
        return f"people with {length} events in {target}"
    return words.get(name, name)


def percent(share: float, *, sign: bool = True) -> str:
    """A share in words: .38 → "+38 %"; below ten per cent one decimal where it tells something."""
    value = share * 100
    text = f"{abs(value):.0f}" if abs(value) >= 9.95 else f"{abs(value):.1f}".removesuffix(".0")
    mark = "" if float(text) == 0 else "−" if value < 0 else "+" if sign else ""
    return f"{mark}{text} %"


def metric_label(metric: str) -> str:
    """A metric's name as people write it: "ndcg@10" → "NDCG@10", "hit_rate@10" → "HR@10"."""
    name, at, cutoff = metric.partition("@")
    known = {"ndcg": "NDCG", "hit_rate": "HR", "mrr": "MRR"}
    return known.get(name, name.capitalize().replace("_", " ")) + at + cutoff


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "another domain"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _served(weight: float | None, slices: Sequence[GateSlice]) -> str:
    if weight is None:
        return "the transferred model is served, there being no gate"
    let_in = [part for part in slices if part.weight > 0]
    shut_out = [part for part in slices if part.weight == 0]
    if let_in and shut_out:
        if weight < 0.5:
            return f"the target-only model is served, except to {_named(let_in, slices)}"
        part = "" if all(found.weight == 1 for found in let_in) else "a part of "
        return f"{part}the transferred model is served, except to {_named(shut_out, slices)}"
    if weight <= 0:
        return "the gate is shut and the target-only model is served"
    if weight >= 1:
        return "the transferred model is served"
    return f"{percent(weight, sign=False)} of the transferred model is served"


def _named(some: Sequence[GateSlice], slices: Sequence[GateSlice]) -> str:
    if len(some) > 2:
        return f"{len(some)} of {len(slices)} groups of people"
    return ", and to ".join(part.people for part in some)
