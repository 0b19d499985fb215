"""The report's charts, as Plotly figures in one calm theme.

Colours of traces hold on a light and on a dark page; texts, grids and backgrounds are left to the
page's style sheet, so that a chart follows the reader's setting at once and prints in ink.
Titles of items are escaped, for Plotly reads some HTML.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from isthmus.experiment.controls import CONTROLS
from isthmus.experiment.schema import Curve, CurvePoint, GateReport, ItemMap
from isthmus.experiment.verdict import metric_label, percent
from isthmus.report.reading import Uplift, shortened

TEAL, OCHRE, BRICK, GREY = "#0d9488", "#d98324", "#d1495b", "#8a94a3"
SERIES = (TEAL, OCHRE, "#6d78d6", "#c2588f", "#5f9e3f", "#3a95c9", "#a3795b", GREY)
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x", "hexagon")
_DASHES = ("solid", "dash", "dot", "dashdot")


def part_colours(parts: Sequence[str]) -> dict[str, str]:
    """A colour per named part of a score, the same wherever the part is shown."""
    return {part: SERIES[i % len(SERIES)] for i, part in enumerate(parts)}


def uplift_chart(rows: Sequence[Uplift], gated: Sequence[Uplift], metric: str) -> go.Figure:
    """Forest plot of the gain by slice; hollow marks show what is left after the gate."""
    place = {row.slice: i for i, row in enumerate(rows)}
    after = [row for row in gated if row.slice in place]
    lift = 0.16 if after else 0.0
    figure = go.Figure()
    for verdict, colour, name in ((1, TEAL, "helps"), (0, GREY, "undecided"), (-1, BRICK, "hurts")):
        some = [row for row in rows if row.verdict == verdict]
        if some:
            figure.add_trace(_forest(some, [place[r.slice] - lift for r in some], colour, name))
    if after:
        trace = _forest(after, [place[r.slice] + lift for r in after], GREY, "after the gate")
        figure.add_trace(trace.update(marker={"symbol": "circle-open", "size": 8}))
    labels = [f"{_wrapped(row.label)}<br>n = {row.n:,}" for row in rows]
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(place.values()),
        ticktext=labels,
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        tickformat=".0%",
        zeroline=True,
        zerolinewidth=1.5,
        title=f"change of {metric_label(metric)}, 95 % interval",
    )
    return themed(figure, height=120 + 54 * len(rows))


def _forest(rows: Sequence[Uplift], y: Sequence[float], colour: str, name: str) -> go.Scatter:
    gains = [row.relative for row in rows]
    return go.Scatter(
        x=[g.value for g in gains],
        y=list(y),
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [g.high - g.value for g in gains],
            "arrayminus": [g.value - g.low for g in gains],
            "color": colour,
            "thickness": 2,
            "width": 0,
        },
        mode="markers",
        marker={"color": colour, "size": 10},
        name=name,
        text=[
            f"<b>{escape(row.label)}</b><br>{percent(row.relative.value)} "
            f"({percent(row.relative.low)} to {percent(row.relative.high)}), n = {row.n:,}"
            for row in rows
        ],
        hovertemplate="%{text}<extra>" + name + "</extra>",
    )


def share_charts(points: Sequence[CurvePoint], metric: str) -> list[tuple[str, go.Figure]]:
    """Captioned charts of the gain against the share of target data.

    First one line per target; then, where controls were run, one chart per target with the gain
    and what each control leaves of it.
    """
    targets = list(dict.fromkeys(point.target for point in points))
    controls = list(dict.fromkeys(p.control for p in points if p.control != "none"))
    true = [point for point in points if point.control == "none"]
    shares = sorted({point.share for point in points})
    charts = []
    if len(shares) > 1:
        lines = [
            (target, [p for p in true if p.target == target], SERIES[i % len(SERIES)], "solid")
            for i, target in enumerate(targets)
        ]
        charts.append(("Every target", _by_share(lines, shares, points[0].by, metric)))
    for i, target in enumerate(targets if controls else []):
        own = [point for point in points if point.target == target]
        lines = [
            ("as it is", [p for p in own if p.control == "none"], SERIES[i % len(SERIES)], "solid")
        ]
        for j, control in enumerate(controls):
            colour = SERIES[(len(targets) + j) % len(SERIES)]
            some = [p for p in own if p.control == control]
            if some:
                lines.append((CONTROLS[control], some, colour, _DASHES[1 + j % 3]))
        charts.append((f"{target}, under controls", _by_share(lines, shares, points[0].by, metric)))
    return charts


def _by_share(
    lines: Sequence[tuple[str, Sequence[CurvePoint], str, str]],
    shares: Sequence[float],
    by: str,
    metric: str,
) -> go.Figure:
    """Lines with intervals over shares, spread a little so that intervals do not hide each other.

    Args:
        lines: name, points, colour and dash of each.
        shares: all that were measured, rising; they stand at equal distances.
        by: what they are a share of.
        metric: what the gain is in.
    """
    place = {share: i for i, share in enumerate(shares)}
    figure = go.Figure()
    for i, (name, points, colour, dash) in enumerate(lines):
        shift = 0.07 * (i - (len(lines) - 1) / 2)
        line = _with_intervals(points, {share: x + shift for share, x in place.items()})
        line.update(
            name=escape(name),
            hovertemplate="%{text}<extra>" + escape(name) + "</extra>",
            line={"color": colour, "dash": dash, "width": 2},
            error_y_color=colour,
            marker={"size": 9, "symbol": _SYMBOLS[i % len(_SYMBOLS)]},
        )
        figure.add_trace(line)
    of = "people in the target" if by == "users" else "target events, the latest"
    figure.update_xaxes(
        title=f"share of {of}",
        tickmode="array",
        tickvals=list(place.values()),
        ticktext=[percent(share, sign=False) for share in shares],
        range=[-0.5, len(shares) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickformat=".0%",
        zeroline=True,
        zerolinewidth=1.5,
        title=f"change of {metric_label(metric)}",
        title_font_size=12,
    )
    return themed(figure, height=360)


def _with_intervals(points: Sequence[CurvePoint], place: Mapping[float, float]) -> go.Scatter:
    """Gains with intervals over the place of each share; what has no gain is left out."""
    known = [(p, p.transferred) for p in points if p.transferred is not None]
    return go.Scatter(
        x=[place[p.share] for p, _ in known],
        y=[gain.value for _, gain in known],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [gain.high - gain.value for _, gain in known],
            "arrayminus": [gain.value - gain.low for _, gain in known],
            "thickness": 2,
            "width": 0,
        },
        mode="lines+markers",
        text=[
            f"<b>{escape(p.target)}</b>, {percent(p.share, sign=False)}<br>"
            f"{percent(gain.value)} ({percent(gain.low)} to {percent(gain.high)})"
            for p, gain in known
        ],
    )


def blend_chart(gates: Sequence[GateReport], colours: Mapping[str, str]) -> go.Figure:
    """Of what each blend is made: one bar per target and system, shares of its weights."""
    bars: list[tuple[str, Mapping[str, float]]] = []
    for gate in gates:
        for name, weights in (("transferred", gate.transferred), ("target-only", gate.target_only)):
            if weights:
                bars.append((f"{escape(gate.target)}, {name}", weights))
    figure = go.Figure()
    for part, colour in colours.items():
        shares = [w.get(part, 0.0) / (sum(map(abs, w.values())) or 1.0) for _, w in bars]
        if any(shares):
            figure.add_trace(
                go.Bar(
                    x=shares,
                    y=[name for name, _ in bars],
                    orientation="h",
                    name=escape(part),
                    marker={"color": colour},
                    text=[percent(s, sign=False) if s >= 0.06 else "" for s in shares],
                    textposition="inside",
                    insidetextanchor="middle",
                    textangle=0,
                    textfont={"color": "#ffffff"},
                    hovertemplate="%{y}: %{x:.0%}<extra>" + escape(part) + "</extra>",
                )
            )
    figure.update_layout(barmode="stack", bargap=0.35, legend_traceorder="normal")
    figure.update_xaxes(tickformat=".0%", range=[0, 1.001], showgrid=False, zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return themed(figure, height=110 + 46 * len(bars))


def curve_charts(curves: Sequence[Curve]) -> list[tuple[str, go.Figure]]:
    """Captioned charts by epoch: the training loss, then the validation metric if measured."""
    measured = next((metric_label(c.metric) for c in curves if c.validation), "")
    charts = [("Training loss", _lines(curves, [c.loss for c in curves]))]
    if measured:
        charts.append((f"{measured} on validation", _lines(curves, [c.validation for c in curves])))
    return charts


def _lines(curves: Sequence[Curve], values: Sequence[Sequence[float | None]]) -> go.Figure:
    systems = list(dict.fromkeys(c.system for c in curves))
    domains = list(dict.fromkeys(c.domain for c in curves))
    figure = go.Figure()
    for curve, column in zip(curves, values, strict=True):
        name = escape(f"{curve.system} · {curve.domain}" if len(domains) > 1 else curve.system)
        points = [p for p in zip(curve.epochs, column, strict=False) if p[1] is not None]
        figure.add_trace(
            go.Scatter(
                x=[epoch for epoch, _ in points],
                y=[value for _, value in points],
                mode="lines+markers",
                marker={"size": 5 if len(points) < 40 else 1},
                line={
                    "color": SERIES[systems.index(curve.system) % len(SERIES)],
                    "dash": _DASHES[domains.index(curve.domain) % len(_DASHES)],
                    "width": 2,
                },
                name=name,
                hovertemplate="epoch %{x}: %{y:.4f}<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(title="epoch", zeroline=False)
    return themed(figure, height=320)


def map_charts(items: ItemMap) -> list[tuple[str, go.Figure]]:
    """Captioned charts of the sampled items on a plane, before and after alignment."""
    before, after = items.distance_before, items.distance_after
    return [
        ("Before alignment" + _apart(before), plane_chart(items, items.before)),
        ("After alignment" + _apart(after), plane_chart(items, items.after)),
    ]


def _apart(distance: float | None) -> str:
    return "" if distance is None else f" · distance of the domains {distance:.2g}"


def plane_chart(items: ItemMap, points: Sequence[tuple[float, float]]) -> go.Figure:
    """The sampled items at the given points, by domain, with their titles on touch."""
    domain = np.array(items.domain)
    titles = np.array([escape(shortened(title, 90)) for title in items.title], dtype=object)
    plane = np.round(np.array(points, dtype=float).reshape(-1, 2), 3)
    figure = go.Figure()
    for i, name in enumerate(dict.fromkeys(items.domain)):
        chosen = domain == name
        figure.add_trace(
            go.Scatter(
                x=plane[chosen, 0].tolist(),
                y=plane[chosen, 1].tolist(),
                mode="markers",
                marker={
                    "color": SERIES[i % len(SERIES)],
                    "symbol": _SYMBOLS[i % len(_SYMBOLS)],
                    "size": 6,
                    "opacity": 0.65,
                },
                name=escape(name),
                text=titles[chosen].tolist(),
                hovertemplate="%{text}<extra>" + escape(name) + "</extra>",
            )
        )
    figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False)
    figure.update_yaxes(showticklabels=False, showgrid=False, zeroline=False)
    return themed(figure, height=400)


def themed(figure: go.Figure, height: int) -> go.Figure:
    """Give a chart the one look of all; the page's style sheet adds ink and grid colours."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 16, "t": 48, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, -apple-system, Segoe UI, sans-serif", "size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"bgcolor": "#1f2a33", "bordercolor": "#1f2a33", "font": {"color": "#ffffff"}},
        dragmode=False,
    )
    figure.update_traces(showlegend=True)
    figure.update_xaxes(automargin=True, ticks="", title_font_size=12)
    figure.update_yaxes(automargin=True, ticks="", ticklabelstandoff=10)
    return figure


def _wrapped(label: str, width: int = 26) -> str:
    return "<br>".join(escape(line) for line in textwrap.wrap(label, width)) or " "
