"""Versions are kept up to a number, and any of them can serve again."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest

from isthmus.errors import CheckpointError
from isthmus.training.checkpoint import (
    State,
    described,
    promote,
    read_folder,
    roll_back,
    write_folder,
)
from isthmus.training.versions import drop_others, kept_versions, read_pointer, settle


def write(folder: Path, number: int, *, live: bool = True, spare: int = 10) -> str:
    states = {"one": State({"x": np.full(3, number)})}
    meta = {"number": number}
    return write_folder(folder, states, kind="test", meta=meta, live=live, spare=spare).name


def live(folder: Path) -> int:
    return int(read_folder(folder, kind="test").meta["number"])


def test_a_version_that_is_kept_back_does_not_serve(tmp_path: Path) -> None:
    write(tmp_path, 1)
    name = write(tmp_path, 2, live=False)
    assert live(tmp_path) == 1
    assert [meta["number"] for *_, meta in described(tmp_path)] == [1, 2]
    assert read_folder(tmp_path, version=name).meta["number"] == 2


def test_the_first_version_must_be_live(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        write(tmp_path / "m", 1, live=False)
    assert not (tmp_path / "m").exists()


def test_retention_spares_the_newest_the_live_one_and_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    for number in range(3, 9):
        write(tmp_path, number, live=False, spare=2)
    assert live(tmp_path) == 2
    # 2 serves, 1 did before; 8 is new, and two others are spared.
    assert [meta["number"] for *_, meta in described(tmp_path)] == [1, 2, 6, 7, 8]


@pytest.mark.parametrize("spare", [0, 1, 3, 10])
def test_none_goes_before_there_are_more_than_are_spared(tmp_path: Path, spare: int) -> None:
    for number in range(1, 16):
        write(tmp_path, number, spare=spare)
        kept = [meta["number"] for *_, meta in described(tmp_path)]
        # What is live, what was live before, and the others that are spared.
        assert kept == list(range(max(1, number - spare - 1), number + 1))


def test_promoting_and_rolling_back_step_by_step(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, number)
    write(tmp_path, 4, live=False)
    promote(tmp_path, "v000004", kind="test")
    assert live(tmp_path) == 4
    for before in (3, 2, 1):
        assert roll_back(tmp_path, kind="test").meta["number"] == before
        assert live(tmp_path) == before
    with pytest.raises(CheckpointError, match="no version that was live before v000001 is kept"):
        roll_back(tmp_path)
    assert live(tmp_path) == 1


def test_after_a_way_back_the_next_version_is_behind_what_serves(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, number)
    roll_back(tmp_path)
    write(tmp_path, 4)
    roll_back(tmp_path)
    assert live(tmp_path) == 2


def test_a_damaged_version_is_not_promoted(tmp_path: Path) -> None:
    write(tmp_path, 1)
    name = write(tmp_path, 2, live=False)
    (tmp_path / "versions" / name / "states" / "one.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        promote(tmp_path, name)
    assert live(tmp_path) == 1


def test_an_unknown_version_is_named(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(CheckpointError, match="Did you mean 'v000001'"):
        promote(tmp_path, "v00001")


def test_versions_with_erased_people_can_all_go(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, number)
    drop_others(tmp_path)
    assert kept_versions(tmp_path) == ["v000003"]
    assert read_pointer(tmp_path).before == ()
    assert live(tmp_path) == 3


def test_who_was_live_is_remembered_though_there_is_no_way_back_to_it(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, number)
    roll_back(tmp_path)
    found = read_pointer(tmp_path)
    assert (found.folder.name, found.before) == ("v000002", ("v000001",))
    assert found.been == ("v000003", "v000001")
    promote(tmp_path, "v000003")
    assert read_pointer(tmp_path).been == ("v000002", "v000001")
    # Written by an older version of the library.
    pointer = tmp_path / "current"
    pointer.write_text(re.sub(r', "been": \[.*?\]', "", pointer.read_text()))
    assert read_pointer(tmp_path).been == ("v000002", "v000001")


def test_a_pointer_from_before_there_was_a_way_back_is_read(tmp_path: Path) -> None:
    write(tmp_path, 1)
    pointer = tmp_path / "current"
    pointer.write_text(pointer.read_text().replace(', "before": []', ""))
    assert read_pointer(tmp_path).before == ()
    write(tmp_path, 2)
    assert roll_back(tmp_path).meta["number"] == 1


@pytest.mark.parametrize("serves", [True, False])
@pytest.mark.parametrize("call", ["rename", "replace"])
def test_a_switch_that_a_kill_cut_short_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, serves: bool
) -> None:
    """Between the version's name and the pointer: the next one makes it live, if it was to be."""
    write(tmp_path, 1)
    real = getattr(os, call)
    child = os.fork()
    if not child:

        def then_die(*names: Path) -> None:
            if call == "rename":
                real(*names)
            os._exit(7)

        setattr(os, call, then_die)
        write(tmp_path, 2, live=serves)
        os._exit(8)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # One that is not to serve does not come to the second of the two calls.
    assert ended == (7 if serves or call == "rename" else 8)
    assert live(tmp_path) == 1
    settle(tmp_path)
    assert live(tmp_path) == (2 if serves else 1)
    assert kept_versions(tmp_path) == ["v000001", "v000002"]
    assert not (tmp_path / "current.new").exists()


def test_a_switch_to_a_version_that_has_no_name_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path, 1)
    pointer = (tmp_path / "current").read_text()
    (tmp_path / "current.new").write_text(pointer.replace("v000001", "v000002"))
    settle(tmp_path)
    assert live(tmp_path) == 1
    assert not (tmp_path / "current.new").exists()


def test_who_is_told_that_writing_failed_does_not_find_it_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)

    def refused(*names: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refused)
        with pytest.raises(CheckpointError, match="Input/output error"):
            write(tmp_path, 2)
    settle(tmp_path)
    assert live(tmp_path) == 1
