"""A small picture of the answer, drawn as SVG: gain by slice with intervals, one panel per target.

It stands in a README, follows the reader's light or dark setting and needs no other library.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from isthmus.experiment.records import write_whole
from isthmus.experiment.schema import RunRecord
from isthmus.experiment.verdict import metric_label, percent
from isthmus.report.reading import Uplift, shortened, uplift

WIDTH, LABELS, RIGHT, ROW = 880, 318, 150, 32
_STYLE = """
text { font: 14px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: #1d2730 }
.title { font-size: 19px; font-weight: 600 } .quiet { fill: #66717d; font-size: 12.5px }
.paper { fill: #fbfaf7 } .grid { stroke: #e5e2da } .zero { stroke: #8a94a3; stroke-width: 1.5 }
.gain { stroke: #0d9488; fill: #0d9488 } .open { stroke: #8a94a3; fill: #8a94a3 }
.harm { stroke: #d1495b; fill: #d1495b } .mark { stroke-width: 3; stroke-linecap: round }
@media (prefers-color-scheme: dark) {
text { fill: #e4e8ea } .quiet { fill: #96a1aa } .paper { fill: #12181d } .grid { stroke: #2b363e }
}
"""
_CLASS = {1: "gain", 0: "open", -1: "harm"}


def write_picture(record: RunRecord, path: Path) -> Path:
    """Draw the gain by slice of every target that has one, as SVG.

    Raises:
        CheckpointError: the file cannot be written.
    """
    body: list[str] = []
    y = 40
    for target in record.targets:
        rows = uplift(record, target)
        if rows:
            sentence = next((v.sentence for v in record.verdicts if v.target == target), target)
            lines, y = _panel(sentence, rows, metric_label(record.metric), y)
            body += lines
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
        f'height="{y}" role="img">',
        f"<title>{escape(' '.join(v.sentence for v in record.verdicts))}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{y}" rx="12"/>',
        *body,
        "</svg>\n",
    ]
    write_whole(path, "\n".join(svg).encode())
    return path


def _panel(sentence: str, rows: Sequence[Uplift], metric: str, y: int) -> tuple[list[str], int]:
    """One target's title, axis and rows from `y` downwards, and where the next panel starts."""
    lines = []
    for line in textwrap.wrap(_unbroken(shortened(sentence, 240)), 66):
        lines.append(f'<text class="title" x="28" y="{y}">{escape(line)}</text>')
        y += 26
    top, bottom = y + 6, y + 14 + ROW * len(rows)
    low = min(0.0, *(row.relative.low for row in rows))
    high = max(0.0, *(row.relative.high for row in rows))
    start, scale = LABELS + 20, (WIDTH - LABELS - RIGHT - 40) / ((high - low) or 1.0)

    def place(value: float) -> float:
        return round(start + (value - low) * scale, 1)

    step = _step(high - low)
    for k in range(int(low / step) - 1, int(high / step) + 2):
        if low <= k * step <= high:
            x, kind = place(k * step), "zero" if k == 0 else "grid"
            lines.append(f'<path class="{kind}" d="M{x} {top}V{bottom}"/>')
            lines.append(
                f'<text class="quiet" x="{x}" y="{bottom + 18}" text-anchor="middle">'
                f"{percent(k * step)}</text>"
            )
    for i, row in enumerate(rows):
        lines += _row(row, top + 20 + ROW * i, place(row.relative.low), place(row.relative.high),
                      place(row.relative.value))  # fmt: skip
    caption = f"change of {metric} against the target alone, 95 % interval"
    lines.append(f'<text class="quiet" x="{start}" y="{bottom + 38}">{escape(caption)}</text>')
    return lines, bottom + 82


def _row(row: Uplift, y: int, low: float, high: float, middle: float) -> list[str]:
    label, colour = escape(shortened(row.label, 42)), _CLASS[row.verdict]
    return [
        f'<text x="{LABELS}" y="{y + 5}" text-anchor="end">{label}</text>',
        f'<path class="{colour} mark" d="M{low} {y}H{high}"/>',
        f'<circle class="{colour}" cx="{middle}" cy="{y}" r="5.5"/>',
        f'<text x="{WIDTH - RIGHT + 52}" y="{y + 5}" text-anchor="end">'
        f"{percent(row.relative.value)}</text>",
        f'<text class="quiet" x="{WIDTH - 28}" y="{y + 5}" text-anchor="end">n {row.n:,}</text>',
    ]


def _unbroken(sentence: str) -> str:
    """The sentence with its figures kept together when lines are broken."""
    return sentence.replace(" %", "\u00a0%")


def _step(width: float) -> float:
    """A round distance between grid lines that gives three to seven of them."""
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
    return next((step for step in steps if width / step <= 6), steps[-1])
