"""`isthmus`: the commands, and what becomes of an error.

Exit codes: 0 done, 1 a fault of ours, 2 something the caller can put right, 130 interrupted.
Commands import what they need when they run, so that `isthmus --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command

from isthmus.cli.align import align
from isthmus.cli.ask import export, profile, recommend, similar
from isthmus.cli.demo import demo
from isthmus.cli.events import events
from isthmus.cli.grow import adapt_domain, add_domain
from isthmus.cli.language import distil_language, pretrain, tune_language
from isthmus.cli.learn import compare, evaluate, fit
from isthmus.cli.living import models, update
from isthmus.cli.search import search
from isthmus.cli.serve import keys, serve
from isthmus.cli.simulate import simulate
from isthmus.cli.tables import check, init
from isthmus.cli.tasks import classify, click, rate, teach
from isthmus.errors import IsthmusError

_DEBUG, _DEBUG_VARIABLE = "--debug", "ISTHMUS_DEBUG"
_ClickException: Any = typer.BadParameter.__mro__[2]
# What a caller can put right: a full disk, a folder that may not be written.
_OUTSIDE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
for command in (
    *(demo, init, check, align, fit, compare, search),
    *(evaluate, recommend, similar, profile, export),
    *(pretrain, tune_language, distil_language),
    *(teach, rate, click, classify),
    *(add_domain, adapt_domain, serve, update, simulate),
):
    app.command()(command)
app.add_typer(models, name="models", help="The versions of a model: list, promote, roll back.")
app.add_typer(events, name="events")
app.add_typer(keys, name="keys")


@app.callback(invoke_without_command=True)
def isthmus(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option(_DEBUG, help=f"Show tracebacks; so does {_DEBUG_VARIABLE}=1.")
    ] = False,
) -> None:
    """Carry what is known about people in one catalogue into another.

    Point it at your tables: it tells whether your other catalogue helps, by how much and for
    whom, and serves the better model. Begin with 'isthmus demo', or with 'isthmus init FILES'.
    """
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"isthmus {version_of('isthmus')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code.

    Args:
        arguments: the words after `isthmus`; None: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = _DEBUG in words or os.environ.get(_DEBUG_VARIABLE, "0") not in ("", "0")
    code = 0
    try:
        try:
            _run([word for word in words if word != _DEBUG])
        except typer.Exit as stop:
            code = stop.exit_code
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        code, message = _explained(error)
        if message:
            print(f"isthmus: {message}", file=sys.stderr)
        if debug:
            _show_traceback(error)
        if isinstance(error, OSError):
            _drop_output()
    sys.exit(code)


def _run(words: list[str]) -> None:
    # Not `app()`: that has ways of its own with errors and interrupts.
    with get_command(app).make_context("isthmus", words) as context:
        context.command.invoke(context)


def _explained(error: BaseException) -> tuple[int, str]:
    """Exit code and the one line to print."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130, "; ".join(["interrupted", *map(str, error.args)])
    if isinstance(error, _ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "isthmus"
        said = _one_line(error.format_message())
        return 2, f"{said}{'' if said.endswith(('.', '?')) else '.'} See '{command} --help'."
    if isinstance(error, IsthmusError):
        return 2, str(error)
    if isinstance(error, BrokenPipeError):
        return 128 + 13, ""
    if isinstance(error, OSError) and error.errno in _OUTSIDE:
        return 2, f"{error.filename or 'standard output'}: {error.strerror}."
    kind = type(error).__name__
    return 1, f"unexpected {kind}: {_one_line(str(error))} (add {_DEBUG} for the traceback)"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show_traceback(error: BaseException) -> None:
    """The frames from the command's own on."""
    import traceback

    frames, ours = error.__traceback__, _command_modules(app)
    while frames and frames.tb_next and frames.tb_frame.f_globals.get("__name__") not in ours:
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


def _command_modules(group: typer.Typer) -> set[str]:
    """Where the commands of a group, and of the groups in it, are written."""
    own = {info.callback.__module__ for info in group.registered_commands if info.callback}
    return own.union(
        *(_command_modules(g.typer_instance) for g in group.registered_groups if g.typer_instance)
    )


def _drop_output() -> None:
    """What could not be written must not be tried, and complained of, once more at exit."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
