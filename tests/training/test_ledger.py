"""What became of every version is known when its files are gone, whenever a writer died."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from isthmus.errors import CheckpointError
from isthmus.training import checkpoint as checkpoint_module
from isthmus.training.checkpoint import State, promote, roll_back, write_folder
from isthmus.training.ledger import LEDGER, enter, read_ledger
from isthmus.training.versions import drop_others, kept_versions


def write(folder: Path, number: int, *, live: bool = True, spare: int = 0) -> str:
    return write_folder(
        folder,
        {"one": State({"x": np.full(3, number)})},
        kind="test",
        meta={"number": number},
        live=live,
        spare=spare,
        note=lambda meta: {"kind": "update", "reason": f"number {meta['number']}"},
    ).name


def told(folder: Path) -> dict[str, tuple[str, bool]]:
    return {name: (e["reason"], e["live"]) for name, e in read_ledger(folder).items()}


def test_versions_that_are_gone_keep_their_reasons(tmp_path: Path) -> None:
    for number in range(1, 6):
        write(tmp_path, number, live=number != 3)
    assert kept_versions(tmp_path) == ["v000004", "v000005"]
    assert told(tmp_path) == {
        f"v{number:06d}": (f"number {number}", number != 3) for number in range(1, 6)
    }
    assert all(entry["written"][:2] == "20" for entry in read_ledger(tmp_path).values())


def test_that_a_version_was_promoted_is_entered(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2, live=False)
    assert told(tmp_path)["v000002"] == ("number 2", False)
    promote(tmp_path, "v000002")
    roll_back(tmp_path)
    assert told(tmp_path)["v000002"] == ("number 2", True)
    before = (tmp_path / LEDGER).read_bytes()
    write(tmp_path, 3)
    # Only ever appended to.
    assert (tmp_path / LEDGER).read_bytes().startswith(before)


@pytest.mark.parametrize("failpoint", ["version-named", "version-live"])
def test_what_a_killed_writer_did_not_enter_the_next_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failpoint: str
) -> None:
    write(tmp_path, 1)
    child = os.fork()
    if not child:
        from isthmus import failpoints

        failpoints._name, failpoints._left = failpoint, 1
        write(tmp_path, 2)
        os._exit(8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert list(told(tmp_path)) == ["v000001"]
    for number in (3, 4, 5):
        write(tmp_path, number)
    assert list(told(tmp_path)) == [f"v{number:06d}" for number in range(1, 6)]
    assert told(tmp_path)["v000002"] == ("number 2", True)


def test_half_a_line_is_skipped_and_closed(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with (tmp_path / LEDGER).open("a") as file:
        file.write('{"version": "v0000')
    assert list(told(tmp_path)) == ["v000001"]
    write(tmp_path, 2)
    assert list(told(tmp_path)) == ["v000001", "v000002"]
    lines = (tmp_path / LEDGER).read_text().splitlines()
    assert [json.loads(line)["version"] for line in (lines[0], lines[2])] == list(told(tmp_path))


def test_where_it_cannot_be_written_the_version_serves_and_no_reason_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        write(tmp_path, number)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "enter", full)
        assert write(tmp_path, 3) == "v000003"
    assert kept_versions(tmp_path) == ["v000001", "v000002", "v000003"]
    write(tmp_path, 4)
    assert list(told(tmp_path)) == [f"v{number:06d}" for number in range(1, 5)]
    assert kept_versions(tmp_path) == ["v000003", "v000004"]


def test_folders_from_before_there_was_a_ledger_get_one(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, number)
    (tmp_path / LEDGER).unlink()
    write(tmp_path, 3)
    assert list(told(tmp_path)) == ["v000001", "v000002", "v000003"]


def test_a_name_that_is_given_again_is_told_once(tmp_path: Path) -> None:
    write(tmp_path, 1)
    enter(
        tmp_path, [{"version": "v000002", "written": "2001", "kind": "x", "reason": "", "live": 0}]
    )
    write(tmp_path, 2)
    assert told(tmp_path)["v000002"] == ("number 2", True)


def test_taking_all_others_out_leaves_what_became_of_them(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, number)
    drop_others(tmp_path)
    assert list(told(tmp_path)) == ["v000001", "v000002"]


def test_a_folder_whose_first_version_fails_is_gone_whole(tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    (place / LEDGER).write_text("")
    with pytest.raises(CheckpointError, match="no version was ever finished"):
        write(place, 1, live=False)
    assert not place.exists()
