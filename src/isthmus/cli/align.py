"""`isthmus align`: how far the catalogues are from each other, before and after alignment."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.folders import CONFIG, RUNS, load_model, writable
from isthmus.cli.options import AsJson, ConfigFile, Overrides, RunsFolder, load_config

if TYPE_CHECKING:
    from isthmus.alignment.measure import Measurement, Way
    from isthmus.config import Config
    from isthmus.data.dataset import Dataset
    from isthmus.report.alignment import Table


def align(
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME+…",
            help="Maps to apply in turn, whiten+procrustes; repeatable. Default: the configured.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every map, alone and after whitening.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            metavar="FOLDER",
            help="Measure what this saved model has learnt instead, before training and after.",
        ),
    ] = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Measure how far the catalogues' texts are from each other.

    Before and after alignment, for every pair of catalogues: by the configured maps, by named ones
    or by all. Draws both catalogues on a map, in runs/NAME/alignment.html. Nothing is trained.

    With --model, by the item vectors of a saved model, beside the texts it was fitted on.
    """
    if model is not None:
        given = {
            "--map": bool(maps),
            "--all": everything,
            "--set": bool(overrides),
            "--config": config != CONFIG,
            "--runs": runs != RUNS,
        }
        _learned(model, [option for option, there in given.items() if there], as_json=as_json)
        return
    settings = load_config(config, overrides)
    folder = writable(runs / settings.name)
    from isthmus.alignment.measure import check_ways, measure
    from isthmus.data.build import build_dataset
    from isthmus.language.catalogues import cut_notes, cut_texts, encode_catalogues
    from isthmus.report.alignment import tables, write_alignment

    tell = output.teller()
    ways = _ways(settings, maps, everything)
    tell("reading tables")
    dataset, _ = build_dataset(settings)
    check_ways(dataset, settings, ways)
    tell("encoding texts")
    raw = encode_catalogues(dataset.domains, settings.language, device=settings.training.device)
    found = measure(dataset, raw, settings, ways, forgiving=everything, tell=tell)
    page = write_alignment(folder / "alignment.html", settings.name, dataset, raw, found)
    cut = cut_texts(dataset.domains, raw)
    if as_json:
        output.print_json(_document(dataset, found) | {"page": str(page), "truncated": cut})
        return
    for table in tables(dataset, raw, found):
        output.show(_shown(table), *_notes(table), "")
    for line in cut_notes(cut, settings.language):
        print(line)
    print(f"{dataset.names[found.anchor]} stands still. Smaller is closer. Maps: {page}")


def _learned(folder: Path, beside: list[str], *, as_json: bool) -> None:
    """What a model has learnt; see `isthmus.transfer.learned`."""
    from isthmus.errors import ConfigError
    from isthmus.report.alignment import learned_tables
    from isthmus.transfer.learned import learned_distances

    if beside:
        raise ConfigError(
            "a saved model has its maps and settings, and others say nothing of it",
            where="--model",
            hint=f"Leave {' and '.join(beside)} out",
        )
    recommender = load_model(folder)
    dataset = recommender.dataset
    if len(dataset.domains) == 1:
        raise ConfigError(
            f"there is one domain, {dataset.names[0]!r}, and nothing to hold it against",
            where="--model",
            hint="Name a model of two domains or more",
        )
    found = learned_distances(dataset, recommender.raw, recommender.system, recommender.config)
    if as_json:
        pairs = [
            {
                "a": dataset.names[each.a],
                "b": dataset.names[each.b],
                "pairs": each.pairs,
                "stages": {name: asdict(distance) for name, distance in each.stages.items()},
            }
            for each in found
        ]
        output.print_json({"model": str(folder), "pairs": pairs})
        return
    for table in learned_tables(dataset, found):
        output.show(_shown(table, "vectors"), "")
    print("Smaller is closer. A loss may have learnt of the pairs that are measured.")


def _ways(settings: Config, maps: list[str] | None, everything: bool) -> list[Way]:
    from isthmus.alignment.measure import Way, all_ways

    basis = settings.alignment.basis
    named = [Way(tuple(part.strip() for part in text.split("+")), basis) for text in maps or []]
    if everything:
        named += all_ways()
    return list(dict.fromkeys(named)) or [Way(tuple(settings.alignment.features), basis)]


def _document(dataset: Dataset, found: Measurement) -> dict[str, Any]:
    """What a program reads: for every pair of domains the distances by way."""
    names = dataset.names
    return {
        "anchor": names[found.anchor],
        "pairs": [
            {
                "a": names[a],
                "b": names[b],
                "judged": found.judged.get((a, b), 0),
                "ways": [
                    {
                        "name": measured.way.name,
                        "maps": list(measured.way.maps),
                        "basis": measured.way.basis,
                        "missing": measured.missing,
                        "distance": None if measured.missing else asdict(measured.distances[a, b]),
                    }
                    for measured in found.ways
                ],
            }
            for a, b in found.ways[0].distances
        ],
    }


def _shown(table: Table, first: str = "alignment") -> Any:
    from rich import box
    from rich.table import Table as Shown

    from isthmus.report.alignment import MEANINGS

    shown = Shown(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    shown.add_column(first)
    for column in MEANINGS:
        shown.add_column(column, justify="right")
    for row in table.rows:
        shown.add_row(row.way, *row.cells)
    return shown


def _notes(table: Table) -> list[str]:
    return [f"{row.way}: {row.missing}." for row in table.rows if row.missing]
