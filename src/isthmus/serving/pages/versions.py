"""The versions of the model as the pages tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.continual.adwin import Adwin
from isthmus.continual.progress import Progress
from isthmus.online.events import Event
from isthmus.online.log import EventLog
from isthmus.serving.keeper import Keeper
from isthmus.training.checkpoint import described
from isthmus.training.versions import read_pointer

COUNTED = 10_000
"""Most records of the log that a page counts one by one."""


@dataclass(frozen=True)
class Version:
    """One version that is kept.

    Attributes:
        name: of its folder.
        role: `champion`, which is live; of those made after it `rolled back`, if it was live, and
            `challenger`, the latest that never was; else "".
        written: when, ISO.
        progress: how it came to be.
        offset: how much of the event log is in it; None: nothing.
    """

    name: str
    role: str
    written: str
    progress: Progress
    offset: int | None

    @property
    def measured(self) -> bool:
        """Whether it was held against the version that it started from."""
        verdict = self.progress.verdict
        return verdict is not None and verdict.relative is not None


def versions(keeper: Keeper) -> list[Version]:
    """Every version that is kept, the latest first.

    Raises:
        CheckpointError: the folder cannot be read.
    """
    pointer = read_pointer(keeper.folder)
    live, told = pointer.folder.name, described(keeper.folder)
    names = [name for name, _, _ in told]
    newer = names[names.index(live) + 1 :] if live in names else []
    never = [name for name in newer if name not in pointer.been]
    roles = {name: "rolled back" for name in newer if name in pointer.been}
    roles |= {live: "champion", **dict.fromkeys(never[-1:], "challenger")}
    return [
        Version(
            name,
            roles.get(name, ""),
            manifest["written"][:16].replace("T", " "),
            Progress.from_json(meta.get("progress")),
            (meta.get("log") or {}).get("offset"),
        )
        for name, manifest, meta in reversed(told)
    ]


@dataclass(frozen=True)
class Waiting:
    """What the log has that a version has not seen.

    Attributes:
        events: things that people did, by domain.
        impressions: things that they were shown.
        more: whether there is more than was counted.
    """

    events: dict[str, int]
    impressions: int
    more: bool

    @property
    def total(self) -> int:
        """Events of all domains."""
        return sum(self.events.values())


def waiting(log: EventLog, offset: int | None) -> Waiting:
    """What came after an offset.

    Raises:
        LogUnavailable: the log cannot be asked.
    """
    found = log.read(offset or 0, COUNTED)
    events = Counter(r.record.domain for r in found if isinstance(r.record, Event))
    return Waiting(dict(events), len(found) - events.total(), len(found) == COUNTED)


@dataclass(frozen=True)
class Stream:
    """A stream that is watched for drift.

    Attributes:
        name: of it.
        width: values in the window.
        mean: of them.
        fallen: whether it had fallen when the version was made.
    """

    name: str
    width: int
    mean: float
    fallen: bool


def streams(told: Sequence[Version]) -> list[Stream]:
    """The drift windows of the latest version that has any."""
    for version in told:
        watch = version.progress.watch
        if watch:
            windows = {name: Adwin.from_state(state) for name, state in watch.items()}
            return [
                Stream(name, window.width, window.mean, name in version.progress.drift)
                for name, window in windows.items()
            ]
    return []
