"""Batch exports: the best items for everybody the model knows, written while the service runs."""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from isthmus.errors import IsthmusError, RequestError
from isthmus.online.erasure import ExportFile
from isthmus.recommender.export import write_lists
from isthmus.serving.keeper import Keeper
from isthmus.serving.messages import Recommend

_log = logging.getLogger(__name__)
_AT_ONCE, _KEPT = 64, 20
"""People per chunk, and exports that are kept."""


@dataclass(frozen=True)
class Export:
    """One export.

    Attributes:
        export_id: names it.
        domain: where to recommend.
        k: most items each.
        model_version: that answered.
        state: `running`, `done` or `failed`.
        rows: written.
        problem: why it failed.
    """

    export_id: str
    domain: str
    k: int
    model_version: str
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

    name = "exports"

    def __init__(self, folder: Path, keeper: Keeper) -> None:
        self._folder, self._keeper = folder, keeper
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
            export = Export(secrets.token_hex(6), domain, k, live.version)
            self._known[export.export_id] = export
            for old in list(self._known)[: -_KEPT or None]:
                self._known.pop(old)
                self._file(old).unlink(missing_ok=True)
        threading.Thread(target=self._run, args=(export,), name="export", daemon=True).start()
        return export

    def listed(self) -> list[dict[str, Any]]:
        """Exports of this process, the latest first."""
        return [export.to_dict() for export in reversed(self._known.values())]

    def file(self, export_id: str) -> Path:
        """The Parquet file of an export that is done.

        Raises:
            NotFound: there is none.
        """
        path = self._file(export_id) if re.fullmatch(r"[0-9a-f]{12}", export_id) else None
        if path is None or not path.is_file():
            raise NotFound(
                "no such export, or it is not done", where="export_id", hint="See GET /v1/exports"
            )
        return path

    def forget(self, user_id: str) -> int:
        """Take a person out of every file; gives the rows that went."""
        with self._lock:
            return sum(ExportFile(path).forget(user_id) for path in self._folder.glob("*.parquet"))

    def _run(self, export: Export) -> None:
        log = self._keeper.log
        try:
            begun = log.head()
            people = self._keeper.live.recommender.dataset.user_ids.to_list()
            n_chunks = -(-len(people) // _AT_ONCE)
            rows = write_lists(self._file(export.export_id), self._frames(export, people), n_chunks)
            # Who was erased meanwhile must not be in it.
            erased = {mark.person for mark in log.erased(begun)}
            if erased:
                rows -= sum(self.forget(u) for u in people if log.pseudonym(u) in erased)
            done = replace(export, state="done", rows=rows)
        except Exception as error:
            known = isinstance(error, IsthmusError)
            _log.warning("export %s failed: %s", export.export_id, error, exc_info=not known)
            done = replace(export, state="failed", problem=str(error) if known else "see the log")
        self._known[export.export_id] = done

    def _frames(self, export: Export, people: list[str]) -> Iterator[pl.DataFrame]:
        live = self._keeper.live
        for start in range(0, len(people), _AT_ONCE):
            # What is hidden meanwhile goes; the version stays the same.
            fresh = self._keeper.refresh()
            live = fresh if fresh.version == live.version else live
            some = people[start : start + _AT_ONCE]
            questions = []
            for user_id in some:
                asked = Recommend(user_id=user_id, domains=[export.domain], k=export.k)
                past = self._keeper.past(live, user_id, [], limit=200)
                questions += live.questions(asked, past)
            lists = live.answers(questions)
            yield pl.DataFrame(
                [
                    (user_id, item.rank, item.item_id, item.score, listing.basis)
                    for user_id, listing in zip(some, lists, strict=True)
                    for item in listing.items
                ],
                schema={
                    "request": pl.String,
                    "rank": pl.Int64,
                    "item_id": pl.String,
                    "score": pl.Float32,
                    "basis": pl.String,
                },
                orient="row",
            )

    def _file(self, export_id: str) -> Path:
        return self._folder / f"{export_id}.parquet"


class Busy(RequestError):
    """Something of the kind is under way already."""


class NotFound(RequestError):
    """There is no such thing."""
