"""What carried a gain, worded: what is left of it, and what is lost, under each control."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.experiment.controls import CONTROLS, WITHOUT
from isthmus.experiment.schema import CurvePoint, Estimate
from isthmus.experiment.verdict import metric_label, percent

MOSTLY = 0.5
"""Share of a gain from which it rests mostly on what a control took away."""


def carried(points: Sequence[CurvePoint], target: str, metric: str = "ndcg@10") -> list[str]:
    """One sentence on each share at which some control was run, smallest share first.

    A control counts where the interval of what it takes off lies above zero.

    Args:
        points: of a record.
        target: the domain of the question.
        metric: what was measured.
    """
    own = [point for point in points if point.target == target]
    said = []
    for true in sorted((p for p in own if p.control == "none"), key=lambda p: p.share):
        altered = [p for p in own if p.control != "none" and p.share == true.share]
        if altered and true.transferred is not None:
            gain = true.transferred
            where = _where(true)
            begin = f"{where}: {metric_label(metric)} {_change(gain)} with transfer"
            if gain.low <= 0:
                said.append(f"{begin}, no sure gain that a control could take away.")
                continue
            parts = [_left(point) for point in altered]
            said.append(
                f"{begin}. {' '.join(part for part in parts if part)}{_rests(altered, gain)}"
            )
    return said


def share_in_words(point: CurvePoint) -> str:
    """ "10 % of the people", "the latest 10 % of events", "all data"."""
    if point.share == 1:
        return "all data"
    share = percent(point.share, sign=False)
    return f"{share} of the people" if point.by == "users" else f"the latest {share} of events"


def _where(point: CurvePoint) -> str:
    return f"{point.target} with {share_in_words(point)}"


def _change(change: Estimate) -> str:
    return f"{percent(change.value)} ({percent(change.low)} to {percent(change.high)})"


def _left(point: CurvePoint) -> str:
    """What a control leaves, and what it takes away."""
    if point.transferred is None or point.lost is None:
        return ""
    doing, left = CONTROLS[point.control], _change(point.transferred)
    lost = point.lost
    points = f"{in_points(lost.value)} ({in_points(lost.low)} to {in_points(lost.high)})"
    if lost.low > 0:
        rest = f"{left} is left" if point.transferred.low > 0 else f"no sure gain is left, {left}"
        return f"With {doing}, {rest}; {points} points are gone."
    if lost.high < 0:
        return f"With {doing}, it is larger: {left}."
    return f"With {doing}, it stays as it is within chance: {left}."


def in_points(value: float) -> str:
    """A difference of two changes: .34 → "34" points."""
    return percent(value).removesuffix(" %").removeprefix("+")


def _rests(altered: Sequence[CurvePoint], gain: Estimate) -> str:
    """The conclusion: what took a sure part away, the largest first."""
    sure = [(p.lost.value, p.control) for p in altered if p.lost is not None and p.lost.low > 0]
    if not sure:
        return " No control takes away a sure part of it."
    mostly = [WITHOUT[c] for lost, c in sorted(sure, reverse=True) if lost >= MOSTLY * gain.value]
    partly = [WITHOUT[c] for lost, c in sorted(sure, reverse=True) if lost < MOSTLY * gain.value]
    ways = (("mostly", mostly), ("partly", partly))
    rests = [f"{how} on {' and on '.join(what)}" for how, what in ways if what]
    return f" So it rests {', '.join(rests)}."
