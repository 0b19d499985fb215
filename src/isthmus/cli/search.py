"""`isthmus search`: better settings, from trials that a kill does not undo."""

from __future__ import annotations

from typing import Annotated

import typer

from isthmus.cli import output
from isthmus.cli.folders import CONFIG, RUNS, writable
from isthmus.cli.options import (
    AsJson,
    ConfigFile,
    Overrides,
    RunsFolder,
    StrategyName,
    Trackers,
    load_config,
)


def search(
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    trials: Annotated[
        int | None, typer.Option("--trials", "-n", min=1, help="Settings to try in all.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that try at the same time.")
    ] = None,
    strategy: StrategyName = None,
    track: Trackers = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Search for better settings.

    Tries values of search.space, the configured ones first, and judges each on validation
    questions. Writes the best configuration, and a page on what mattered, to runs/NAME/search.

    Can be stopped or killed at any moment: the same command goes on, and keeps finished trials.
    """
    named = {"trials": trials, "workers": workers}
    given = {
        f"search.{key}={value}": f"--{key} {value}"
        for key, value in named.items()
        if value is not None
    }
    settings = load_config(config, overrides, strategy, track, options=given)
    folder = writable(runs / settings.name / "search")
    from isthmus.experiment.search import BEST
    from isthmus.experiment.search import search as run_search
    from isthmus.report.search import shown, write_search

    with output.resumable():
        record = run_search(settings, folder, tell=output.teller())
    page = write_search(folder / "search.html", record)
    best, default = record.best, record.default
    assert best is not None, "a search without a complete trial is an error"
    if as_json:
        places = {"best": str(folder / BEST), "page": str(page)}
        output.print_json(places | record.model_dump(mode="json"))
        return
    columns = ["", *best.values, "NDCG@10"]
    rows = [
        [name, *(shown(value) for value in trial.values.values()), f"{trial.figure:.4f}"]
        for name, trial in (("best", best), ("as configured", default))
        if trial is not None
    ]
    output.show(output.plain_table(columns, rows))
    for key, share in list(record.importance.items())[:3]:
        print(f"{key} matters: {share:.0%} of what settings explain.")
    states = [trial.state for trial in record.trials]
    said = f"{len(states)} trials, {states.count('pruned')} broken off"
    print(f"\n{said}. Page {page}. Next: isthmus compare --config {folder / BEST}")
