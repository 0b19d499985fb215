"""Records as JSON Lines: one object a line, `type` tells events from impressions.

    {"type": "event", "event_id": "e1", "user_id": "ann", "domain": "books", "item_id": "b7",
     "time": 1700000000.0, "kind": "buy"}

Fields are those of `Event` and `Impression`; those with a default may be left out. `offset` and
`received`, which an export writes, are passed over when read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from isthmus.errors import DataError
from isthmus.online.events import Event, Impression, Logged, Outcome, Record
from isthmus.online.log import EventLog, between

_TYPES: dict[str, type[Event] | type[Impression]] = {"event": Event, "impression": Impression}
_OURS = {"type", "offset", "received"}
_BATCH = 1000
_EXAMPLES = 5


@dataclass
class Imported:
    """What became of a file's records.

    Attributes:
        outcomes: how many had each outcome.
        examples: the first that were not taken: line number and why.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    examples: list[tuple[int, str]] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """How many the log does not hold."""
        return sum(n for outcome, n in self.outcomes.items() if not outcome.acknowledged)

    def add(self, line: int, outcome: Outcome, why: str) -> None:
        """Count one record."""
        self.outcomes[outcome] += 1
        if not outcome.acknowledged and len(self.examples) < _EXAMPLES:
            self.examples.append((line, why))


def to_object(logged: Logged) -> dict[str, Any]:
    """A record in its place as a JSON object."""
    kind = "event" if isinstance(logged.record, Event) else "impression"
    place = {"offset": logged.offset, "received": logged.received}
    return {"type": kind, **asdict(logged.record), **place}


def from_object(given: object) -> Record:
    """The record that a JSON object describes; its values are checked when it is appended.

    Raises:
        ValueError: no object, an unknown type, a field missing or unknown; says which.
    """
    if not isinstance(given, Mapping):
        raise ValueError("it is no JSON object")
    named = given.get("type")
    made = _TYPES.get(named) if isinstance(named, str) else None
    if made is None:
        raise ValueError(f"type {named!r} is neither 'event' nor 'impression'")
    known = {f.name: f for f in fields(made)}
    values = {name: value for name, value in given.items() if name not in _OURS}
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"it has an unknown field {unknown[0]!r}")
    needed = {name for name, f in known.items() if f.default is MISSING}
    if missing := sorted(needed - set(values)):
        raise ValueError(f"{missing[0]!r} is missing")
    return made(**values)


def import_lines(log: EventLog, path: Path) -> Imported:
    """Append a file's records, a thousand at a time; one that is bad does not keep others out.

    Doing it again appends what is not there yet.

    Raises:
        DataError: the file cannot be read.
        LogUnavailable: the log cannot be written just now; what was appended so far stays.
    """
    found = Imported()
    batch: list[tuple[int, Record | str]] = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    batch.append((number, from_object(json.loads(line))))
                except (ValueError, RecursionError) as error:
                    batch.append((number, _reason(error)))
                if len(batch) == _BATCH:
                    _append(log, batch, found)
                    batch = []
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=str(path), hint="Name a JSON Lines file"
        ) from None
    _append(log, batch, found)
    return found


def export_lines(log: EventLog, path: Path, *, after: int = 0) -> int:
    """Write the records after an offset to a file, whole or not at all; gives their number.

    Raises:
        OSError: the file cannot be written.
        LogUnavailable: the log cannot be read just now.
    """
    aside, written = path.with_name(f".{path.name}.part"), 0
    try:
        with aside.open("w", encoding="utf-8") as file:
            for logged in between(log, after):
                file.write(json.dumps(to_object(logged), ensure_ascii=False) + "\n")
                written += 1
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return written


def _append(log: EventLog, batch: list[tuple[int, Record | str]], found: Imported) -> None:
    """Append what could be read of some lines; a text says why a line could not."""
    records = [read for _, read in batch if not isinstance(read, str)]
    outcomes = iter(log.append(records) if records else ())
    for number, read in batch:
        if isinstance(read, str):
            found.add(number, Outcome.MALFORMED, read)
        else:
            outcome = next(outcomes)
            found.add(number, outcome, outcome.message)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "it is no JSON"
    return str(error)
