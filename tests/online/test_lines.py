"""Records as lines of JSON, out and in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from log_samples import NOW, Opener, event, impression

from isthmus.errors import DataError
from isthmus.online.events import Outcome
from isthmus.online.lines import export_lines, from_object, import_lines
from isthmus.online.log import EventLog

LEAST = {"event_id": "e", "user_id": "ann", "domain": "books", "item_id": "b1", "time": NOW}


def test_what_is_exported_is_imported_as_it_was(
    log: EventLog, opened: Opener, tmp_path: Path
) -> None:
    given = [event(f"e{i}", "人 \n\"'", rating=i / 7, time=NOW + i / 3) for i in range(2500)]
    log.append([*given, impression("i", propensity=0.1)])
    file, other = tmp_path / "all.jsonl", opened(tmp_path / "other.db")
    assert export_lines(log, file) == 2501
    found = import_lines(other, file)
    assert found.outcomes == {Outcome.ACCEPTED: 2501}
    assert [r.record for r in other.read(limit=5000)] == [r.record for r in log.read(limit=5000)]
    assert import_lines(other, file).outcomes == {Outcome.REPEATED: 2501}
    assert export_lines(log, file, after=2500) == 1
    assert json.loads(file.read_text())["type"] == "impression"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "no JSON object"),
        ({**LEAST}, "type None is neither"),
        ({**LEAST, "type": "purchase"}, "type 'purchase' is neither"),
        ({**LEAST, "type": ["event"]}, "is neither"),
        ({**LEAST, "type": "event", "colour": 1}, "unknown field 'colour'"),
        ({**LEAST, "type": "event", "rank": 1}, "unknown field 'rank'"),
        ({**LEAST, "type": "impression", "rank": 1}, "'recommendation_id' is missing"),
        ({"type": "event", "event_id": "e"}, "'domain' is missing"),
    ],
)
def test_objects_that_are_no_record_say_why(given: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_object(given)


def test_fields_with_a_default_may_be_left_out() -> None:
    assert from_object({**LEAST, "type": "event"}) == event("e")
    shown = {**LEAST, "type": "impression", "recommendation_id": "r1", "rank": 1}
    assert from_object(shown) == impression("e")


def test_bad_lines_are_counted_with_their_numbers_and_the_others_are_taken(
    opened: Opener, tmp_path: Path
) -> None:
    log, file = opened(tmp_path / "events.db"), tmp_path / "in.jsonl"
    good = json.dumps({**LEAST, "type": "event"}).encode()
    lines = [
        good.replace(b'"e"', b'""'),
        b"{",
        good,
        b"",
        b"\xff\xfe",
        good.replace(str(NOW).encode(), b"NaN"),
        b"[" * 100_000,
        good.replace(b'"e"', b'"f"'),
        good.replace(b'"ann"', b"[1, 2]"),
    ]
    file.write_bytes(b"\n".join(lines))
    found = import_lines(log, file)
    assert found.outcomes == {
        Outcome.ACCEPTED: 2,
        Outcome.EMPTY_ID: 1,
        Outcome.MALFORMED: 4,
        Outcome.BAD_NUMBER: 1,
    }
    assert found.refused == 6
    assert [line for line, _ in found.examples] == [1, 2, 5, 6, 7]
    assert found.examples[1] == (2, "it is no JSON")
    assert [logged.record.event_id for logged in log.read()] == ["e", "f"]


def test_a_file_that_is_not_there_is_named(opened: Opener, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        import_lines(opened(tmp_path / "events.db"), tmp_path / "nowhere.jsonl")
