"""Options that several commands share, and what their words stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from isthmus.config import Config


def once(names: list[str] | None) -> list[str] | None:
    """What a repeatable option was given, each once, in the order of the first."""
    return None if names is None else list(dict.fromkeys(names))


ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one key, training.epochs=5; repeatable."
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="DOMAIN",
        help="Domain to answer for; repeatable.",
        callback=once,
    ),
]
StrategyName = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        metavar="NAME",
        help="How the other catalogues are used: joint, pretrain-finetune, zero-shot, …",
    ),
]
Trackers = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="NAME,…",
        help="Keep training curves for tensorboard (default), wandb (offline), both or none.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
ModelFolder = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="FOLDER",
        help="The model's folder; default: models/NAME, NAME as in the configuration here.",
    ),
]
RunsFolder = Annotated[
    Path, typer.Option("--runs", metavar="FOLDER", help="Parent of the run's folder.")
]
Count = Annotated[int, typer.Option("-k", min=1, help="How many items.")]
Histories = Annotated[
    list[str] | None,
    typer.Option(
        "--history",
        metavar="DOMAIN:ITEM,…",
        help="A history given on the spot, oldest first; repeatable, one person each.",
    ),
]


def load_config(
    path: Path,
    overrides: Sequence[str] | None,
    strategy: str | None = None,
    track: str | None = None,
    *,
    options: Mapping[str, str] | None = None,
) -> Config:
    """The configuration with `--set`, `--strategy` and `--track` applied.

    Args:
        path: of the file.
        overrides: what `--set` was given.
        strategy: what `--strategy` was given.
        track: what `--track` was given.
        options: further overrides, each with the option that it stands for, as it was typed.

    Raises:
        ConfigError: no such file, or something in it cannot be understood.
    """
    from isthmus.config import Config

    named = dict(options or {})
    if strategy is not None:
        named[f"transfer.strategy='{strategy}'"] = f"--strategy {strategy}"
    named |= tracked(track)
    with naming(named):
        return Config.load(path, overrides=[*(overrides or ()), *named])


@contextmanager
def naming(options: Mapping[str, str]) -> Iterator[None]:
    """Errors of overrides name the options that these stand for, as they were typed."""
    try:
        yield
    except ConfigError as error:
        typed = options.get((error.where or "").removeprefix("--set "))
        if typed is None:
            raise
        raise ConfigError(error.what, where=typed, hint=error.hint) from None


def tracked(track: str | None) -> dict[str, str]:
    """`--track` as an override, with the option as it was typed; none where it is not given."""
    if track is None:
        return {}
    tools = [] if track == "none" else words(track) or []
    return {f"tracking.tools={tools}": f"--track {track}"}


def histories(texts: Sequence[str] | None) -> list[list[tuple[str, str]]] | None:
    """`books:b1,gear:g7` → [("books", "b1"), ("gear", "g7")], one list per text.

    Raises:
        RequestError: an entry has no domain or no item.
    """
    if not texts:
        return None
    people = []
    for text in texts:
        pairs = [tuple(entry.strip().partition(":")[::2]) for entry in text.split(",")]
        for pair, entry in zip(pairs, text.split(","), strict=True):
            if not all(pair):
                raise RequestError(
                    f"{entry!r} is not DOMAIN:ITEM",
                    where="--history",
                    hint="Write domain and item id with a colon between: books:b00012,gear:g00007",
                )
        people.append([(domain, item) for domain, item in pairs])
    return people


def words(text: str | None) -> list[str] | None:
    """`a, b` → ["a", "b"]."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def identifiers(text: str | None, option: str) -> list[str] | None:
    """Ids from `a,b,c`, or one a line from `@FILE`.

    Raises:
        RequestError: the file cannot be read.
    """
    if text is None or not text.startswith("@"):
        return words(text)
    try:
        lines = Path(text[1:]).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RequestError(
            f"cannot be read: {reason}",
            where=f"{option} {text}",
            hint="Name a text file with one item id a line",
        ) from None
    return [line.strip() for line in lines if line.strip()]
