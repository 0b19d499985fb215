"""A person is deleted everywhere: from the log, and from whatever else holds something of them.

What lives in the same process (caches, a replay buffer) or lies in files (exports) is told at once.
What lives elsewhere follows the marks in the log: `replay.erased_people` says who must go.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from isthmus.errors import DataError
from isthmus.online.log import ErasureReceipt, EventLog
from isthmus.training.versions import flush


class Holder(Protocol):
    """Something that may hold traces of a person.

    Attributes:
        name: what the receipt calls it.
    """

    name: str

    def forget(self, user_id: str) -> int:
        """Remove every trace of a person, and say how many there were."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was deleted of a person, and where.

    Attributes:
        receipt: of the log.
        elsewhere: how many traces every holder removed, by its name.
    """

    receipt: ErasureReceipt
    elsewhere: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self.receipt), "elsewhere": self.elsewhere}


def delete_person(log: EventLog, user_id: str, holders: Iterable[Holder] = ()) -> Deletion:
    """Delete a person from the log, then from every holder.

    The log goes first: its mark stays, so that a deletion that was cut short is not forgotten.
    Doing it again finishes it.

    Raises:
        LogUnavailable: the log cannot be written just now; nothing was deleted.
        IsthmusError: a holder failed; the log and the holders before it are done.
    """
    receipt = log.erase(user_id)
    elsewhere = {holder.name: holder.forget(user_id) for holder in holders}
    if elsewhere:
        # What a holder deleted may have lain in the log's own database.
        receipt = replace(receipt, purged=log.purge())
    return Deletion(receipt, elsewhere)


class ExportFolder:
    """The batch exports of a service, files that are named by twelve hexadecimal digits.

    Args:
        folder: where they lie; it need not be there.
    """

    name = "exports"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, export_id: str) -> Path:
        """Where an export is, or will be."""
        return self._folder / f"{export_id}.parquet"

    def files(self) -> list[Path]:
        """Those that are there."""
        found = self._folder.glob("*.parquet")
        return sorted(path for path in found if re.fullmatch(r"[0-9a-f]{12}", path.stem))

    def forget(self, user_id: str) -> int:
        """See `Holder`.

        Raises:
            DataError: a file that is no export.
        """
        return sum(ExportFile(path).forget(user_id) for path in self.files())


class ExportFile:
    """A Parquet or JSON Lines file with a `user_id` in every row, as `isthmus` exports them.

    Args:
        path: of the file; rewritten aside and replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def forget(self, user_id: str) -> int:
        """See `Holder`.

        Raises:
            DataError: no such file, or one of another kind.
        """
        aside = self.path.with_name(f".{self.path.name}.part")
        try:
            # Whoever may not read the file may not read what is to become of it.
            aside.touch(mode=0o600)
            if self.path.suffix == ".parquet":
                removed = self._from_parquet(user_id, aside)
            else:
                removed = self._from_lines(user_id, aside)
            if removed:
                shutil.copymode(self.path, aside)
                flush(aside)
                os.replace(aside, self.path)
                flush(self.path.parent)
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"cannot be searched for a person: {error}",
                where=self.name,
                hint="Name a Parquet or JSON Lines file that has a user_id in every row",
            ) from None
        finally:
            aside.unlink(missing_ok=True)
        return removed

    def _from_parquet(self, user_id: str, aside: Path) -> int:
        table = pl.scan_parquet(self.path)
        theirs = pl.col("user_id") == user_id
        removed = int(table.select(theirs.sum()).collect().item())
        if removed:
            told = pl.read_parquet_metadata(self.path)
            # The schema of the file that was read is not that of the one that is written.
            told = {name: value for name, value in told.items() if name != "ARROW:schema"}
            table.filter(~theirs).sink_parquet(aside, metadata=told)
        return removed

    def _from_lines(self, user_id: str, aside: Path) -> int:
        removed = 0
        with self.path.open(encoding="utf-8") as lines, aside.open("w", encoding="utf-8") as kept:
            for line in lines:
                if line.strip() and json.loads(line)["user_id"] == user_id:
                    removed += 1
                else:
                    kept.write(line)
        return removed
