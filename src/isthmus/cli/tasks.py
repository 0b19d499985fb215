"""`isthmus teach`, `rate`, `click` and `classify`: ratings and classes beside rankings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.folders import RUNS, load_cross_encoder, load_model, model_folder, writable
from isthmus.cli.options import (
    AsJson,
    Histories,
    ModelFolder,
    Overrides,
    RunsFolder,
    Trackers,
    histories,
    identifiers,
    naming,
    once,
    tracked,
)
from isthmus.errors import RequestError

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType

    from isthmus.tasks.figures import Figures


class TaskChoice(StrEnum):
    """What can be taught beside ranking."""

    rate = "rate"
    click = "click"


class Way(StrEnum):
    """What a task goes through."""

    recommender = "recommender"
    language = "language"


class Held(StrEnum):
    """Which held-back examples to judge by."""

    validation = "validation"
    test = "test"


Judge = Annotated[
    Held, typer.Option("--queries", help="Held-back examples to judge by; test: once, at the end.")
]
Through = Annotated[
    Path | None,
    typer.Option("--through", metavar="FOLDER", help="A cross-encoder that 'isthmus teach' tuned."),
]
Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="Where the items are.")]
Items = Annotated[str, typer.Argument(metavar="ITEM,…|@FILE", help="Their ids.")]
Users = Annotated[
    list[str] | None,
    typer.Option("--user", "-u", metavar="ID", help="Who; repeatable.", callback=once),
]
_HISTORIES_HELP = "Give --user ID, or --history"


def teach(
    task: Annotated[TaskChoice, typer.Argument(metavar="TASK", help="rate or click.")],
    model: ModelFolder = None,
    way: Annotated[
        Way,
        typer.Option("--way", help="Heads on the recommender, or a language model that is tuned."),
    ] = Way.recommender,
    target: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="--way language: where it goes; default: MODEL-TASK beside the model.",
        ),
    ] = None,
    overrides: Overrides = None,
    queries: Judge = Held.validation,
    track: Trackers = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Teach a saved model to tell ratings or classes.

    Through the recommender, heads learn on its states and item vectors and are saved with the
    model, which recommends as before. Through the language model, that is tuned to read a person's
    and an item's texts at once, and saved by itself.

    Can be stopped at any moment: the same command goes on from the last checkpoint.
    """
    from isthmus.training.versions import read_pointer

    place = model_folder(model)
    recommender = load_model(place)
    parent = read_pointer(place).folder.name
    named = tracked(track)
    with naming(named):
        config = recommender.config.override(*(overrides or ()), *named)
    run = writable(runs / config.name / "tasks")
    kept = writable(place if way is Way.recommender else target or Path(f"{place}-{task.value}"))
    cut, weights = 0, None
    with output.resumable():
        if way is Way.recommender:
            recommender.teach(task.value, config=config, folder=run)
            recommender.progress = replace(recommender.progress, parent=parent)
            recommender.save(kept)
            found = recommender.judge(task.value, queries=queries.value)
        else:
            encoder = recommender.teach_language(task.value, config=config, folder=run)
            encoder.save(kept)
            cut, weights = encoder.n_truncated, encoder.weights
            found = recommender.judge(task.value, queries=queries.value, through=encoder)
    if as_json:
        said = {"task": task.value, "way": way.value, "saved": str(kept), "queries": queries.value}
        second = {} if weights is None else {"weights": dict(weights)}
        output.print_json(said | {"truncated": cut} | second | found.to_dict())
        return
    output.show(*shown(found))
    _say_truncated(cut)
    if weights is not None:
        print(f"\n{_second_reader(weights)}")
    through = "" if way is Way.recommender else f" --through {kept}"
    print(f"\nSaved {kept}. Next: isthmus {task.value} DOMAIN ITEM --user ID{through}")


def rate(
    domain: Domain,
    items: Items,
    model: ModelFolder = None,
    user: Users = None,
    history: Histories = None,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """Tell how people would rate items.

    By the heads that 'isthmus teach rate' added to the model, or through a tuned language model.
    """
    _told("rate", domain, items, model, user, history, through, as_json)


def click(
    domain: Domain,
    items: Items,
    model: ModelFolder = None,
    user: Users = None,
    history: Histories = None,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """Tell what people would do with items, as one of several classes.

    By the heads that 'isthmus teach click' added to the model, or through a tuned language model.
    """
    _told("click", domain, items, model, user, history, through, as_json)


def classify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Pairs of texts: CSV, Parquet or JSON lines.")
    ],
    first: Annotated[
        str, typer.Option("--first", metavar="COLUMN", help="The first text, such as a history.")
    ] = "history",
    second: Annotated[
        str, typer.Option("--second", metavar="COLUMN", help="The second, such as an item.")
    ] = "item",
    label: Annotated[str, typer.Option("--label", metavar="COLUMN", help="The class.")] = "label",
    base: Annotated[
        str,
        typer.Option(
            "--base", metavar="MODEL", help="'embedded', a hub name such as bert-base-uncased, …"
        ),
    ] = "embedded",
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the tuned model goes.")
    ] = Path("models/classifier"),
    apply: Annotated[
        Path | None,
        typer.Option("--apply", metavar="FOLDER", help="Tune nothing: label FILE by this one."),
    ] = None,
    overrides: Overrides = None,
    track: Trackers = None,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Tune a language model on labelled pairs of texts, or label pairs by it.

    A BERT, or any other, learns (history, item) → label and is judged on pairs held back: report by
    class, AUC, loss, calibration. --set tasks.cross_encoder.epochs=5 and its like say how.

    Can be stopped at any moment: the same command goes on from the last checkpoint, in
    runs/classify.
    """
    from isthmus.data.readers import open_table

    if apply is not None:
        frame = open_table(file).read()
        _apply(apply, frame, (first, second), where=str(file), as_json=as_json)
        return
    from isthmus.config import Config
    from isthmus.language.cross_encoder import CrossEncoder
    from isthmus.language.learning import run_mark
    from isthmus.tasks.pairs import judged_pairs, pairs_from_table

    named = tracked(track)
    with naming(named):
        settings = Config.parse({}, overrides=[*(overrides or ()), *named])
    kept = writable(target)
    pairs, classes = pairs_from_table(
        open_table(file).read(), first=first, second=second, label=label, where=str(file)
    )
    learn, how = pairs["train"], settings.tasks.cross_encoder
    mark = run_mark(learn.first, learn.second, learn.label, classes, base, how, settings.seed)
    run = writable(runs / "classify" / mark[:12])
    with output.resumable():
        encoder = CrossEncoder.fit(
            learn,
            pairs["validation"],
            classes=classes,
            base=base,
            config=how,
            training=settings.training,
            folder=run / "checkpoints",
            curves=run / "curves",
            tracking=settings.tracking,
            seed=settings.seed,
        )
        encoder.save(kept)
    cut = encoder.n_truncated
    held = "test" if len(pairs["test"]) else "validation"
    found = judged_pairs(encoder, pairs[held])
    if as_json:
        said = {"saved": str(kept), "queries": held, "run": str(run), "truncated": cut}
        output.print_json(said | found.to_dict())
        return
    output.show(*shown(found))
    _say_truncated(cut)
    print(f"\nSaved {kept}. Next: isthmus classify FILE --apply {kept}")


def shown(found: Figures) -> list[RenderableType]:
    """Figures as tables: by domain, by class, and what was said against what happened."""
    tables: list[RenderableType] = []
    if found.by_domain:
        metrics = [name for name in next(iter(found.by_domain.values())) if name != "n"]
        rows = [
            [domain, f"{int(of['n']):,}", *(f"{of[name]:.4f}" for name in metrics)]
            for domain, of in found.by_domain.items()
        ]
        titles = [name.replace("_", " ") for name in metrics]
        tables.append(output.plain_table(["", "examples", *titles], rows))
    if found.report:
        rows = [
            [line.name, *(f"{v:.3f}" for v in (line.precision, line.recall, line.f1)), f"{n:,}"]
            for line in found.report
            for n in [line.support]
        ]
        tables += [
            "",
            output.plain_table(["class", "precision", "recall", "F1", "there are"], rows),
        ]
    if found.calibration:
        last = found.report[-3].name
        rows = [
            [f"{each.said:.3f}", f"{each.happened:.3f}", f"{each.n:,}"]
            for each in found.calibration
        ]
        tables += ["", output.plain_table([f"said {last!r}", "happened", "pairs"], rows)]
    return tables


def _second_reader(weights: Mapping[str, float]) -> str:
    """What `--rerank` makes of it, domain by domain."""
    said = [
        f"in {name} it counts {weight:.2f} as much as the order that is there"
        if weight
        else f"in {name} it does not help, and the order stays"
        for name, weight in weights.items()
    ]
    return f"With --rerank, by validation questions: {'; '.join(said) or 'nothing was asked'}."


def _say_truncated(count: int) -> None:
    if count:
        limit = "tasks.cross_encoder.max_tokens"
        print(f"\n{count:,} pairs of texts are longer than {limit} and were cut")


def _told(
    task: str,
    domain: str,
    items: str,
    model: Path | None,
    user: list[str] | None,
    history: list[str] | None,
    through: Path | None,
    as_json: bool,
) -> None:
    given, ids = histories(history), once(identifiers(items, "ITEM"))
    if not user and not given:
        raise RequestError("nobody is asked about", hint=_HISTORIES_HELP)
    recommender = load_model(model)
    ask: Any = getattr(recommender, task)
    encoder = None if through is None else load_cross_encoder(through)
    found = ask(domain, ids or [], users=user, histories=given, through=encoder)
    if as_json:
        output.print_json({"domain": domain, "answers": found.to_dicts()})
        return
    output.show(_answers(found))


def _answers(found: pl.DataFrame) -> RenderableType:
    """One line per person and item."""
    rows = []
    for row in found.iter_rows(named=True):
        told = (
            [f"{row['rating']:.2f}"]
            if "rating" in row
            else [row["label"], ", ".join(f"{n} {p:.3f}" for n, p in row["chances"].items())]
        )
        rows.append([row["request"], row["item_id"], row["title"] or "(no title)", *told])
    told_titles = ["rating"] if "rating" in found.columns else ["label", "chances"]
    return output.plain_table(["who", "item", "title", *told_titles], rows)


def _apply(
    folder: Path, frame: pl.DataFrame, texts: tuple[str, str], *, where: str, as_json: bool
) -> None:
    """Label the pairs of a table, one line each."""
    import polars as pl

    from isthmus.tasks.pairs import columns_of

    one, other = (c.cast(pl.String).to_list() for c in columns_of(frame, texts, where))
    encoder = load_cross_encoder(folder)
    told = encoder.tell(one, other)
    rows: list[dict[str, Any]] = [
        {"row": n, "label": encoder.classes[int(chances.argmax())], "chance": float(chances.max())}
        if encoder.classes
        else {"row": n, "label": float(chances), "chance": None}
        for n, chances in enumerate(told, 1)
    ]
    if as_json:
        output.print_json({"pairs": rows, "truncated": encoder.n_truncated})
        return
    for row in rows:
        print(f"{row['row']}\t{row['label']}" + (f"\t{row['chance']:.4f}" if row["chance"] else ""))
