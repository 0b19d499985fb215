"""`isthmus fit`, `compare` and `evaluate`: train, measure, and say what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.folders import (
    CONFIG,
    RUNS,
    load_cross_encoder,
    load_model,
    model_place,
    writable,
)
from isthmus.cli.options import (
    AsJson,
    ConfigFile,
    ModelFolder,
    Overrides,
    RunsFolder,
    StrategyName,
    Targets,
    Trackers,
    load_config,
    words,
)

if TYPE_CHECKING:
    from rich.table import Table

    from isthmus.evaluation.result import Evaluation
    from isthmus.experiment.compare import Comparison
    from isthmus.experiment.curve import CurvePlan


class Questions(StrEnum):
    """Which held-back questions to ask."""

    test = "test"
    validation = "validation"
    tuning = "tuning"
    stopping = "stopping"


class CurveBy(StrEnum):
    """What a share of the target's data is a share of."""

    users = "users"
    time = "time"


class ControlName(StrEnum):
    """What is destroyed to see what a gain rests on."""

    shuffled_text = "shuffled-text"
    shuffled_source = "shuffled-source"
    random_overlap = "random-overlap"


def fit(
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    target: Targets = None,
    strategy: StrategyName = None,
    track: Trackers = None,
    model: ModelFolder = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Train, set the gates, and save the model.

    Trains on all catalogues together and on each target alone; the gate of a target lets the
    first in as far as held-back questions support it. --target says which are targets; without
    it, the configured one is, or else every catalogue.

    Can be stopped at any moment: the same command goes on from the last checkpoint.
    """
    settings = load_config(config, overrides, strategy, track)
    place = model_place(model, settings.name)
    run = writable(runs / settings.name)
    from isthmus.data.advice import ahead_of_now
    from isthmus.data.build import build_dataset
    from isthmus.language.catalogues import cut_notes, cut_texts
    from isthmus.recommender import Recommender

    tell = output.teller()
    with output.resumable():
        tell("reading tables")
        dataset, cleaning = build_dataset(settings)
        tell(f"fitting; stop at any moment, the same command goes on from {run}")
        # Where `compare` looks as well, so that neither repeats what the other has trained.
        checkpoints = run / "parts" / f"seed-{settings.seed}"
        recommender = Recommender.fit(dataset, settings, targets=target, folder=checkpoints)
        tell(f"saving {place}")
        recommender.save(place)
    cut = cut_texts(dataset.domains, recommender.raw)
    if as_json:
        gates = {name: asdict(gate) for name, gate in recommender.gates.items()}
        said = {"model": str(place), "run": str(run), "gates": gates}
        output.print_json(said | {"truncated": cut})
        return
    reasons = [f"{name}: {gate.reason}" for name, gate in recommender.gates.items()]
    output.show(*reasons, *cut_notes(cut, settings.language), *ahead_of_now(cleaning))
    print(f"\nSaved {place}. Next: isthmus recommend {next(iter(recommender.gates))} --user ID")


def compare(
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    target: Targets = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Training seeds, 0,1,2.")] = "0",
    baselines: Annotated[
        str | None,
        typer.Option(
            "--baselines",
            metavar="NAME,…",
            help="Competitors; default: all but emcdr, cmf, bitgcf and unisrec.",
        ),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            "--curve",
            metavar="SHARE,…",
            help="Measure with these shares of the target's data as well: 0.1,0.25,1.",
        ),
    ] = None,
    curve_by: Annotated[
        CurveBy | None,
        typer.Option("--curve-by", help="Share of its people (default), or the latest events."),
    ] = None,
    curve_baselines: Annotated[
        str | None,
        typer.Option(
            "--curve-baselines",
            metavar="NAME,…",
            help="Competitors at shares below 1; default: the cheap ones.",
        ),
    ] = None,
    control: Annotated[
        list[ControlName] | None,
        typer.Option(
            "--control",
            metavar="NAME",
            help="Measure again with something destroyed: shuffled-text, shuffled-source or "
            "random-overlap; repeatable.",
        ),
    ] = None,
    strategy: StrategyName = None,
    track: Trackers = None,
    model: ModelFolder = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Say whether the other catalogues help.

    By how much, and for whom: fits both sides and every competitor, asks all of them the same
    held-back questions, and writes figures, a report and a model card to runs/NAME. The model is
    saved as well. --curve says how the answer changes with the amount of target data, --control
    what the gain rests on.

    Can be stopped at any moment: the same command goes on, and finished parts are kept.
    """
    settings = load_config(config, overrides, strategy, track)
    numbers = _seeds(seeds)
    plan = _plan(curve, curve_by, curve_baselines, control)
    place = model_place(model, settings.name)
    run = writable(runs / settings.name)
    from isthmus.experiment.compare import compare as run_comparison
    from isthmus.language.catalogues import cut_notes, cut_texts

    with output.resumable():
        found = run_comparison(
            settings,
            targets=target,
            seeds=numbers,
            baselines=words(baselines),
            plan=plan,
            folder=runs,
            tell=output.teller(),
        )
        found.recommender.save(place)
        report = write_pages(run)
    cut = cut_texts(found.recommender.dataset.domains, found.recommender.raw)
    if as_json:
        places = {"report": str(report), "run": str(run), "model": str(place)}
        output.print_json(summary_of(found) | places | {"truncated": cut})
        return
    from isthmus.report.tables import overview

    output.show(overview(found.record), *cut_notes(cut, settings.language))
    print(f"\nReport {report}\nModel  {place}")


def evaluate(
    model: ModelFolder = None,
    queries: Annotated[
        Questions, typer.Option("--queries", help="Which held-back questions to ask.")
    ] = Questions.test,
    rerank: Annotated[
        Path | None,
        typer.Option(
            "--rerank",
            metavar="FOLDER",
            help="Beside it, its best items in a new order: by a cross-encoder of 'isthmus teach'.",
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("--most", metavar="N", min=1, help="Questions a domain, drawn at random."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a saved model on held-back questions."""
    recommender = load_model(model)
    encoder = None if rerank is None else load_cross_encoder(rerank)
    found = recommender.evaluate(queries=queries.value, rerank=encoder, most=most)
    if as_json:
        output.print_json(
            {
                domain: {name: _figures(evaluation) for name, evaluation in systems.items()}
                for domain, systems in found.items()
            }
        )
        return
    for domain, systems in found.items():
        gate = recommender.gates.get(domain)
        output.show(_evaluation_table(domain, systems), f"\n{gate.reason}\n" if gate else "")


def write_pages(run: Path) -> Path:
    """Write report, model card and a picture of a run; gives the report's path."""
    from isthmus.experiment.records import read_run
    from isthmus.report.figures import write_picture
    from isthmus.report.model_card import write_model_card
    from isthmus.report.page import write_report

    write_model_card(run)
    record = read_run(run)
    if any(verdict.relative for verdict in record.verdicts):
        write_picture(record, run / "uplift.svg")
    return write_report(run)


def summary_of(found: Comparison) -> dict[str, object]:
    """What a program reads of a comparison: verdicts, gates, and the content of metrics.json."""
    from isthmus.experiment.records import summary

    record = found.record
    return {
        "verdicts": [verdict.model_dump(mode="json") for verdict in record.verdicts],
        "gates": [gate.model_dump(mode="json") for gate in record.gates],
        **summary(record),
    }


def _seeds(text: str) -> list[int]:
    from isthmus.errors import ConfigError

    numbers = words(text) or []
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise ConfigError(
            f"{text!r} is not a list of seeds", where="--seeds", hint="Write whole numbers: 0,1,2"
        )
    return [int(number) for number in dict.fromkeys(numbers)]


def _plan(
    curve: str | None,
    by: CurveBy | None,
    baselines: str | None,
    controls: Sequence[ControlName] | None,
) -> CurvePlan | None:
    """What `--curve` and its company ask for; None where neither curve nor control is."""
    from isthmus.errors import ConfigError
    from isthmus.experiment.curve import CurvePlan

    for option, value in (("--curve-by", by), ("--curve-baselines", baselines)):
        if value is not None and curve is None:
            raise ConfigError(
                "says nothing without a curve", where=option, hint="Add --curve 0.1,0.25,1"
            )
    if curve is None and not controls:
        return None
    shares = words("1" if curve is None else curve) or []
    try:
        numbers = tuple(float(share) for share in shares)
    except ValueError:
        numbers = ()
    if not numbers:
        raise ConfigError(
            f"{curve!r} is not a list of shares", where="--curve", hint="Write 0.1,0.25,1"
        )
    named = words(baselines)
    return CurvePlan(
        shares=numbers,
        by="time" if by is CurveBy.time else "users",
        controls=tuple(control.value for control in controls or ()),
        baselines=None if named is None else tuple(named),
    )


def _figures(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Metric → value, interval and number of questions, over all of them."""
    from isthmus.evaluation.slices import ALL

    return {
        row["metric"]: {
            "value": row["value"],
            "ci95": [row["ci_low"], row["ci_high"]],
            "n": row["n"],
        }
        for row in evaluation.records().iter_rows(named=True)
        if row["slice"] == ALL
    }


def _evaluation_table(domain: str, systems: dict[str, Evaluation]) -> Table:
    from rich import box
    from rich.table import Table

    from isthmus.experiment.verdict import metric_label
    from isthmus.report.reading import figure

    figures = {name: _figures(evaluation) for name, evaluation in systems.items()}
    first = next(iter(figures.values()))
    metrics = ("ndcg@10", "hit_rate@10", "mrr@10", "coverage@10")
    # A sampled protocol ranks no whole catalogue, so it covers none.
    shown = [metric for metric in metrics if metric in first]
    table = Table(
        title=f"{domain}: {first[shown[0]]['n']:,} questions",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("system")
    for metric in shown:
        table.add_column(metric_label(metric), justify="right")
    for name, row in figures.items():
        cells = []
        for metric in shown:
            low, high = row[metric]["ci95"]
            half = "" if low is None else f" ±{figure((high - low) / 2)}"
            cells.append(figure(row[metric]["value"]) + half)
        table.add_row(name, *cells)
    return table
