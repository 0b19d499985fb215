"""What goes to the terminal: results to standard output, progress to standard error.

In a pipe there are no colours and no progress, and lines are 100 columns wide.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

WIDTH = 100


def show(*parts: RenderableType) -> None:
    """Print texts and tables one below the other, for 80 to 100 columns."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False, width=_width())
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    # Tables fill their last column with blanks.
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), flush=True)


def hanging(line: str, indent: int) -> str:
    """A long line, broken so that what follows stands `indent` columns in."""
    return textwrap.fill(line, _width(), subsequent_indent=" " * indent)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, WIDTH) if sys.stdout.isatty() else WIDTH


def silent(*_parts: RenderableType) -> None:
    """What `show` is where a program reads."""


def heading(text: str) -> Text:
    """A line that stands out."""
    from rich.text import Text

    return Text(text, style="bold")


def print_json(document: Any) -> None:
    """One JSON document; what is not a number becomes null."""
    print(json.dumps(_plain(document), ensure_ascii=False, indent=1, allow_nan=False))


def note(line: str) -> None:
    """One line to standard error, about something that does not stop the work."""
    print(f"isthmus: {line}.", file=sys.stderr, flush=True)


def teller() -> Callable[[str], None]:
    """Prints a line with the seconds gone by when a stage begins; silent in a pipe."""
    began = time.monotonic()

    def tell(line: str) -> None:
        if sys.stderr.isatty():
            print(f"{time.monotonic() - began:5.0f} s  {line}", file=sys.stderr, flush=True)

    return tell


@contextmanager
def resumable() -> Iterator[None]:
    """Work that an interrupt does not undo."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from where it was") from None


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of texts; numbers stand to the right."""
    from rich import box
    from rich.table import Table

    rows = list(rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, column in enumerate(columns):
        numbers = bool(rows) and all(row[place][:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers)
    for row in rows:
        table.add_row(*row)
    return table


def items_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Items, best first, each with its category and the reason why it stands there.

    Args:
        rows: `item_id`, `title`, `category`, `score`, and `why` where there is a reason.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("title, category, reason")
    table.add_column("score", justify="right", no_wrap=True)
    for place, row in enumerate(rows, 1):
        about = Text(row["title"] or "(no title)", style="bold")
        for line, style in ((row["category"], "not bold dim"), (row.get("why"), "not bold")):
            if line:
                about.append(f"\n{line}", style=style)
        table.add_row(str(place), row["item_id"], about, f"{row['score']:.2f}")
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
