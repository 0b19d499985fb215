"""`isthmus update` and `isthmus models`: a model that goes on learning, and its versions."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.folders import model_folder
from isthmus.cli.options import AsJson, ModelFolder

if TYPE_CHECKING:
    from isthmus.online.learner import Learner, Step
    from isthmus.training.checkpoint import Checkpoint

LOOK_SECONDS = 2.0
"""How often the log is asked for its end while events are counted."""

RETAIN_SECONDS = 3600.0
"""How often old records are deleted while nothing is learnt."""

models = typer.Typer(add_completion=False, no_args_is_help=True)

Beside = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="PATH_OR_URL",
        help="The event log that it is to serve beside; default: online.log as the model was "
        "configured.",
    ),
]


def update(
    model: ModelFolder = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            metavar="PATH_OR_URL",
            help="The event log; default: online.log as the model was configured.",
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, however few events are new (default).")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option("--every", metavar="SECONDS", min=1, help="Go on, looking this often."),
    ] = None,
    events: Annotated[
        int | None,
        typer.Option("--events", metavar="N", min=2, help="Go on, learning every N new events."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override one key of learning for this command, learning.passes=1; repeatable.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Learn all events again, not the new ones alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Learn what is new in an event log.

    The successor is held against the version that serves on the newest events, and goes live only
    if it is no worse. What became of every version is kept; see 'isthmus models'. Can be stopped
    at any moment: the version that serves stays whole, and the next update goes on.
    """
    from isthmus.errors import ConfigError

    if sum((once, every is not None, events is not None)) > 1:
        raise ConfigError(
            "--once, --every and --events exclude each other", where="update", hint="Give one"
        )
    folder = model_folder(model)
    from isthmus.online.catalogue import open_catalogue
    from isthmus.online.learner import Learner
    from isthmus.online.log import open_log

    where = _existing_log(log, folder)
    opened, catalogue = open_log(where), open_catalogue(where)
    try:
        learner = Learner(folder, opened, catalogue=catalogue, settings=settings or ())
        with output.resumable():
            if every is None and events is None:
                _tell(learner.step(full=full, wait=False), as_json)
            else:
                pause = _every(every) if every is not None else _after(learner, events or 0)
                _for_ever(learner, pause, as_json, least=events)
    finally:
        catalogue.close()
        opened.close()


@models.command("list")
def list_versions(model: ModelFolder = None, as_json: AsJson = False) -> None:
    """Every version that there was, and why it does or did or does not serve.

    Those marked "gone" were too old to be kept; they cannot be promoted.
    """
    folder = model_folder(model)
    rows = _versions(folder)
    if as_json:
        output.print_json(rows)
        return
    for row in rows:
        mark = "live" if row["live"] else "" if row["kept"] else "gone"
        reason = row["reason"]
        if not row["kept"]:
            reason = f"{'Served.' if row['served'] else 'Was kept back.'} {reason}"
        line = f"{row['version']}  {mark:4}  {row['written']}  {row['kind']:14}  {reason}"
        print(output.hanging(line, 9))


@models.command("promote")
def promote(
    version: Annotated[str, typer.Argument(help="Name of a version, v000007.")],
    model: ModelFolder = None,
    log: Beside = None,
    as_json: AsJson = False,
) -> None:
    """Let a version that is kept serve.

    One that cannot serve beside the event log is refused. Where the model's log is not found and
    none is named, that is left to the service, which goes on with the version that it has, and
    does not start again.
    """
    from isthmus.recommender.storage import KIND
    from isthmus.training import checkpoint

    folder = model_folder(model)
    with _belonging(log, folder) as check:
        found = checkpoint.promote(folder, version, kind=KIND, check=check)
    _switched(found.folder.name, as_json)


@models.command("rollback")
def rollback(model: ModelFolder = None, log: Beside = None, as_json: AsJson = False) -> None:
    """Let the version serve that did before; the event log is asked as by 'promote'."""
    from isthmus.recommender.storage import KIND
    from isthmus.training.checkpoint import roll_back

    folder = model_folder(model)
    with _belonging(log, folder) as check:
        found = roll_back(folder, kind=KIND, check=check)
    _switched(found.folder.name, as_json)


@contextmanager
def _belonging(given: str | None, folder: Path) -> Iterator[Callable[[Checkpoint], None] | None]:
    """What refuses a version that cannot serve beside the log; None: the log is not known.

    Raises:
        RequestError: the log that was given is not there.
        LogError: it is none, or cannot be opened.
    """
    from isthmus.errors import LogError, RequestError
    from isthmus.online.log import open_log
    from isthmus.serving.belonging import check_belongs, learnt_of

    try:
        log = open_log(_existing_log(given, folder))
    except (RequestError, LogError):
        if given is not None:
            raise
        log = None
    if log is None:
        yield None
        return

    def check(found: Checkpoint) -> None:
        learnt = learnt_of(found.meta)
        # What lies where a log would be by default may be another model's.
        if given is not None or (learnt is not None and learnt[0] == log.id):
            check_belongs(learnt, log, str(folder))

    with closing(log):
        yield check


def _switched(version: str, as_json: bool) -> None:
    if as_json:
        output.print_json({"live": version})
    else:
        print(f"{version} serves now.")


def _versions(folder: Path) -> list[dict[str, Any]]:
    from isthmus.continual.progress import Progress
    from isthmus.training.checkpoint import described
    from isthmus.training.ledger import read_ledger
    from isthmus.training.versions import read_pointer

    found, entered = described(folder), read_ledger(folder)
    pointer = read_pointer(folder)
    live, been = pointer.folder.name, {pointer.folder.name, *pointer.before}
    kept = {name for name, *_ in found}
    rows = [
        {
            "version": name,
            "live": False,
            "kept": False,
            "served": bool(entry.get("live")),
            "written": _moment(entry["written"]),
            "kind": entry["kind"],
            "reason": entry["reason"],
        }
        for name, entry in entered.items()
        if name not in kept
    ]
    for name, manifest, meta in found:
        progress = Progress.from_json(meta.get("progress"))
        row = progress.as_json() | {
            "version": name,
            "live": name == live,
            "kept": True,
            "served": name in been or bool(entered.get(name, {}).get("live")),
            "written": _moment(manifest["written"]),
            "log": meta.get("log"),
            "reason": progress.reason,
        }
        del row["watch"]
        rows.append(row)
    return sorted(rows, key=lambda row: str(row["version"]))


def _moment(written: str) -> str:
    return written[:19].replace("T", " ")


def _existing_log(given: str | None, folder: Path) -> Path | str:
    """The log given, else that of the configuration the live version was made with.

    Raises:
        RequestError: no such file.
    """
    from isthmus.config import Config
    from isthmus.errors import RequestError
    from isthmus.training.checkpoint import described
    from isthmus.training.versions import read_pointer

    live = read_pointer(folder).folder.name
    where: Path | str | None = given
    if where is None:
        meta = next(meta for name, _, meta in described(folder) if name == live)
        where = Config.parse(meta["config"], where=f"{folder}: config").online.log
    where = where or Path("events.db")
    if "://" not in str(where) and not Path(where).is_file():
        raise RequestError(
            "no such event log",
            where=str(where),
            hint="Name its file or postgresql:// URL with --log, or set online.log",
        )
    return where


def _tell(step: Step, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        output.print_json(asdict(step))
        return
    named = f"{step.version} {'serves now' if step.live else 'is kept back'}. "
    said = (f"{named if step.version else ''}{step.reason}", *step.notes)
    print("\n".join(output.hanging(line, 2) for line in said), flush=True)


def _for_ever(
    learner: Learner, pause: Callable[[], None], as_json: bool, *, least: int | None
) -> None:
    """Look again and again; a log or a disk that is away for a while is no reason to stop."""
    from isthmus.errors import LogUnavailable, TrainingError

    due = 0.0
    known: set[str] = set()

    def learn() -> None:
        nonlocal due
        step = learner.step(least=least)
        reasons = set(step.left_out or ())
        if step.version:
            due = 0.0
        # What waits is looked at again and again, and why it is left out is said once.
        if step.version or step.heads_dropped or reasons - known:
            _tell(step, as_json)
        known.update(reasons)

    def retain() -> None:
        nonlocal due
        if time.monotonic() >= due:
            _retain(learner)
            due = time.monotonic() + RETAIN_SECONDS

    said: dict[Callable[[], None], str] = {}
    while True:
        for act in (learn, retain):
            try:
                act()
            except (LogUnavailable, TrainingError) as error:
                if str(error) != said.get(act):
                    said[act] = str(error)
                    print(f"isthmus: {error}", file=sys.stderr, flush=True)
            else:
                said.pop(act, None)
        pause()


def _retain(learner: Learner) -> None:
    """Delete what `online.retention_days` does not keep; says so beside the results."""
    found = learner.compact()
    if found and (found.events or found.impressions):
        print(
            f"Deleted {found.events:,} events and {found.impressions:,} impressions that are older "
            "than online.retention_days.",
            file=sys.stderr,
            flush=True,
        )


def _every(seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def _after(learner: Learner, n_events: int) -> Callable[[], None]:
    """Sleeps until the log has that many more events."""
    from isthmus.errors import LogUnavailable
    from isthmus.online.learner import new_events

    seen = learner.log.head()

    def pause() -> None:
        nonlocal seen
        found = 0
        while found < n_events:
            time.sleep(LOOK_SECONDS)
            try:
                head = learner.log.head()
                found += new_events(learner.log, seen, head)
                seen = head
            except LogUnavailable:
                continue

    return pause
