"""Checkpoint folders: what goes in comes out, a reader never meets half a version, damage is told.

The versions written here carry one number in every array and every file, so that a mixture of two
versions would show.
"""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isthmus.errors import CheckpointError
from isthmus.training import checkpoint, manifest, versions
from isthmus.training.checkpoint import State, read_folder, write_folder
from isthmus.training.manifest import SCHEMA

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", ">f4", ml_dtypes.bfloat16),
]


def numbered(number: int) -> dict[str, State]:
    return {
        "neural": State({"weight": np.full((64, 8), number, np.float32)}, {"number": number}),
        "parts/text": State({"mean": np.array([number])}, {"number": number}),
    }


def write(path: Path, number: int = 1) -> Path:
    table = pl.DataFrame({"number": [number] * 100})
    return write_folder(
        path,
        numbered(number),
        kind="model",
        meta={"number": number},
        files=[lambda folder: table.write_parquet(folder / "items.parquet")],
    )


def number_of(path: Path) -> int:
    """The one number that every part of the live version carries."""
    opened = read_folder(path, kind="model")
    found = {opened.meta["number"]}
    for name in opened.names:
        state = opened.state(name)
        found |= {state.meta["number"], *(n for a in state.arrays.values() for n in a.flat)}
    found |= set(pl.read_parquet(opened.file("items.parquet"))["number"])
    assert len(found) == 1
    return int(found.pop())


def attempt(action: Callable[[], object]) -> str | None:
    """What the CheckpointError said, None where there was none."""
    try:
        action()
    except CheckpointError as error:
        return str(error)
    return None


def everything(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


# What goes in comes out


@hypothesis_settings(max_examples=30, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_arrays_of_every_type_and_shape_come_back(tmp_path_factory, data, dtype):
    shape = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    array = data.draw(hnp.arrays(np.uint8, shape)).astype(dtype)
    folder = tmp_path_factory.mktemp("arrays") / "c"
    given_arrays = {"straight": array, "turned": array.T, "strided": array.ravel()[::2]}
    write_folder(folder, {"s": State(given_arrays)}, kind="model")
    back = read_folder(folder).state("s").arrays
    assert back.keys() == given_arrays.keys()
    for name, expected in given_arrays.items():
        assert back[name].shape == expected.shape
        assert back[name].dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(back[name], expected)


def test_meta_comes_back_as_plain_values(tmp_path):
    meta = {
        "n": np.int64(3),
        "rate": np.float32(0.5),
        "path": Path("a/b"),
        "text": "汉字 ☕",
        "no": None,
    }
    write_folder(tmp_path / "c", {"s": State({}, meta)}, kind="model", meta=meta)
    plain = {"n": 3, "rate": 0.5, "path": "a/b", "text": "汉字 ☕", "no": None}
    opened = read_folder(tmp_path / "c")
    assert opened.meta == plain
    assert opened.state("s") == State({}, plain)


def test_manifest_tells_schema_kind_libraries_and_files(tmp_path):
    write(tmp_path / "c")
    manifest = read_folder(tmp_path / "c").manifest
    assert (manifest["schema"], manifest["kind"]) == (SCHEMA, "model")
    assert manifest["libraries"]["numpy"] == np.__version__
    assert set(manifest["files"]) == {
        *("items.parquet", "meta.json"),
        *("states/neural.safetensors", "states/parts/text.safetensors"),
    }


def test_files_are_readable_by_whom_the_umask_allows(tmp_path):
    folder = write(tmp_path / "c")
    expected = 0o666 & ~_umask()
    for name in ("manifest.json", "states/neural.safetensors"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == expected


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([None]), np.array([1 + 2j])])
def test_an_array_that_cannot_be_stored_is_named(tmp_path, array):
    with pytest.raises(CheckpointError, match=r"neural\.names.*cannot be stored"):
        write_folder(tmp_path / "c", {"neural": State({"names": array})}, kind="model")
    assert not (tmp_path / "c").exists()


def test_meta_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="ndarray is not a JSON value"):
        write_folder(tmp_path / "c", {"s": State({}, {"a": np.ones(2)})}, kind="model")


@pytest.mark.parametrize("name", ["", "../out", "/out", "a//b", "a/../../b"])
def test_a_state_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(CheckpointError, match="cannot be the name"):
        write_folder(tmp_path / "c", {name: State()}, kind="model")
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_suggest_the_near_one(tmp_path):
    write(tmp_path / "c")
    opened = read_folder(tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"'neurla'.*Did you mean 'neural'"):
        opened.state("neurla")
    with pytest.raises(CheckpointError, match=r"Did you mean 'items\.parquet'"):
        opened.file("item.parquet")


# Versions


def test_a_new_version_replaces_the_old_and_keeps_it_for_whoever_reads_it(tmp_path):
    write(tmp_path / "c", 1)
    first = read_folder(tmp_path / "c")
    write(tmp_path / "c", 2)
    assert first.state("neural").meta["number"] == 1
    assert number_of(tmp_path / "c") == 2
    write(tmp_path / "c", 3)
    assert number_of(tmp_path / "c") == 3
    assert len(list((tmp_path / "c" / "versions").iterdir())) == 2
    with pytest.raises(CheckpointError, match="open it again"):
        first.state("neural")


def test_a_reader_who_meets_a_removed_version_takes_the_new_one(tmp_path, monkeypatch):
    write(tmp_path / "c", 1)
    stale = versions.read_pointer(tmp_path / "c")
    write(tmp_path / "c", 2)
    write(tmp_path / "c", 3)
    answers = iter([stale])
    monkeypatch.setattr(
        checkpoint, "read_pointer", lambda path: next(answers, versions.read_pointer(path))
    )
    assert number_of(tmp_path / "c") == 3


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import write
number = int(sys.argv[3])
while True:
    write(Path(sys.argv[1]), number)
    print(number, flush=True)
    number += 1
"""


def test_killed_at_any_moment_the_folder_holds_one_version_whole(tmp_path):
    moments = np.random.default_rng(0).uniform(0, 0.05, 10)
    path, number, here = tmp_path / "c", 1, str(Path(__file__).parent)
    for moment in moments:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), here, str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(moment)
        writer.send_signal(signal.SIGKILL)
        told = [number, *(int(line) for line in writer.communicate()[0].split())]
        found = number_of(path)
        # What was told as written is there; the next may have been finished but not yet told.
        assert found in (told[-1], told[-1] + 1)
        number = found + 1
    write(path, number)
    assert number_of(path) == number
    left = {file.name for file in path.iterdir()} | {v.name for v in path.glob("versions/*")}
    assert ".writing" not in left
    assert len([name for name in left if name.startswith("v0")]) == 2


def test_what_a_dead_writer_left_does_not_stop_the_next(tmp_path):
    write(tmp_path / "c", 1)
    (tmp_path / "c/versions/.writing/states").mkdir(parents=True)
    (tmp_path / "c/versions/v000009").mkdir()
    (tmp_path / "c/current.new").write_text("half")
    assert number_of(tmp_path / "c") == 1
    assert write(tmp_path / "c", 2).name == "v000010"
    assert number_of(tmp_path / "c") == 2
    assert {v.name for v in (tmp_path / "c/versions").iterdir()} == {"v000001", "v000010"}


def test_writers_of_one_folder_take_turns(tmp_path):
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "c"), here]
    writers = [
        subprocess.Popen([*command, str(start)], stdout=subprocess.PIPE, text=True)
        for start in (1, 1_000_000)
    ]
    for writer in writers:
        assert writer.stdout is not None
        for _ in range(5):
            assert writer.stdout.readline()
        assert number_of(tmp_path / "c") > 0
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert number_of(tmp_path / "c") > 0


# Writing that fails


def full(folder: Path) -> None:
    with Path("/dev/full").open("w") as device:
        device.write("x" * 100_000)


def broken(folder: Path) -> None:
    (folder / "half").write_text("half")
    raise ZeroDivisionError


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs the device /dev/full")
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_what_was_there(tmp_path, existing):
    path = tmp_path / "models" / "c"
    if existing:
        write(path, 1)
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match=r"the disk is full.*Free some space"):
        write_folder(path, numbered(2), kind="model", files=[full])
    assert everything(tmp_path) == before
    assert path.exists() == existing


def test_a_disk_that_fills_up_under_the_writers(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        write(disk / "c", 1)
        large = pl.DataFrame({"n": np.random.default_rng(0).random(100_000)})
        big_state = {"s": State({"w": np.ones((1000, 1000))})}
        for states, files in (
            (big_state, []),
            ({}, [lambda folder: large.write_parquet(folder / "large.parquet")]),
        ):
            with pytest.raises(CheckpointError, match="the disk is full"):
                write_folder(disk / "c", states, kind="model", files=files)
            assert number_of(disk / "c") == 1
        write(disk / "c", 2)
        assert number_of(disk / "c") == 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("call", ["fsync", "rename", "replace"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_at_any_step_leaves_a_whole_version(tmp_path, monkeypatch, call, existing):
    """The nth call fails, for every n: the live version is the old or the new one, whole."""
    real = getattr(os, call)
    for fails_at in range(100):
        path = tmp_path / str(fails_at)
        if existing:
            write(path, 1)
        calls = 0

        def failing(*args, fails_at=fails_at):
            nonlocal calls
            calls += 1
            if calls == fails_at + 1:
                raise OSError(errno.EIO, "Input/output error")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            failure = attempt(lambda path=path: write(path, 2))
        if failure is None:
            break
        assert "Input/output error" in failure
        if existing or path.exists():
            assert number_of(path) in (1, 2)
        write(path, 3)
        assert number_of(path) == 3
    assert fails_at >= (5 if call == "fsync" else 1)
    assert number_of(path) == 2


def test_an_error_of_the_caller_passes_through_and_changes_nothing(tmp_path):
    write(tmp_path / "c", 1)
    before = everything(tmp_path)
    with pytest.raises(ZeroDivisionError):
        write_folder(tmp_path / "c", {}, kind="model", files=[broken])
    with pytest.raises(ZeroDivisionError):
        write_folder(tmp_path / "new", {}, kind="model", files=[broken])
    assert everything(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_read_only_folder(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written.*Check the folder's permis"):
            write(locked / "c")
    finally:
        if root:
            os.seteuid(0)
    assert list(locked.iterdir()) == []


def test_a_folder_under_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write(tmp_path / "file" / "c")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="the folder holds other things"):
        write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


# Reading what is damaged, foreign or newer


FILES = ["manifest.json", "meta.json", "states/neural.safetensors", "items.parquet"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_anywhere_is_told_with_the_file(tmp_path, name):
    file = write(tmp_path / "c") / name
    sound = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(sound), 10):
        damaged = bytearray(sound)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"{name}: the file is damaged.*Restore"):
            read_folder(tmp_path / "c")
    file.write_bytes(sound)
    assert number_of(tmp_path / "c") == 1


def test_a_flipped_byte_in_the_pointer_never_gives_another_version(tmp_path):
    write(tmp_path / "c", 1)
    write(tmp_path / "c", 2)
    pointer = tmp_path / "c" / "current"
    sound = pointer.read_bytes()
    for place in range(len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 3
        pointer.write_bytes(damaged)
        failure = attempt(lambda: read_folder(tmp_path / "c"))
        if failure is None:
            assert number_of(tmp_path / "c") == 2
        else:
            assert "damaged" in failure or "missing" in failure


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    (write(tmp_path / "c") / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: the file is missing.*Restore"):
        read_folder(tmp_path / "c")


def test_a_cut_file_tells_both_sizes(tmp_path):
    file = write(tmp_path / "c") / "states/neural.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"damaged: 100 bytes where 2,\d{3} were written"):
        read_folder(tmp_path / "c")


def test_a_newer_schema_asks_for_an_upgrade(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "SCHEMA", SCHEMA + 1)
        write(tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"newer Isthmus .*schema 2.*Upgrade isthmus"):
        read_folder(tmp_path / "c")


def test_a_folder_of_another_kind(tmp_path):
    write(tmp_path / "c")
    with pytest.raises(CheckpointError, match="holds a model, not a training"):
        read_folder(tmp_path / "c", kind="training")


def test_a_hugging_face_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"from another tool.*language\.model"):
        read_folder(tmp_path)


def test_no_folder_an_empty_one_and_one_never_finished(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="not an Isthmus folder"):
        read_folder(tmp_path)
    (tmp_path / "versions").mkdir()
    with pytest.raises(CheckpointError, match="no version was ever finished"):
        read_folder(tmp_path)
