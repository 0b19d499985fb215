"""Deleting a person reaches the log and everything else that holds something of them."""

from __future__ import annotations

import json
import sqlite3 as stdlib_sqlite
from pathlib import Path

import polars as pl
import pytest
from log_samples import Opener, event

from isthmus.errors import DataError, LogError
from isthmus.online import sqlite
from isthmus.online.catalogue import open_catalogue
from isthmus.online.claim import sole_service
from isthmus.online.erasure import ExportFile, delete_person
from isthmus.online.log import EventLog


class Cache:
    name = "cache"

    def __init__(self, *people: str) -> None:
        self.people = list(people)

    def forget(self, user_id: str) -> int:
        before = len(self.people)
        self.people = [person for person in self.people if person != user_id]
        return before - len(self.people)


def test_everybody_is_told_and_the_receipt_counts(log: EventLog, tmp_path: Path) -> None:
    log.append([event("e1"), event("e2", "eve")])
    lists, lines = tmp_path / "lists.parquet", tmp_path / "events.jsonl"
    pl.DataFrame({"user_id": ["ann", "eve", "ann"], "rank": [1, 1, 2]}).write_parquet(lists)
    lines.write_text("".join(json.dumps({"user_id": p}) + "\n" for p in ("eve", "ann", "eve")))
    cache = Cache("ann", "eve", "ann")
    deletion = delete_person(log, "ann", [cache, ExportFile(lists), ExportFile(lines)])
    assert deletion.elsewhere == {"cache": 2, str(lists): 2, str(lines): 1}
    assert cache.people == ["eve"]
    assert pl.read_parquet(lists).rows() == [("eve", 1)]
    assert lines.read_text() == '{"user_id": "eve"}\n' * 2
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []
    told = json.loads(json.dumps(deletion.to_dict()))
    assert (told["events"], told["person"]) == (1, log.pseudonym("ann"))
    assert "ann" not in json.dumps({**told, "elsewhere": {}})


def test_deleted_registrations_are_purged_as_well(place: str, opened: Opener) -> None:
    log, catalogue = opened(place), open_catalogue(place)
    catalogue.put_person("secret-person", {"town": "secret-town"})
    deletion = delete_person(log, "secret-person", [catalogue])
    assert deletion.elsewhere == {"registrations": 1}
    assert deletion.receipt.purged is ("://" not in place)
    if deletion.receipt.purged:
        for left in Path(place).parent.iterdir():
            assert b"secret-" not in left.read_bytes()
    catalogue.close()


def test_what_a_holder_leaves_behind_is_on_the_receipt(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    place = tmp_path / "events.db"
    log, catalogue = opened(place), open_catalogue(place)
    catalogue.put_person("ann", {})
    reader = stdlib_sqlite.connect(place, isolation_level=None)

    class Reader:
        name = "reader"

        def forget(self, user_id: str) -> int:
            """Somebody begins to read just before the registration goes."""
            reader.execute("BEGIN")
            return len(reader.execute("SELECT * FROM isthmus_people").fetchall())

    deletion = delete_person(log, "ann", [Reader(), catalogue])
    assert deletion.elsewhere == {"reader": 1, "registrations": 1}
    assert not deletion.receipt.purged
    reader.close()
    catalogue.close()


def test_a_holder_that_fails_leaves_the_mark_and_the_deletion_can_be_finished(
    log: EventLog, tmp_path: Path
) -> None:
    log.append([event("e1")])
    lists = tmp_path / "lists.parquet"
    lists.write_text("no Parquet at all")
    with pytest.raises(DataError, match="cannot be searched"):
        delete_person(log, "ann", [ExportFile(lists)])
    assert [mark.person for mark in log.erased()] == [log.pseudonym("ann")]
    assert lists.read_text() == "no Parquet at all"
    pl.DataFrame({"user_id": ["ann"]}).write_parquet(lists)
    assert delete_person(log, "ann", [ExportFile(lists)]).elsewhere == {str(lists): 1}


@pytest.mark.parametrize("mode", [0o600, 0o640])
@pytest.mark.parametrize("name", ["lists.parquet", "events.jsonl"])
def test_who_may_read_a_file_stays_as_it_was(name: str, mode: int, tmp_path: Path) -> None:
    file = tmp_path / name
    people = pl.DataFrame({"user_id": ["ann", "eve"]})
    if file.suffix == ".parquet":
        people.write_parquet(file)
    else:
        people.write_ndjson(file)
    file.chmod(mode)
    assert ExportFile(file).forget("ann") == 1
    assert file.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("name", ["missing.parquet", "missing.jsonl", "other.parquet", "odd.jsonl"])
def test_files_that_cannot_be_searched_are_named_and_left_alone(name: str, tmp_path: Path) -> None:
    pl.DataFrame({"person": ["ann"]}).write_parquet(tmp_path / "other.parquet")
    (tmp_path / "odd.jsonl").write_text("[]\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=name):
        ExportFile(tmp_path / name).forget("ann")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_second_service_on_one_file_is_refused_by_name(tmp_path: Path) -> None:
    import os

    place = tmp_path / "events.db"
    with sole_service(place):
        for _ in range(2):
            with (
                pytest.raises(LogError, match=rf"another service \(process {os.getpid()}\)"),
                sole_service(place),
            ):
                raise AssertionError("two services")
        with sole_service(tmp_path / "other.db"):
            pass
        # By another name it is the same file.
        (tmp_path / "link.db").symlink_to(place)
        with pytest.raises(LogError, match="another service"), sole_service(tmp_path / "link.db"):
            raise AssertionError("two services")
    with sole_service(place):
        pass
    with sole_service("postgresql:///one"), sole_service("postgresql:///one"):
        pass
    with pytest.raises(LogError, match="cannot be written"), sole_service("/nowhere/events.db"):
        pass
