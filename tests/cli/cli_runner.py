"""Runs the command line in this process, and makes a small shop to run it on."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.cli import main
from isthmus.data.world import DomainSpec, WorldConfig, generate_world

TINY = (
    *("--set", "model.dim=16"),
    *("--set", "model.layers=1"),
    *("--set", "training.epochs=1"),
    *("--set", "training.batch_events=512"),
    *("--set", "training.threads=1"),
    *("--set", "evaluation.bootstrap=100"),
    *("--set", "evaluation.min_slice=50"),
)


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on standard error, where nothing is on standard output."""
        assert self.out == ""
        assert self.err.startswith("isthmus: ")
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("isthmus: ").rstrip("\n")


@dataclass(frozen=True)
class Shop:
    """A folder in which init, check and fit have been run, and what they said."""

    folder: Path
    init: Result
    check: Result
    fit: Result


def run(*words: str | Path, cwd: Path) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            return Result(int(stop.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main() must exit")


def curves(folder: Path) -> dict[str, list[float]]:
    """What the TensorBoard event files under a folder hold, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[float]] = {}
    for place in sorted({file.parent for file in folder.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(place)).Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, []).extend(event.value for event in events.Scalars(name))
    return found


def write_shop(folder: Path, n_users: int = 250) -> None:
    """Tables of a small world, without a configuration."""
    domains = (
        DomainSpec(name="books", n_items=100),
        DomainSpec(name="gear", n_items=90, events_per_user=6),
    )
    world = generate_world(WorldConfig(n_users=n_users, domains=domains, overlap=0.6))
    world.write(folder).unlink()
