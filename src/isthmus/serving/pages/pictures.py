"""The dashboard's own charts, in the report's theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from isthmus.report.charts import BRICK, GREY, SERIES, TEAL, themed
from isthmus.serving.pages.versions import Version


def activity_chart(counts: Mapping[str, Sequence[int]], minutes: Sequence[str]) -> go.Figure:
    """Records a minute as stacked bars, one colour for each of `counts`."""
    figure = go.Figure(
        [
            go.Bar(
                x=list(minutes),
                y=list(values),
                name=name,
                marker={"color": SERIES[i % len(SERIES)]},
                hovertemplate="%{x} UTC: %{y:,}<extra>" + name + "</extra>",
            )
            for i, (name, values) in enumerate(counts.items())
        ]
    )
    figure.update_layout(barmode="stack", bargap=0.15)
    figure.update_xaxes(type="category", nticks=7, tickangle=0, showgrid=False)
    figure.update_yaxes(rangemode="tozero", zeroline=False, nticks=4, tickformat=",d")
    return themed(figure, height=230)


def verdict_chart(told: Sequence[Version]) -> go.Figure:
    """How each version did against the one it started from, the oldest first."""
    figure = go.Figure()
    known = [
        (version.name, verdict.no_worse, verdict.relative)
        for version in reversed(told)
        if (verdict := version.progress.verdict) is not None and verdict.relative is not None
    ]
    for live, colour, name in ((True, TEAL, "no worse: went live"), (False, BRICK, "kept back")):
        some = [(version, gain) for version, no_worse, gain in known if no_worse is live]
        if not some:
            continue
        changes = [gain for _, gain in some]
        figure.add_trace(
            go.Scatter(
                x=[version for version, _ in some],
                y=[value for value, _, _ in changes],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - value for value, _, high in changes],
                    "arrayminus": [value - low for value, low, _ in changes],
                    "color": colour,
                    "thickness": 2,
                    "width": 0,
                },
                mode="markers",
                marker={"color": colour, "size": 10, "symbol": "circle" if live else "x"},
                name=name,
                hovertemplate="%{x}: %{y:+.1%}<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=[version for version, *_ in known],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickformat="+.0%", zeroline=True, zerolinewidth=1.5, title="change", title_font_size=12
    )
    return themed(figure, height=300)


def learnt_chart(told: Sequence[Version]) -> go.Figure:
    """What each update learnt: new events, and old ones again."""
    made = [version for version in reversed(told) if version.progress.updates]
    figure = go.Figure(
        [
            go.Bar(
                x=[version.name for version in made],
                y=[getattr(version.progress, field) for version in made],
                name=name,
                marker={"color": colour},
                hovertemplate="%{x}: %{y:,}<extra>" + name + "</extra>",
            )
            for field, name, colour in (
                ("learnt", "new events learnt", TEAL),
                ("replayed", "old events replayed", GREY),
                ("held_back", "held back to judge by", SERIES[1]),
            )
        ]
    )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(zeroline=False, nticks=5, tickformat=",d")
    return themed(figure, height=280)
