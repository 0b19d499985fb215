"""The report of a run: one HTML file that needs nothing else, not even a network.

Plotly's script is inlined from its wheel. A content security policy in the page allows exactly the
two scripts written here, by checksum, and no request to anywhere, so a title from somebody's
catalogue can neither run nor call home.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import tomlkit
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from isthmus.experiment.carried import carried, in_points, share_in_words
from isthmus.experiment.controls import CONTROLS
from isthmus.experiment.records import read_run, write_whole
from isthmus.experiment.schema import ExampleUser, RunRecord
from isthmus.experiment.verdict import metric_label, percent
from isthmus.report import charts, distances, reading

TEMPLATES = Path(__file__).parent / "templates"
HISTORY_SHOWN = 12


def write_report(folder: Path) -> Path:
    """Read the run in `folder`, write `report.html` beside it and return its path.

    Raises:
        CheckpointError: no run there, a damaged one, or the folder cannot be written.
    """
    path = folder / "report.html"
    write_whole(path, render(read_run(folder)).encode())
    return path


def render(record: RunRecord) -> str:
    """The whole page as text."""
    parts = _parts(record)
    return whole_page(
        "report.html",
        record=record,
        targets=[_target(record, target) for target in record.targets],
        colours=charts.part_colours(parts),
        blend=embedded(charts.blend_chart(record.gates, charts.part_colours(parts)))
        if any(gate.transferred or gate.target_only for gate in record.gates)
        else None,
        curves=[(caption, embedded(chart)) for caption, chart in charts.curve_charts(record.curves)]
        if record.curves
        else [],
        less=[
            (caption, embedded(chart))
            for caption, chart in charts.share_charts(record.points, record.metric)
        ],
        carried=[said for target in record.targets for said in carried(record.points, target)],
        harms=reading.harm_table(record),
        item_map=[
            (caption, embedded(chart)) for caption, chart in charts.map_charts(record.item_map)
        ]
        if record.item_map
        else [],
        measures=distances.MEANINGS,
        examples=[(example, _history(example)) for example in record.examples],
        config=tomlkit.dumps(record.config).strip(),
    )


def whole_page(template: str, **content: object) -> str:
    """A page of that template with scripts, style and security policy in it."""
    scripts = [get_plotlyjs(), (TEMPLATES / "page.js").read_text("utf-8")]
    page = environment().get_template(template)
    return page.render(
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
        style=Markup((TEMPLATES / "style.css").read_text("utf-8")),
        **content,
    )


@cache
def environment() -> jinja2.Environment:
    """Templates of page and card; everything that goes into HTML is escaped."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        percent=percent,
        share=lambda value: percent(value, sign=False),
        metric=metric_label,
        figure=reading.figure,
        duration=reading.duration,
        shortened=reading.shortened,
        evidence=reading.evidence,
        points=in_points,
        distance=distances.cells,
        of_data=share_in_words,
        control=lambda name: CONTROLS.get(name, name),
        md=_markdown,
        kept=lambda text: text.replace(" %", "\u00a0%"),
        count=lambda value: f"{value:,}",
        value=lambda value: f"{value:.4g}" if isinstance(value, float) else str(value),
    )
    return env


def _markdown(text: str) -> str:
    """Text that can neither leave its table cell nor bring HTML."""
    plain = " ".join(text.split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _target(record: RunRecord, target: str) -> dict[str, Any]:
    rows, gated = (reading.uplift(record, target, role) for role in ("transferred", "gated"))
    return {
        "name": target,
        "standing": reading.standing(record, target),
        "everything": reading.standing(record, target, reading.all_metrics(record, target)),
        "uplift": rows,
        "forest": embedded(charts.uplift_chart(rows, gated, record.metric)) if rows else None,
    }


def _parts(record: RunRecord) -> list[str]:
    """Names of the parts of a score, those of the blends first."""
    names: dict[str, None] = {}
    for gate in record.gates:
        names |= dict.fromkeys((*gate.transferred, *gate.target_only))
    for example in record.examples:
        for item in example.recommendations:
            names |= dict.fromkeys(item.parts)
    return list(names)


def _history(example: ExampleUser) -> list[tuple[str, list[Any]]]:
    """The latest events by domain, newest first; the domain of the latest event comes first."""
    latest = list(reversed(example.history[-HISTORY_SHOWN:]))
    order = list(dict.fromkeys(row.domain for row in latest))
    latest.sort(key=lambda row: order.index(row.domain))
    return [(name, list(rows)) for name, rows in groupby(latest, key=lambda row: row.domain)]


def embedded(figure: go.Figure) -> Markup:
    """A figure as JSON that cannot close the script element it stands in."""
    return Markup(figure.to_json().replace("<", "\\u003c").replace("&", "\\u0026"))


def _policy(scripts: list[str]) -> str:
    """Only these scripts run, and nothing is fetched."""
    checksums = [b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{checksum}'" for checksum in checksums)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
