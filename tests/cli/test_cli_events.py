"""`isthmus events`: the log from a terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest
from cli_runner import run

from isthmus.online.catalogue import open_catalogue
from isthmus.online.events import Event
from isthmus.online.intake import Limits
from isthmus.online.log import open_log

NOW = 1_700_000_000.0


def line(event_id: str, user_id: str = "ann", time: float = NOW, **others: object) -> str:
    given = {"domain": "books", "item_id": "b1", "time": time, **others}
    return json.dumps({"type": "event", "event_id": event_id, "user_id": user_id, **given}) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "isthmus.toml").write_text('name = "shop"\n[online]\nretention_days = 30\n')
    (tmp_path / "in.jsonl").write_text(line("e1") + line("e2", "eve") + line("e3", time=NOW + 9))
    return tmp_path


def test_import_status_export(folder: Path) -> None:
    assert run("events", "import", "in.jsonl", cwd=folder).out == "3 accepted.\n"
    again = run("events", "import", "in.jsonl", "--json", cwd=folder).json
    assert again == {"outcomes": {"repeated": 3}, "refused": []}
    status = run("events", "status", "--json", cwd=folder).json
    assert len(status.pop("id")) == 32
    assert status == {
        "log": "events.db",
        "head": 3,
        "events": 3,
        "impressions": 0,
        "oldest": NOW,
        "newest": NOW + 9,
        "erasures": 0,
        "compacted": 0,
    }
    assert "2023-11-14 22:13:20 UTC" in run("events", "status", cwd=folder).out
    said = run("events", "export", "out.jsonl", "--after", "1", cwd=folder).out
    assert said == "Wrote 2 records to out.jsonl.\n"
    rows = [json.loads(row) for row in (folder / "out.jsonl").read_text().splitlines()]
    assert [row["event_id"] for row in rows] == ["e2", "e3"]


def test_a_log_that_holds_an_absurd_time_can_be_looked_at(folder: Path) -> None:
    log = open_log(folder / "events.db", limits=Limits(earliest=-math.inf))
    log.append([Event("e0", "ann", "books", "b1", -1e15)])
    log.close()
    said = run("events", "status", cwd=folder).out
    assert "oldest       0001-01-01 00:00:00 UTC" in said
    assert run("events", "status", "--json", cwd=folder).json["oldest"] == -1e15


def test_bad_lines_are_an_error_that_names_the_first_and_the_good_ones_stay(folder: Path) -> None:
    (folder / "in.jsonl").write_text(line("e1") + line("", "eve") + "nonsense\n")
    result = run("events", "import", "in.jsonl", cwd=folder)
    assert result.code == 2
    assert result.out == "1 accepted, 1 empty-id, 1 malformed.\n"
    assert "in.jsonl, line 2: 2 records were not taken, the first because: An id" in result.err
    assert run("events", "status", "--json", cwd=folder).json["events"] == 1


def test_erase_gives_a_receipt_and_cleans_exports(folder: Path) -> None:
    run("events", "import", "in.jsonl", cwd=folder)
    run("events", "export", "out.jsonl", cwd=folder)
    receipt = run("events", "erase", "ann", "--file", "out.jsonl", "--json", cwd=folder).json
    assert (receipt["events"], receipt["offset"]) == (2, 4)
    assert receipt["elsewhere"] == {"registrations": 0, "exports": 0, "out.jsonl": 2}
    assert '"ann"' not in (folder / "out.jsonl").read_text()
    shown = run("events", "erase", "eve", cwd=folder).out
    assert "events       1\n" in shown
    assert run("events", "status", "--json", cwd=folder).json["erasures"] == 2


def test_erase_reaches_registrations_and_the_exports_of_the_service(folder: Path) -> None:
    run("events", "import", "in.jsonl", cwd=folder)
    catalogue = open_catalogue(folder / "events.db")
    catalogue.put_person("ann", {"town": "Ulm"})
    for name in ("exports", "elsewhere"):
        (folder / name).mkdir()
        lists = pl.DataFrame({"user_id": ["ann", "eve"], "rank": [1, 1]})
        lists.write_parquet(folder / name / "0123456789ab.parquet", metadata={"isthmus": "{}"})
    (folder / "exports" / "mine.parquet").write_text("no export")
    receipt = run("events", "erase", "ann", "--json", cwd=folder).json
    assert receipt["elsewhere"] == {"registrations": 1, "exports": 1}
    assert catalogue.person("ann") is None
    catalogue.close()
    cleaned = folder / "exports" / "0123456789ab.parquet"
    assert pl.read_parquet(cleaned)["user_id"].to_list() == ["eve"]
    assert pl.read_parquet_metadata(cleaned)["isthmus"] == "{}"
    again = run("events", "erase", "ann", "--exports", "elsewhere", "--json", cwd=folder).json
    assert again["elsewhere"] == {"registrations": 0, "exports": 1}


def test_compact_follows_the_retention(folder: Path) -> None:
    run("events", "import", "in.jsonl", cwd=folder)
    said = run("events", "compact", "--older-than", "100000", cwd=folder).out
    assert said.startswith("Deleted 0 events")
    assert run("events", "compact", "--json", cwd=folder).json["events"] == 3
    refused = run("events", "import", "in.jsonl", cwd=folder)
    assert "3 too-old" in refused.out
    (folder / "isthmus.toml").write_text("")
    assert "how old is too old" in run("events", "compact", cwd=folder).complaint


def test_compact_keeps_what_the_model_has_not_taken_in(folder: Path) -> None:
    from isthmus.recommender import storage
    from isthmus.training.checkpoint import write_folder

    run("events", "import", "in.jsonl", cwd=folder)
    name = run("events", "status", "--json", cwd=folder).json["id"]
    model = folder / "models" / "shop"
    write_folder(model, {}, kind=storage.KIND, meta={"log": {"id": name, "offset": 1}})
    said = run("events", "compact", cwd=folder).out
    assert said.startswith("Deleted 1 events")
    assert "Kept 2 as old" in said
    write_folder(model, {}, kind=storage.KIND, meta={"log": {"id": "another", "offset": 1}})
    assert "follows the event log another" in run("events", "compact", cwd=folder).complaint


@pytest.mark.parametrize(
    "words", [("status",), ("export", "x.jsonl"), ("erase", "ann"), ("compact",)]
)
def test_a_log_that_is_not_there_is_not_made(words: tuple[str, ...], folder: Path) -> None:
    assert "no event log yet" in run("events", *words, cwd=folder).complaint
    assert not (folder / "events.db").exists()


def test_a_log_can_be_named_without_a_configuration(folder: Path) -> None:
    (folder / "isthmus.toml").unlink()
    assert "no such configuration" in run("events", "import", "in.jsonl", cwd=folder).complaint
    said = run("events", "import", "in.jsonl", "--log", "other.db", cwd=folder).out
    assert said == "3 accepted.\n"
    assert (folder / "other.db").is_file()


def test_a_password_in_the_configuration_is_refused(folder: Path) -> None:
    (folder / "isthmus.toml").write_text('[online]\nlog = "postgresql://me:secret@host/db"\n')
    complaint = run("events", "status", cwd=folder).complaint
    assert "PGPASSWORD" in complaint
    assert "secret" not in complaint
