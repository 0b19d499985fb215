"""The same answer for a terminal: verdict, systems and gain by slice as rich renderables.

Made for 80 to 100 columns; in a pipe they are plain text without colours.
"""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from isthmus.experiment.carried import carried, share_in_words
from isthmus.experiment.controls import CONTROLS
from isthmus.experiment.schema import Estimate, RunRecord, Verdict
from isthmus.experiment.verdict import metric_label, percent
from isthmus.report.reading import (
    Cell,
    Uplift,
    duration,
    evidence,
    figure,
    shortened,
    standing,
    uplift,
)

_TONES = {1: "green", 0: "yellow", -1: "red"}
_FOREST = 17
_METRICS = 3
_LOOK: Any = {
    "box": box.SIMPLE_HEAD,
    "show_edge": False,
    "pad_edge": False,
    "title_justify": "left",
    "title_style": "bold",
}


def overview(record: RunRecord) -> Group:
    """Everything `isthmus compare` says at its end: verdicts, two tables per target, the curve."""
    parts: list[RenderableType] = []
    for verdict in record.verdicts:
        parts += [verdict_text(verdict), *refused_lines(record, verdict.target)]
    for target in record.targets:
        parts += [Text(), systems_table(record, target)]
        if (table := uplift_table(record, target)) is not None:
            parts += [Text(), table]
    if record.points:
        parts += [Text(), points_table(record)]
        for target in record.targets:
            for said in carried(record.points, target):
                parts += [Text(), Text(said)]
    return Group(*parts)


def verdict_text(verdict: Verdict) -> Text:
    """The sentence, with a mark and a colour that say the same."""
    hurts = verdict.relative is not None and verdict.relative.high < 0
    marks = {"yes": ("✓", "green"), "no": ("–", "bright_black"), "undecided": ("?", "yellow")}
    mark, tone = ("✗", "red") if hurts else marks[verdict.helps]
    return Text.assemble((f"{mark} ", f"bold {tone}"), (verdict.sentence, "bold"))


def refused_lines(record: RunRecord, target: str) -> list[Text]:
    """To whom the transferred model is refused though others get it, and why."""
    return [
        Text(f"  not to {part.people}: {evidence(part)}")
        for gate in record.gates
        if gate.target == target
        for part in gate.refused
    ]


def systems_table(record: RunRecord, target: str) -> Table:
    """Systems × metrics on one target, best first; the headline metric with its interval."""
    standings = standing(record, target)
    columns = standings.columns[:_METRICS]
    table = Table(
        title=f"{target}: {standings.n:,} questions, {record.setting}",
        **_LOOK,
    )
    table.add_column("system", overflow="fold", min_width=18)
    for metric in columns:
        table.add_column(metric_label(metric), justify="right", no_wrap=True)
    led = any(row.lead for row in standings.rows)
    if led:
        table.add_column("served leads", justify="right", no_wrap=True)
    tones = {"gated": "green", "transferred": "green", "target-only": "yellow"}
    for row in standings.rows:
        cells = [
            _cell(cell, interval=metric == record.metric)
            for metric, cell in zip(columns, row.cells, strict=False)
        ]
        if led:
            cells.append(Text(percent(row.lead.value) if row.lead else ""))
        name = Text(shortened(row.system.name, 30), style=tones.get(row.system.role, ""))
        table.add_row(name, *cells)
    return table


def uplift_table(record: RunRecord, target: str) -> Table | None:
    """Gain of the transferred over the target-only model by slice; None where not measured."""
    rows = uplift(record, target)
    if not rows:
        return None
    table = Table(
        title=f"{target}: {metric_label(record.metric)} of the transferred against target-only",
        **_LOOK,
    )
    table.add_column("who", overflow="fold", ratio=1)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row, picture in zip(rows, _forest(rows), strict=True):
        gain = row.relative
        table.add_row(
            row.label,
            f"{row.n:,}",
            Text(percent(gain.value), style=_TONES[row.verdict]),
            f"{percent(gain.low)} to {percent(gain.high)}",
            Text(picture, style=_TONES[row.verdict]),
        )
    return table


def points_table(record: RunRecord) -> Table:
    """Gain by share of target data, with and without controls, before and after the gate."""
    table = Table(
        title=f"{metric_label(record.metric)} against target-only, with less of the target's data",
        **_LOOK,
    )
    table.add_column("target, with", overflow="fold", ratio=1)
    for name in ("events", "change", "after the gate", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in record.points:
        what = f"{point.target}, {share_in_words(point)}"
        if point.control != "none":
            what = f"  {CONTROLS[point.control]}"
        table.add_row(
            what,
            f"{point.events:,}",
            _changed(point.transferred, whole=True),
            _changed(point.gated, whole=False),
            duration(point.seconds),
        )
    return table


def _changed(change: Estimate | None, *, whole: bool) -> Text:
    """A change in the colour of what it says, with its interval where there is room for one."""
    if change is None:
        return Text("")
    tone = 1 if change.low > 0 else -1 if change.high < 0 else 0
    text = Text(percent(change.value), style=_TONES[tone])
    if whole:
        text.append(f" ({percent(change.low)} to {percent(change.high)})", style="bright_black")
    return text


def _cell(cell: Cell | None, *, interval: bool) -> Text:
    if cell is None:
        return Text("")
    text = Text(figure(cell.value), style="bold" if cell.best else "")
    if interval and cell.low is not None and cell.high is not None:
        text.append(f" ±{figure((cell.high - cell.low) / 2)}", style="bright_black")
    return text


def _forest(rows: list[Uplift]) -> list[str]:
    """Intervals drawn in characters on one scale; the upright stands at zero."""
    low = min(0.0, *(row.relative.low for row in rows))
    high = max(0.0, *(row.relative.high for row in rows))
    scale = (_FOREST - 1) / ((high - low) or 1.0)

    def place(value: float) -> int:
        return round((value - low) * scale)

    pictures = []
    for row in rows:
        line = [" "] * _FOREST
        line[place(0)] = "│"
        for i in range(place(row.relative.low), place(row.relative.high) + 1):
            line[i] = "┼" if i == place(0) else "─"
        line[place(row.relative.value)] = "●"
        pictures.append("".join(line))
    return pictures
