"""What `isthmus demo` says, as texts and tables."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isthmus.cli.ask import by_request
from isthmus.cli.output import heading, items_table
from isthmus.data.dataset import Dataset
from isthmus.experiment.schema import RunRecord
from isthmus.experiment.verdict import metric_label
from isthmus.recommender import Recommender
from isthmus.report.reading import duration, figure
from isthmus.report.tables import systems_table, uplift_table, verdict_text

OPENING = Text.from_markup(
    "[bold]Does one catalogue help another?[/bold]\n\n"
    "A bookshop knows what people read. A younger shop sells gear, in part to the same people, and "
    "knows little of each. Isthmus reads the titles, learns from both, and lets the books in only "
    "as far as held-back purchases show that they help.\n"
)


def catalogues(dataset: Dataset) -> RenderableType:
    """Each catalogue in figures, with what most people took."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("tables")
    for name in ("items", "people", "events", "each"):
        table.add_column(name, justify="right")
    table.add_column("for example", ratio=1)
    for d, domain in enumerate(dataset.domains):
        here = dataset.events.domain == d
        people = len(np.unique(dataset.events.user[here]))
        counts = np.bincount(dataset.events.item[here], minlength=domain.n_items)
        favourites = domain.items["title"].gather(np.argsort(-counts, kind="stable"))
        table.add_row(
            domain.name,
            f"{domain.n_items:,}",
            f"{people:,}",
            f"{here.sum():,}",
            f"{here.sum() / max(people, 1):.0f}",
            " · ".join(favourites.drop_nulls().head(2)),
        )
    return table


def with_transfer(record: RunRecord) -> list[RenderableType]:
    """The verdict, and everything measured."""
    target = record.targets[0]
    uplift = uplift_table(record, target)
    return [
        heading("\n1  A world where taste carries over\n"),
        *map(verdict_text, record.verdicts),
        f"\nGate: {record.gates[0].reason}\n",
        systems_table(record, target),
        "",
        uplift or "",
        "",
    ]


def without_transfer(record: RunRecord) -> list[RenderableType]:
    """The verdict, and what the gate saved."""
    served, transferred, alone = (
        figure(_value(record, role)) for role in ("gated", "transferred", "target-only")
    )
    return [
        heading("2  The same shops, but what people read says nothing about what they buy\n"),
        *map(verdict_text, record.verdicts),
        f"\nGate: {record.gates[0].reason}\n",
        f"{metric_label(record.metric)} of what is served: {served}; of target-only: {alone}. "
        f"Served without the gate, it would have been {transferred}.\n",
    ]


def recommendations(
    recommender: Recommender, user: str, source: str, target: str, k: int = 5
) -> list[RenderableType]:
    """What somebody new to the target read, and what is recommended for it."""
    dataset = recommender.dataset
    row = dataset.user_index[user]
    span = slice(int(dataset.events.offsets[row]), int(dataset.events.offsets[row + 1]))
    items = dataset.domains[dataset.domain_index(source)].items
    history = items[dataset.events.item[span][::-1][:k].tolist()]
    answer = by_request(recommender.recommend(target, users=[user], k=k))[0]
    read = "\n".join(title or "(no title)" for title in history["title"])
    return [
        heading(f"3  Five recommendations for {user}, who has never bought {target}\n"),
        Text("Read last:"),
        Padding(Text(read), (0, 0, 1, 2)),
        items_table(answer["items"]),
        f"\nThe list rests on: {answer['basis']}.\n",
    ]


def closing(
    folder: Path, report: Path, user: str, target: str, seconds: float
) -> list[RenderableType]:
    """Where everything lies, and what to type next."""
    table = Table.grid(padding=(0, 3))
    for command, what in (
        *_activation(),
        (f"cd {folder}", "tables, isthmus.toml, report and model are here"),
        (f"isthmus recommend {target} --user {user}", "the same list, and any other"),
        (f"isthmus profile --user {user}", "what somebody cares about"),
        ("isthmus check", "what the tables are like"),
        ("isthmus init FILES…", "begin with tables of your own"),
    ):
        table.add_row(Text(command, style="bold"), what)
    return [
        heading("4  Go on\n"),
        f"Report, to open in a browser: {report}\n",
        table,
        f"\nTook {duration(seconds)}.",
    ]


def _activation() -> list[tuple[str, str]]:
    """What puts `isthmus` on the path, where it was called in a way that does not need it there."""
    script = Path(sys.prefix, "bin", "activate")
    if shutil.which("isthmus") or not script.is_file():
        return []
    here = Path.cwd()
    shown = script.relative_to(here) if script.is_relative_to(here) else script
    return [(f". {shown}", "so that the shell finds isthmus")]


def _value(record: RunRecord, role: str) -> float:
    """The headline metric of the system in a role."""
    row = record.headline().filter(
        pl.col("system") == record.system(role),
        pl.col("slice") == "all",
        pl.col("metric") == record.metric,
        pl.col("against").is_null(),
    )
    return float(row["value"][0])
