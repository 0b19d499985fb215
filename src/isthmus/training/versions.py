"""A folder of numbered versions, one of which is live.

    FOLDER/current              which version is live, and a seal that only it can match
    FOLDER/versions/v000007/    one version

`current` is one small file, replaced atomically, so it survives copying, zipping and any file
system. Locks are the kernel's (POSIX only): a killed process holds none.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import CheckpointError

_POINTER, _VERSIONS, _LOCK, _ASIDE = "current", "versions", ".lock", ".writing"
_OURS = {_POINTER, f"{_POINTER}.new", _VERSIONS, _LOCK}
_FOREIGN = ("config.json", "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.onnx")


@dataclass(frozen=True)
class Live:
    """What `current` says: the live version's folder, and its seal."""

    folder: Path
    seal: str


def publish(path: Path, fill: Callable[[Path], str]) -> Path:
    """Make a new version of the folder at `path` live, and give the version's own folder.

    The version before stays on disk until the next one is published, so that whoever reads it can
    finish. Publishers of one folder wait for each other; what a killed one left is removed.

    Args:
        path: made where it is missing, and removed again if its first version fails.
        fill: writes and flushes the content of the new, empty folder it is given and returns the
            seal. Where it raises, nothing has changed.

    Raises:
        CheckpointError: the folder holds other things than versions.
        OSError: it cannot be written.
    """
    with _locked(path) as versions:
        try:
            before: str | None = read_pointer(path).folder.name
        except CheckpointError:
            before = None
        aside = versions / _ASIDE
        aside.mkdir()
        try:
            seal = fill(aside)
            folder = versions / f"v{max(_numbers(versions), default=0) + 1:06d}"
            os.rename(aside, folder)
            flush(versions)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        _point(path, folder.name, seal)
        _discard(versions, but={folder.name, before})
        return folder


def read_pointer(path: Path) -> Live:
    """Which version of the folder at `path` is live.

    Raises:
        CheckpointError: no such folder, one from another tool, or one never finished.
    """
    pointer = path / _POINTER
    if not path.is_dir():
        raise CheckpointError(
            "no such folder", where=str(path), hint="Check the path, or train and save first"
        )
    if not pointer.is_file() and (path / _VERSIONS).is_dir():
        raise CheckpointError(
            "no version was ever finished here", where=str(path), hint="Train and save again"
        )
    if not pointer.is_file():
        foreign = any(next(path.glob(pattern), None) for pattern in _FOREIGN)
        raise CheckpointError(
            "a model folder from another tool" if foreign else "not an Isthmus folder",
            where=str(path),
            hint="To use it as the language model, set language.model to it"
            if foreign
            else "Name a folder that Isthmus saved",
        )
    try:
        content = json.loads(pointer.read_text("utf-8"))
        return Live(path / _VERSIONS / content["version"], content["seal"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            "the file is damaged: it does not name a version",
            where=str(pointer),
            hint="Restore the folder from a copy, or train again",
        ) from None


def never_finished(path: Path) -> bool:
    """Whether a writer died here before its first version was live, and left nothing else."""
    return path.is_dir() and set(os.listdir(path)) <= _OURS - {_POINTER}


def flush(entry: Path) -> None:
    """Have the system put a file, or a folder's list of names, on disk."""
    descriptor = os.open(entry, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point(path: Path, version: str, seal: str) -> None:
    """Switch the live version: one rename."""
    aside = path / f"{_POINTER}.new"
    aside.write_text(json.dumps({"version": version, "seal": seal}) + "\n", "utf-8")
    flush(aside)
    os.replace(aside, path / _POINTER)
    flush(path)


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """The `versions` folder, to oneself."""
    versions, lock = path / _VERSIONS, path / _LOCK
    if path.is_dir() and not versions.is_dir() and set(os.listdir(path)) - _OURS:
        raise CheckpointError(
            "the folder holds other things", where=str(path), hint="Name a new or empty folder"
        )
    while True:
        path.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # The one waited for may have failed and taken the whole folder away.
            if not (lock.exists() and os.path.samestat(os.fstat(handle.fileno()), lock.stat())):
                continue
            versions.mkdir(exist_ok=True)
            # Space first: a version that was half written when its writer died.
            shutil.rmtree(versions / _ASIDE, ignore_errors=True)
            try:
                yield versions
            finally:
                if not (path / _POINTER).exists():
                    _discard(versions, but=())
                    for remove in (versions.rmdir, (path / f"{_POINTER}.new").unlink, lock.unlink):
                        with suppress(OSError):
                            remove()
                    with suppress(OSError):
                        path.rmdir()
            return


def _discard(versions: Path, *, but: Container[str | None]) -> None:
    for number in _numbers(versions):
        name = f"v{number:06d}"
        if name not in but:
            shutil.rmtree(versions / name, ignore_errors=True)


def _numbers(versions: Path) -> list[int]:
    return [int(entry.name[1:]) for entry in versions.glob("v*") if entry.name[1:].isdecimal()]
