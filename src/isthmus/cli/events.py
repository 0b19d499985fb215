"""`isthmus events …`: what a person with a terminal may do to the event log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import output
from isthmus.cli.folders import CONFIG, MODELS
from isthmus.cli.options import AsJson, ConfigFile, ModelFolder, Overrides, load_config
from isthmus.errors import DataError, LogError, RequestError

if TYPE_CHECKING:
    from isthmus.config import Config
    from isthmus.online.log import EventLog

events = typer.Typer(
    help="The event log: import, export, erase a person, compact, status.", no_args_is_help=True
)

Place = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="FILE|URL",
        help="A file or postgresql://…; default: online.log of the configuration.",
    ),
]


@events.command("import")
def import_events(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines; see docs/online.md.")],
    place: Place = None,
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Append a file's events and impressions.

    Records that the log has already count once, so an import can be repeated.
    """
    from isthmus.online.lines import import_lines

    with _log(place, config, overrides, make=True) as (log, _):
        found = import_lines(log, file)
    counts = {outcome.value: n for outcome, n in sorted(found.outcomes.items())}
    if as_json:
        examples = [{"line": line, "why": why} for line, why in found.examples]
        output.print_json({"outcomes": counts, "refused": examples})
    else:
        said = ", ".join(f"{n:,} {name}" for name, n in counts.items())
        print(f"{said or 'Nothing in the file'}.")
    if found.refused:
        line, why = found.examples[0]
        raise DataError(
            f"{found.refused:,} records were not taken, the first because: {why}",
            where=f"{file}, line {line}",
            hint="Correct them and import the file again",
        )


@events.command("export")
def export_events(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON Lines file to write.")],
    after: Annotated[int, typer.Option("--after", min=0, help="Only later offsets.")] = 0,
    place: Place = None,
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write the log to a file, in order."""
    from isthmus.online.lines import export_lines

    if file.is_dir():
        raise RequestError("is a folder", where=str(file), hint="Name a file in it")
    with _log(place, config, overrides) as (log, _):
        written = export_lines(log, file, after=after)
    if as_json:
        output.print_json({"file": str(file), "records": written})
        return
    print(f"Wrote {written:,} records to {file}.")


@events.command("erase")
def erase(
    user: Annotated[str, typer.Argument(metavar="USER", help="Raw id of the person.")],
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--file", metavar="FILE", help="An export to clean as well, Parquet or JSON Lines."
        ),
    ] = None,
    exports: Annotated[
        Path,
        typer.Option(
            "--exports", metavar="FOLDER", help="Where the service's batch exports lie, if any."
        ),
    ] = Path("exports"),
    place: Place = None,
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Delete a person from log, registrations and exports, and print the receipt.

    A running service and the learner follow the mark that stays in the log.
    """
    from isthmus.online.catalogue import open_catalogue
    from isthmus.online.erasure import ExportFile, ExportFolder, Holder, delete_person

    with (
        _log(place, config, overrides) as (log, settings),
        closing(open_catalogue(place or settings.online.place)) as catalogue,
    ):
        holders: list[Holder] = [catalogue, ExportFolder(exports)]
        deletion = delete_person(log, user, [*holders, *map(ExportFile, files or ())])
    if as_json:
        output.print_json(deletion.to_dict())
        return
    for name, value in deletion.to_dict().items():
        if name != "elsewhere":
            print(f"{name:12} {_moment(value) if name == 'time' else value}")
    for name, n in deletion.elsewhere.items():
        print(f"{n:,} rows removed from {name}")


@events.command("compact")
def compact(
    older: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", help="Default: online.retention_days."),
    ] = None,
    model: ModelFolder = None,
    place: Place = None,
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Delete old records that the model has taken in.

    Without a model, all old records go.
    """
    from isthmus.online.intake import DAY

    with _log(place, config, overrides) as (log, settings):
        days = settings.online.retention_days if older is None else older
        if days is None:
            raise RequestError(
                "nothing says how old is too old",
                where="--older-than",
                hint="Give a number of days, or set online.retention_days",
            )
        consumed = _consumed(log, model, settings)
        report = log.compact(before=time.time() - days * DAY, consumed=consumed)
    if as_json:
        output.print_json(asdict(report))
        return
    print(
        f"Deleted {report.events:,} events and {report.impressions:,} impressions from before "
        f"{_moment(report.before)}."
    )
    if report.kept_unread:
        print(f"Kept {report.kept_unread:,} as old, which the model has not taken in yet.")


@events.command("status")
def status(
    place: Place = None,
    config: ConfigFile = CONFIG,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Say what the log holds."""
    with _log(place, config, overrides) as (log, settings):
        found = {
            "log": str(place or settings.online.place),
            "id": log.id,
            "head": log.head(),
            **asdict(log.contents()),
            "compacted": log.compacted(),
        }
    if as_json:
        output.print_json(found)
        return
    for name, value in found.items():
        moment = name in ("oldest", "newest") and value is not None
        print(f"{name:12} {_moment(value) if moment else value}")


@contextmanager
def _log(
    place: str | None, config: Path, overrides: list[str] | None, *, make: bool = False
) -> Iterator[tuple[EventLog, Config]]:
    """The log that is meant, and the settings; settings are not needed where the log is named."""
    from isthmus.config import Config
    from isthmus.online.intake import Limits
    from isthmus.online.log import open_log

    if place is not None and config == CONFIG and not config.is_file():
        settings = Config.parse({}, overrides=overrides or ())
    else:
        settings = load_config(config, overrides)
    where = settings.online.place if place is None else place
    if not make and "://" not in str(where) and not Path(where).exists():
        raise LogError(
            "there is no event log yet", where=str(where), hint="Name another one with --log"
        )
    log = open_log(where, limits=Limits.of(settings.online))
    try:
        yield log, settings
    finally:
        log.close()


def _consumed(log: EventLog, model: Path | None, settings: Config) -> int | None:
    """How far the model has followed the log; None where there is no model."""
    folder = model or MODELS / settings.name
    if model is None and not folder.is_dir():
        return None
    from isthmus.online.replay import place_in
    from isthmus.recommender.storage import log_position

    return place_in(log, log_position(folder))


def _moment(seconds: float) -> str:
    from isthmus.data.timestamps import calendar

    return f"{calendar(seconds).replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"
