"""Batch exports: the best items for everybody the model knows, written while the service runs."""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from isthmus.data.forgetting import is_somebody
from isthmus.errors import IsthmusError, RequestError
from isthmus.online.erasure import ExportFolder
from isthmus.recommender.export import SCHEMA, write_lists
from isthmus.serving.keeper import Keeper
from isthmus.serving.live import Live
from isthmus.serving.messages import Recommend

_log = logging.getLogger(__name__)
_AT_ONCE, _KEPT = 64, 20
"""People per chunk, and exports that are kept."""
_STALE_SECONDS = 3600.0
"""After which a file that is not yet whole is no longer being written."""
_TOLD = b"isthmus"
"""Key of what a file's metadata say of the export."""
_SCHEMA = SCHEMA.append(pa.field("model_version", pa.dictionary(pa.int32(), pa.string())))


@dataclass(frozen=True)
class Export:
    """One export.

    Attributes:
        export_id: names it.
        domain: where to recommend.
        k: most items each.
        model_version: that answered.
        begun: when, Unix seconds.
        state: `running`, `done` or `failed`.
        rows: written.
        problem: why it failed.
    """

    export_id: str
    domain: str
    k: int
    model_version: str
    begun: float
    state: str = "running"
    rows: int = 0
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Exports:
    """The exports of a folder, one running at a time; a `Holder` of traces of people.

    Args:
        folder: made when the first one is asked for.
        keeper: answers.
    """

    name = ExportFolder.name

    def __init__(self, folder: Path, keeper: Keeper) -> None:
        self._path, self._folder, self._keeper = folder, ExportFolder(folder), keeper
        # Those of this process that are no file: they run, or failed.
        self._known: dict[str, Export] = {}
        self._lock = threading.RLock()

    def begin(self, domain: str, k: int) -> Export:
        """Begin an export of the present version.

        Raises:
            RequestError: an unknown domain, or one runs already.
        """
        live = self._keeper.refresh()
        live.domain(domain)
        with self._lock:
            if any(export.state == "running" for export in self._known.values()):
                raise Busy("an export is running", hint="Wait until it is done")
            export = Export(secrets.token_hex(6), domain, k, live.version, time.time())
            self._known[export.export_id] = export
            self._prune()
        thread = threading.Thread(target=self._run, args=(export, live), name="export", daemon=True)
        thread.start()
        return export

    def listed(self) -> list[dict[str, Any]]:
        """What runs or failed in this process, and every file that is there, the latest first."""
        return [export.to_dict() for export in self._all()]

    def file(self, export_id: str) -> Path:
        """The Parquet file of an export that is done.

        Raises:
            NotFound: there is none.
        """
        path = self._folder.file(export_id) if re.fullmatch(r"[0-9a-f]{12}", export_id) else None
        if path is None or not path.is_file():
            raise NotFound(
                "no such export, or it is not done", where="export_id", hint="See GET /v1/exports"
            )
        return path

    def forget(self, user_id: str) -> int:
        """Take a person out of every file; gives the rows that went."""
        with self._lock:
            return self._folder.forget(user_id)

    def _all(self) -> list[Export]:
        with self._lock:
            known = dict(self._known)
            done = [_read(path) for path in self._folder.files() if path.stem not in known]
        return sorted([*known.values(), *done], key=lambda export: -export.begun)

    def _prune(self) -> None:
        """Delete all but the latest exports, and what killed processes left half written."""
        for old in self._all()[_KEPT:]:
            self._known.pop(old.export_id, None)
            self._folder.file(old.export_id).unlink(missing_ok=True)
        for part in self._path.glob(".*.parquet.*.part"):
            with suppress(OSError):
                if part.stat().st_mtime < time.time() - _STALE_SECONDS:
                    part.unlink()

    def _run(self, export: Export, live: Live) -> None:
        log, path = self._keeper.log, self._folder.file(export.export_id)
        try:
            begun = log.head()
            ids = live.recommender.dataset.user_ids
            people = ids.filter(is_somebody(ids)).to_list()
            told = {"domain": export.domain, "k": export.k, "begun": export.begun}
            told["model_version"] = export.model_version
            write_lists(
                path,
                self._frames(export, live, people),
                -(-len(people) // _AT_ONCE),
                schema=_SCHEMA,
                metadata={_TOLD: json.dumps(told).encode()},
            )
            # Who was erased meanwhile must not be in it.
            erased = {mark.person for mark in log.erased(begun)}
            if erased:
                for user_id in people:
                    if log.pseudonym(user_id) in erased:
                        self.forget(user_id)
            with self._lock:
                del self._known[export.export_id]
        except Exception as error:
            known = isinstance(error, IsthmusError)
            _log.warning("export %s failed: %s", export.export_id, error, exc_info=not known)
            path.unlink(missing_ok=True)
            problem = str(error) if known else "see the log"
            self._known[export.export_id] = replace(export, state="failed", problem=problem)

    def _frames(self, export: Export, live: Live, people: list[str]) -> Iterator[pl.DataFrame]:
        for start in range(0, len(people), _AT_ONCE):
            # What is hidden meanwhile goes, items and people; the version stays the same.
            fresh = self._keeper.refresh()
            live = fresh if fresh.version == live.version else live
            some = [
                user_id
                for user_id in people[start : start + _AT_ONCE]
                if not self._keeper.absent(live, user_id)
            ]
            questions = []
            for user_id in some:
                asked = Recommend(user_id=user_id, domains=[export.domain], k=export.k)
                past = self._keeper.past(live, user_id, [], limit=200)
                questions += live.questions(asked, past)
            lists = live.answers(questions)
            yield pl.DataFrame(
                [
                    (user_id, item.rank, item.item_id, item.score, listing.basis, live.version)
                    for user_id, listing in zip(some, lists, strict=True)
                    for item in listing.items
                ],
                schema={
                    "request": pl.String,
                    "rank": pl.Int64,
                    "item_id": pl.String,
                    "score": pl.Float32,
                    "basis": pl.String,
                    "model_version": pl.String,
                },
                orient="row",
            )


def _read(path: Path) -> Export:
    """An export as its file tells of it; older files tell nothing but when they were written."""
    found = Export(path.stem, "", 0, "", 0.0, state="done")
    try:
        file = pq.read_metadata(path)
        found = replace(found, begun=path.stat().st_mtime, rows=file.num_rows)
        told = json.loads((file.metadata or {}).get(_TOLD, b"{}"))
        return replace(found, **told)
    except (OSError, ValueError, TypeError) as error:
        return replace(found, state="failed", problem=f"cannot be read: {error}")


class Busy(RequestError):
    """Something of the kind is under way already."""


class NotFound(RequestError):
    """There is no such thing."""
