"""`isthmus serve` and `isthmus keys`: answer over HTTP, and say who may ask."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import output
from isthmus.cli.folders import model_folder
from isthmus.cli.options import AsJson, ModelFolder, Overrides
from isthmus.errors import RequestError

KeysFile = Annotated[Path, typer.Option("--keys", metavar="FILE", help="The file of keys.")]

keys = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Say who may call the service.\n\nKeys are made, listed and revoked in a file that holds "
    "their hashes; a running service follows it within a second.",
)


def serve(
    model: ModelFolder = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            metavar="FILE|URL",
            help="The event log: a file, or postgresql://…; default: online.log of the model's "
            "configuration, else events.db here.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Its port.")] = 8765,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=1, max=64, help="Processes, each with the model and an answering one."
        ),
    ] = 1,
    keys_file: Annotated[
        Path | None, typer.Option("--keys", metavar="FILE", help="Keys of those who may call.")
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let anybody on this machine call, without a key.")
    ] = False,
    exports: Annotated[
        Path, typer.Option("--exports", metavar="FOLDER", help="Where batch exports go.")
    ] = Path("exports"),
    docs: Annotated[
        bool, typer.Option("--docs", help="A page at /docs; its script comes from the network.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="FOLDER", help="A comparison for the dashboard: runs/NAME."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Answer over HTTP, and show a dashboard at /.

    An event that is reported counts in the next answer; a version that is published is taken over
    without a pause. Stop it with Ctrl-C or SIGTERM.
    """
    if (keys_file is None) is not no_auth:
        raise RequestError(
            "who may call must be said, and one way only" if no_auth else "nobody may call",
            where="--keys",
            hint="Name a file made with 'isthmus keys add', or say --no-auth",
        )
    from isthmus.serving.run import Settings, serve

    settings = Settings(
        model=str(model_folder(model)),
        log=log,
        keys=None if keys_file is None else str(keys_file),
        exports=str(exports),
        overrides=tuple(overrides or ()),
        docs=docs,
        run=None if run is None else str(run),
    )
    serve(settings, host=host, port=port, workers=workers)


@keys.command("add")
def add(
    keys_file: KeysFile = Path("keys.json"),
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="What it is good for: ingest, read, admin; repeatable."),
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0, help="Until it expires; default: never.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="Whose it is.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown once."""
    from isthmus.serving.keys import add_key

    key, secret = add_key(keys_file, role or [], days=days, note=note)
    if as_json:
        output.print_json({"id": key.id, "roles": list(key.roles), "key": secret})
        return
    print(f"{secret}\n\nThis is shown once. {keys_file} holds its hash, under the id {key.id}.")


@keys.command("list")
def list_keys(keys_file: KeysFile = Path("keys.json"), as_json: AsJson = False) -> None:
    """List the keys of a file."""
    from isthmus.serving.keys import KeyFile

    found = KeyFile(keys_file).keys().values()
    if as_json:
        rows = [
            {
                "id": k.id,
                "roles": list(k.roles),
                "made": k.made,
                "expires": k.expires,
                "note": k.note,
            }
            for k in found
        ]
        output.print_json({"keys": rows})
        return
    for key in found:
        expires = "never" if key.expires is None else _day(key.expires)
        roles = ", ".join(key.roles)
        print(
            f"{key.id}  {roles:20}  made {_day(key.made)}, expires {expires}  {key.note}".rstrip()
        )


@keys.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="ID", help="The key's id; see the list.")],
    keys_file: KeysFile = Path("keys.json"),
) -> None:
    """Take a key back."""
    from isthmus.serving.keys import revoke_key

    key = revoke_key(keys_file, name)
    print(f"Revoked {key.id} ({', '.join(key.roles)}); a running service refuses it in a second.")


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).date().isoformat()
