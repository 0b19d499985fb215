"""A few lines over time, drawn as SVG that follows the reader's light or dark setting."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    scale = _Scale.around(lines.values())
    coloured = list(zip(lines.items(), _COLOURS * len(lines), strict=False))
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="12"/>',
        f'<text class="title" x="28" y="34">{escape(title)}</text>',
        *_grid(scale),
        *(_line(values, colour, scale) for (_, values), colour in coloured),
        *_names([(name, values, colour) for (name, values), colour in coloured], scale),
        f'<text class="quiet" x="{_LEFT}" y="{HEIGHT - 14}">{escape(caption)}; {escape(across)}'
        "</text>",
        "</svg>\n",
    ]
    write_whole(path, "\n".join(svg).encode())
    return path


@dataclass(frozen=True)
class _Scale:
    """Where values lie on the paper.

    Attributes:
        low, high: values at the chart's lower and upper edge.
        n: places of a line.
    """

    low: float
    high: float
    n: int

    @classmethod
    def around(cls, lines: Collection[Sequence[float]]) -> _Scale:
        """One that holds all finite values, with a little room."""
        values = [v for line in lines for v in line if math.isfinite(v)]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = 0.08 * ((high - low) or max(abs(high), 1.0))
        return cls(low - room, high + room, max((len(line) for line in lines), default=1))

    def x(self, place: int) -> float:
        """Pixels from the left."""
        return round(_LEFT + place * (WIDTH - _LEFT - _RIGHT) / max(self.n - 1, 1), 1)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _grid(scale: _Scale, count: int = 5) -> Iterator[str]:
    """Horizontal lines with their values."""
    for k in range(count):
        value = scale.low + (k + 0.5) * (scale.high - scale.low) / count
        y = scale.y(value)
        yield f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'
        yield (
            f'<text class="quiet" x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.3g}</text>'
        )


def _line(values: Sequence[float], colour: str, scale: _Scale) -> str:
    pen, parts = "M", []
    for place, value in enumerate(values):
        if not math.isfinite(value):
            pen = "M"
            continue
        parts.append(f"{pen}{scale.x(place)} {scale.y(value)}")
        pen = "L"
    return f'<path class="line" stroke="{colour}" d="{"".join(parts)}"/>'


def _names(lines: Iterable[tuple[str, Sequence[float], str]], scale: _Scale) -> Iterator[str]:
    """The name of each line where it ends."""
    ends = []
    for name, values, colour in lines:
        known = [value for value in values if math.isfinite(value)]
        ends.append((scale.y(known[-1]) if known else 0.0, name, colour))
    lowest = -math.inf
    for height, name, colour in sorted(ends):
        # Names of lines that end side by side stand one below the other.
        lowest = max(height + 5, lowest + 18)
        yield (
            f'<text x="{WIDTH - _RIGHT + 10}" y="{lowest}" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
