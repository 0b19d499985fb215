"""`isthmus init` and `isthmus check`: from files to a configuration, and what the data are like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import output
from isthmus.cli.folders import CONFIG, RUNS, writable
from isthmus.cli.options import AsJson, ConfigFile, Overrides, RunsFolder, load_config
from isthmus.errors import ConfigError

if TYPE_CHECKING:
    from isthmus.data.check import DataReport


def init(
    files: Annotated[
        list[Path], typer.Argument(help="Tables of interactions, items, people, knowledge.")
    ],
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")
    ] = CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a first configuration from files.

    Says what was guessed of each file and column, and what that rests on.
    """
    if target.exists() and not force:
        raise ConfigError(
            "exists already", where=str(target), hint="Replace it with --force, or name --output"
        )
    from isthmus.data.guess import guess_config
    from isthmus.experiment.records import write_whole

    guess = guess_config(files, base=target.parent)
    write_whole(target, guess.toml.encode())
    if as_json:
        output.print_json({"config": str(target), "guesses": list(guess.sentences)})
        return
    for sentence in guess.sentences:
        print(output.hanging(f"- {sentence}", 2))
    print(f"\nWrote {target}. Look it over, then: isthmus check")


def check(
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Say what the data are like, and what to mend.

    Prints figures per catalogue and pair of catalogues, what cleaning dropped, what will go wrong
    and what to do about it; the same goes to runs/NAME/data-report.md.
    """
    settings = load_config(config, overrides)
    folder = writable(runs / settings.name)
    from isthmus.data.build import build_dataset
    from isthmus.data.check import check_dataset

    report = check_dataset(*build_dataset(settings))
    report.write(folder)
    if as_json:
        output.print_json(report.to_dict())
        return
    _print_report(report, folder / "data-report.md")


def _print_report(report: DataReport, page: Path) -> None:
    said = report.sentences()
    n_domains, n_pairs = len(report.domains), len(report.pairs)
    sections = {
        "Domains": said[:n_domains],
        "Side by side": said[n_domains : n_domains + n_pairs],
        "Cleaning": [*report.notes, *report.cleaning.lines()],
        "What will go wrong, and what to do": report.advice or ("Nothing stands out.",),
    }
    for title, sentences in sections.items():
        if sentences:
            lines = [output.hanging(f"  - {sentence}", 4) for sentence in sentences]
            output.show(output.heading(title), *lines, "")
    print(f"As a page: {page}")
