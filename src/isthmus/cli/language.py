"""`isthmus pretrain`, `tune-language` and `distil-language`: the language model itself learns."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.folders import CONFIG, MODELS, RUNS, writable
from isthmus.cli.options import (
    AsJson,
    ConfigFile,
    Overrides,
    RunsFolder,
    Trackers,
    load_config,
    once,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from isthmus.config import Config
    from isthmus.language.pretraining.corpus import Corpus


class Modelling(StrEnum):
    """How a language model is pretrained."""

    mlm = "mlm"
    clm = "clm"


class Tuning(StrEnum):
    """What a language model is tuned for."""

    contrast = "contrast"


Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Where the result goes."),
]
ModellingName = Annotated[
    Modelling | None,
    typer.Option("--objective", help="Masked or causal; default: what suits the model."),
]
TuningName = Annotated[
    Tuning, typer.Option("--objective", help="contrast: items chosen together read alike.")
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="side, full, last-layers, adapter, lora, dora, adalora, ia3, prefix or prompt; "
        "repeatable. Default: tuning.method.",
        callback=once,
    ),
]
OnlyDomains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        metavar="NAME",
        help="Tune for this domain alone; repeatable.",
        callback=once,
    ),
]
Merged = Annotated[
    Path | None,
    typer.Option(
        "--merged", metavar="FOLDER", help="Write the plain model with the weights in it too."
    ),
]


def pretrain(
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    objective: ModellingName = None,
    folder: Output = None,
    track: Trackers = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Pretrain the language model on the items' texts.

    And on the files of domains.NAME.corpus; measures perplexity on held-out texts before and
    after. pretraining.scratch makes a new BERT or GPT with a tokenizer of its own. The result is
    a folder for language.model, by default models/NAME-language.

    Can be stopped at any moment: the same command goes on from the last checkpoint.
    """
    named = {}
    if objective is not None:
        named[f"pretraining.objective='{objective.value}'"] = f"--objective {objective.value}"
    settings = load_config(config, overrides, track=track, options=named)
    place = writable(folder or MODELS / f"{settings.name}-language")
    run = writable(runs / settings.name)
    from isthmus.language.pretraining.pretrain import pretrain as run_pretraining

    tell = output.teller()
    with output.resumable():
        tell("reading tables")
        found = run_pretraining(
            _corpus(settings, settings.pretraining.held_out),
            settings.language,
            settings.pretraining,
            place,
            seed=settings.seed,
            device=settings.training.device,
            threads=settings.training.threads,
            checkpoints=run / "parts" / "pretraining",
            curves=run / "curves" / "pretraining",
            tracking=settings.tracking,
            tell=tell,
        )
    if as_json:
        output.print_json(found.to_dict())
        return
    before, after = found.perplexity_before, found.perplexity_after
    head = f" behind a head fitted in {found.head_steps} steps" if found.head_steps else ""
    print(
        f"Perplexity on {found.held_out:,} held-out texts: {before:.1f}{head} → {after:.1f} "
        f"({after / before - 1:+.0%})"
    )
    print(f"{found.steps} steps on {found.texts:,} texts in {found.seconds:.0f} s")
    if found.divided:
        print(
            f"{found.divided:,} texts are longer than language.max_tokens and were learnt in "
            f"{found.windows - found.texts + found.divided:,} windows"
        )
    if found.truncated:
        print(f"Of {found.truncated:,} long held-out texts the beginning alone is measured on")
    _say_saved(place)


def tune_language(
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    objective: TuningName = Tuning.contrast,
    method: Methods = None,
    domain: OnlyDomains = None,
    folder: Output = None,
    merged: Merged = None,
    track: Trackers = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Tune the language model, so that its vectors carry taste.

    What people choose together is drawn together, everything else apart, by training events
    alone. Saves a few MB of weights for language.tuned, by default
    models/NAME-METHOD, and prints what each method cost and gave so far: texts alone, ranking on
    validation.

    Can be stopped at any moment: the same command goes on from the last checkpoint.
    """
    named = [{f"tuning.method='{name}'": f"--method {name}"} for name in method or ()] or [{}]
    settings = [load_config(config, overrides, track=track, options=one) for one in named]
    _one_place(folder, merged, settings, domain)
    run = writable(runs / settings[0].name)
    from isthmus.data.build import build_dataset
    from isthmus.experiment.tune_language import record_run
    from isthmus.experiment.tune_language import tune_language as run_tuning
    from isthmus.language.tuning.merge import merge

    tell = output.teller()
    rows: list[dict[str, Any]] = []
    saved: list[Path] = []
    with output.resumable():
        tell("reading tables")
        dataset, _ = build_dataset(settings[0])
        for chosen in settings:
            part = "-".join([chosen.tuning.method, *(domain or [])])
            place = writable(folder or MODELS / f"{chosen.name}-{part}")
            found = run_tuning(
                dataset,
                chosen,
                place,
                only=domain,
                checkpoints=run / "parts" / f"tuning-{part}",
                curves=run / "curves" / f"tuning-{part}",
                tell=tell,
            )
            if merged is not None:
                merge(place, chosen.language, merged)
            rows = record_run(run, found)
            saved.append(place)
            _say_truncated(0 if as_json else found.tuning.truncated)
    if as_json:
        output.print_json({"saved": [str(place) for place in saved], "methods": rows})
        return
    output.show(methods_table(rows))
    key = f"language.tuned_by_domain.{domain[0]}" if domain else "language.tuned"
    print(f"\nSaved {', '.join(map(str, saved))}. To use it: --set {key}={saved[-1]}")
    print("The table asks texts alone; isthmus compare with it tells whether the blend gains.")


def distil_language(
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    folder: Output = None,
    track: Trackers = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Teach a smaller language model what a larger one says.

    Of the items' texts and the files of domains.NAME.corpus: distillation.teacher's vectors, or
    which texts it finds alike. The result is a folder for language.model, by default
    models/NAME-student.

    Can be stopped at any moment: the same command goes on from the last checkpoint.
    """
    settings = load_config(config, overrides, track=track)
    place = writable(folder or MODELS / f"{settings.name}-student")
    run = writable(runs / settings.name)
    from isthmus.language.tuning.distil import distil

    tell = output.teller()
    with output.resumable():
        tell("reading tables")
        corpus = _corpus(settings, settings.distillation.held_out)
        tell("distilling")
        found = distil(
            corpus,
            settings.distillation,
            settings.language,
            place,
            seed=settings.seed,
            device=settings.training.device,
            threads=settings.training.threads,
            checkpoints=run / "parts" / "distillation",
            curves=run / "curves" / "distillation",
            tracking=settings.tracking,
        )
    if as_json:
        output.print_json(found.to_dict())
        return
    mine, teachers = found.parameters
    before, after = found.agreement
    print(f"Student of {mine / 1e6:.1f} M parameters, teacher of {teachers / 1e6:.1f} M")
    print(f"Of a held-out text's ten nearest, shared with the teacher: {before:.0%} → {after:.0%}")
    _say_truncated(found.truncated)
    _say_saved(place)


def _corpus(settings: Config, held_out: float) -> Corpus:
    """All texts of the configured tables, a share of them held out."""
    from isthmus.data.build import build_dataset
    from isthmus.language.pretraining.corpus import Corpus, texts_of

    dataset, _ = build_dataset(settings)
    return Corpus.of(texts_of(dataset.domains), held_out)


def methods_table(rows: Sequence[dict[str, Any]]) -> Table:
    """What each method cost, and what texts alone rank like with it."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("method", no_wrap=True)
    domains = list(dict.fromkeys(name for row in rows for name in row["quality"]))
    for column in ("learns", "MB", "peak MB", "s/step", "steps"):
        table.add_column(column, justify="right")
    for name in domains:
        table.add_column(f"{name} NDCG@10", justify="right")
    for row in rows:
        table.add_row(
            row["method"],
            f"{row['trainable_share']:.2%}",
            f"{row['megabytes']:.1f}",
            f"{row['peak_mb']:,.0f}",
            f"{row['seconds_per_step']:.2g}",
            f"{row['steps']:,}",
            *(_quality(row["quality"].get(name)) for name in domains),
        )
    return table


def _quality(figures: dict[str, dict[str, Any]] | None) -> str:
    if figures is None or "ndcg@10" not in figures:
        return "–"
    found = figures["ndcg@10"]
    return f"{found['frozen']:.4f} → {found['tuned']:.4f}"


def _say_truncated(count: int) -> None:
    if count:
        print(f"{count:,} texts are longer than language.max_tokens and were cut")


def _say_saved(place: Path) -> None:
    print(f"\nSaved {place}. To read texts with it: --set language.model={place}")


def _one_place(
    folder: Path | None, merged: Path | None, settings: Sequence[Config], domain: list[str] | None
) -> None:
    """Several methods cannot go to one folder, and what is to be merged must have such a form."""
    from isthmus.errors import ConfigError

    if len(settings) > 1 and (folder or merged):
        raise ConfigError(
            f"{len(settings)} methods cannot be saved to one folder",
            where="--output" if folder else "--merged",
            hint="Leave it out, or name one --method",
        )
    if merged is not None:
        from isthmus.language.tuning.methods import check_mergeable

        check_mergeable(settings[0].tuning.method)
    if domain and settings[0].domains:
        from isthmus.errors import did_you_mean

        for name in domain:
            if name not in settings[0].domains:
                raise ConfigError(
                    f"{name!r} is no domain",
                    where="--domain",
                    hint=did_you_mean(name, settings[0].domains),
                )
