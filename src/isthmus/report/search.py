"""What a search found, as one page: its course, what mattered, and every trial."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from isthmus.experiment.records import write_whole
from isthmus.experiment.search_record import SearchRecord, Trial
from isthmus.report.charts import GREY, OCHRE, TEAL, themed
from isthmus.report.page import embedded, whole_page


def write_search(path: Path, record: SearchRecord) -> Path:
    """Write the page.

    Raises:
        CheckpointError: the file cannot be written.
    """
    page = whole_page(
        "search.html",
        name=record.name,
        best=record.best,
        default=record.default,
        keys=list(dict.fromkeys(key for trial in record.trials for key in trial.values)),
        trials=sorted(record.trials, key=lambda t: (t.figure is None, -(t.figure or 0), t.number)),
        course=embedded(course_chart(record.trials)),
        importance=embedded(importance_chart(record.importance)) if record.importance else None,
    )
    write_whole(path, page.encode())
    return path


def course_chart(trials: Sequence[Trial]) -> go.Figure:
    """Every complete trial, and the best so far."""
    done = [trial for trial in trials if trial.figure is not None]
    figure = go.Figure()
    for own, colour, name in ((False, GREY, "trial"), (True, OCHRE, "as configured")):
        some = [trial for trial in done if trial.is_default == own]
        if some:
            figure.add_trace(
                go.Scatter(
                    x=[trial.number for trial in some],
                    y=[trial.figure for trial in some],
                    mode="markers",
                    marker={"color": colour, "size": 9},
                    name=name,
                    text=[settings(trial) for trial in some],
                    hovertemplate="%{text}<br>%{y:.4f}<extra>" + name + "</extra>",
                )
            )
    best: list[float] = []
    for trial in done:
        best.append(max([trial.figure or 0.0, *best[-1:]]))
    figure.add_trace(
        go.Scatter(
            x=[trial.number for trial in done],
            y=best,
            mode="lines",
            line={"color": TEAL, "width": 2, "shape": "hv"},
            name="best so far",
        )
    )
    figure.update_xaxes(title="trial", showgrid=False)
    figure.update_yaxes(title="validation NDCG@10")
    return themed(figure, height=360)


def importance_chart(importance: dict[str, float]) -> go.Figure:
    """A bar for each setting, the one that mattered most on top."""
    keys = list(importance)
    figure = go.Figure(
        go.Bar(
            x=[importance[key] for key in keys],
            y=[escape(key) for key in keys],
            orientation="h",
            marker={"color": TEAL},
            name="importance",
            hovertemplate="%{y}: %{x:.0%}<extra></extra>",
        )
    )
    figure.update_xaxes(tickformat=".0%", title="share of what settings explain")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return themed(figure, height=120 + 30 * len(keys)).update_traces(showlegend=False)


def settings(trial: Trial) -> str:
    """What was tried, one line each."""
    return "<br>".join(f"{escape(key)} = {escape(shown(v))}" for key, v in trial.values.items())


def shown(value: object) -> str:
    """A setting's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
