"""`isthmus add-domain` and `adapt-domain`: a catalogue joins a saved model, and learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.folders import model_folder, writable
from isthmus.cli.options import AsJson, ModelFolder

if TYPE_CHECKING:
    from isthmus.data.cleaning import CleaningReport
    from isthmus.data.one_domain import OneDomain
    from isthmus.recommender import Recommender

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the domain.")]
Mapping = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Maps the columns, under domains.NAME; default: they are guessed, as init does.",
    ),
]


def add_domain(
    name: Name,
    items: Annotated[
        Path | None, typer.Option("--items", metavar="FILE", help="Its catalogue.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option("--events", metavar="FILE", help="What people did in it so far, if anything."),
    ] = None,
    config: Mapping = None,
    model: ModelFolder = None,
    as_json: AsJson = False,
) -> None:
    """Let a catalogue join a saved model.

    It is recommended from at once, by its texts, for people known elsewhere. Nothing is trained and
    no score of another catalogue changes. With events, what adapt-domain does follows.
    """

    def grow(before: Recommender, read: OneDomain, report: CleaningReport) -> Recommender:
        return before.add_domain(
            name, read.frames, people=read.people, cleaning=read.cleaning, report=report
        )

    def read(report: CleaningReport) -> OneDomain:
        from isthmus.data.one_domain import read_one_domain

        return read_one_domain(name, items=items, events=events, config=config, report=report)

    _grow(name, read, grow, model, as_json, f"letting {name} join")


def adapt_domain(
    name: Name,
    events: Annotated[
        Path | None, typer.Option("--events", metavar="FILE", help="What people did in it.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="Only the first N events, by time."),
    ] = None,
    config: Mapping = None,
    model: ModelFolder = None,
    as_json: AsJson = False,
) -> None:
    """Teach a saved model the first events of a catalogue that joined it.

    They are let in as far as they rank better than the catalogue as it joined. A longer export of
    the same log can be given again; what is known is not taken twice.
    """

    def grow(before: Recommender, read: OneDomain, report: CleaningReport) -> Recommender:
        return before.adapt_domain(
            name,
            read.frames,
            limit=limit,
            people=read.people,
            cleaning=read.cleaning,
            report=report,
        )

    def read(report: CleaningReport) -> OneDomain:
        from isthmus.data.one_domain import read_one_domain

        return read_one_domain(name, events=events, config=config, catalogue=False, report=report)

    _grow(name, read, grow, model, as_json, f"learning from the events of {name}")


def _grow(
    name: str,
    read: Callable[[CleaningReport], OneDomain],
    grow: Callable[[Recommender, OneDomain, CleaningReport], Recommender],
    model: Path | None,
    as_json: bool,
    doing: str,
) -> None:
    """Load, read, grow, save as a new version, and say what came of it."""
    place = writable(model_folder(model))
    from isthmus.data.cleaning import CleaningReport
    from isthmus.recommender import Recommender
    from isthmus.training.versions import read_pointer

    tell, report = output.teller(), CleaningReport()
    live = read_pointer(place)
    before = Recommender.load(place)
    tell("reading tables")
    tables = read(report)
    tell(doing)
    grown = grow(before, tables, report)
    if read_pointer(place) != live:
        from isthmus.errors import CheckpointError

        raise CheckpointError(
            "another command has saved a new version meanwhile",
            where=str(place),
            hint="Run this one again, so that it goes on from that one",
        )
    tell(f"saving {place}")
    grown.progress = replace(grown.progress, parent=live.folder.name)
    grown.save(place)
    if as_json:
        output.print_json(_document(name, before, grown, tables, report) | {"model": str(place)})
        return
    sections = {"Columns": tables.guesses, "Cleaning": report.lines()}
    for title, sentences in sections.items():
        if sentences:
            lines = [output.hanging(f"  - {sentence}", 4) for sentence in sentences]
            output.show(output.heading(title), *lines, "")
    said = _document(name, before, grown, tables, report)
    output.show(
        f"{name}: {said['items']:,} items, {said['items_with_text']:,} with a text; "
        f"{said['events']:,} events, {said['new_events']:,} of them new.",
        f"{name}: {said['gate']['reason']}",
    )
    print(f"\nSaved {place}. Next: isthmus recommend {name} --user ID")


def _document(
    name: str,
    before: Recommender,
    grown: Recommender,
    tables: OneDomain,
    report: CleaningReport,
) -> dict[str, Any]:
    """What a program reads."""
    domain = grown.dataset.domain_index(name)
    events = grown.dataset.events.domain == domain
    return {
        "domain": name,
        "items": grown.dataset.domains[domain].n_items,
        "items_with_text": int(grown.raw[domain].present.sum()),
        "events": int(events.sum()),
        "new_events": len(grown.dataset.events) - len(before.dataset.events),
        "gate": asdict(grown.gates[name]),
        "guesses": list(tables.guesses),
        "cleaning": report.to_dict(),
    }
