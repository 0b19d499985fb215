"""A few lines over time, drawn as SVG that follows the reader's light or dark setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from isthmus.experiment.records import write_whole

WIDTH, HEIGHT = 880, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 64, 46
_COLOURS = ("#8a94a3", "#0d9488", "#d98324", "#6d78d6", "#c2588f")
_STYLE = """
text { font: 14px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: #1d2730 }
.title { font-size: 19px; font-weight: 600 } .quiet { fill: #66717d; font-size: 12.5px }
.paper { fill: #fbfaf7 } .grid { stroke: #e5e2da } .line { fill: none; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e4e8ea } .quiet { fill: #96a1aa } .paper { fill: #12181d } .grid { stroke: #2b363e }
}
"""


def write_lines(
    path: Path, title: str, caption: str, lines: Mapping[str, Sequence[float]], *, across: str
) -> Path:
    """Draw lines of one length over their number.

    Args:
        path: the SVG file.
        title: above the chart.
        caption: what goes up.
        lines: values by name; NaN leaves a gap.
        across: what goes to the right.

    Raises:
        CheckpointError: the file cannot be written.
    """
    values = [v for line in lines.values() for v in line if math.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    spread = (high - low) or max(abs(high), 1.0)
    low, high = low - 0.08 * spread, high + 0.08 * spread
    n = max((len(line) for line in lines.values()), default=1)

    def x(place: int) -> float:
        return round(_LEFT + place * (WIDTH - _LEFT - _RIGHT) / max(n - 1, 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    body = [f'<text class="title" x="28" y="34">{escape(title)}</text>']
    for k in range(5):
        value = low + (k + 0.5) * (high - low) / 5
        body.append(f'<path class="grid" d="M{_LEFT} {y(value)}H{WIDTH - _RIGHT}"/>')
        body.append(
            f'<text class="quiet" x="{_LEFT - 8}" y="{y(value) + 4}" text-anchor="end">'
            f"{value:.3g}</text>"
        )
    ends = []
    for (name, line), colour in zip(lines.items(), _COLOURS * len(lines), strict=False):
        pen, parts = "M", []
        for place, value in enumerate(line):
            if not math.isfinite(value):
                pen = "M"
                continue
            parts.append(f"{pen}{x(place)} {y(value)}")
            pen = "L"
        body.append(f'<path class="line" stroke="{colour}" d="{"".join(parts)}"/>')
        known = [value for value in line if math.isfinite(value)]
        ends.append((y(known[-1]) if known else 0.0, name, colour))
    lowest = -math.inf
    for height, name, colour in sorted(ends):
        # Names of lines that end side by side stand one below the other.
        lowest = max(height + 5, lowest + 18)
        body.append(
            f'<text x="{WIDTH - _RIGHT + 10}" y="{lowest}" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
    body.append(
        f'<text class="quiet" x="{_LEFT}" y="{HEIGHT - 14}">{escape(caption)}; {escape(across)}'
        "</text>"
    )
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="12"/>',
        *body,
        "</svg>\n",
    ]
    write_whole(path, "\n".join(svg).encode())
    return path
