"""A folder of numbered versions, one of which is live.

    FOLDER/current              which version is live, a seal that only it can match, and which
                                were live before
    FOLDER/versions/v000007/    one version
    FOLDER/ledger.jsonl         what became of every version (`ledger.py`), where writers note it

`current` is one small file, replaced atomically, so it survives copying, zipping and any file
system. What it will say is written beside it (`current.new`) before a version gets its name: where
a publisher dies in between, the next one to lock the folder finishes the switch. Locks are the
kernel's (POSIX only): a killed process holds none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.errors import CheckpointError, did_you_mean
from isthmus.failpoints import reached
from isthmus.training.ledger import LEDGER, enter, read_ledger

_POINTER, _NEXT, _VERSIONS, _LOCK = "current", "current.new", "versions", ".lock"
_ASIDE = ".writing"
MANIFEST = "manifest.json"
"""In every version; what a publisher wrote whole has one, and its checksum is the seal."""

_REMEMBERED = 100
"""Names of versions that were live before; who was live longer ago is not on disk any more."""

_OURS = {_POINTER, _NEXT, _VERSIONS, _LOCK, LEDGER}
_FOREIGN = ("config.json", "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.onnx")


@dataclass(frozen=True)
class Live:
    """What `current` says: the live version's folder, its seal, and who was live before.

    Attributes:
        folder: of the live version.
        seal: that its manifest matches.
        before: names of versions to go back to, the latest first; not all are still there.
        been: names of all that were live, those that were rolled back as well, the latest first.
    """

    folder: Path
    seal: str
    before: tuple[str, ...] = ()
    been: tuple[str, ...] = ()


def publish(
    path: Path,
    fill: Callable[[Path], str],
    *,
    live: bool = True,
    spare: int = 0,
    record: Callable[[Live], None] | None = None,
) -> Path:
    """Add a version to the folder at `path`, usually as the live one; give the version's folder.

    The version before stays on disk until the next one is published, so that whoever reads it can
    finish. Publishers of one folder wait for each other; what a killed one left is removed.

    Args:
        path: made where it is missing, and removed again if its first version fails.
        fill: writes and flushes the content of the new, empty folder it is given and returns the
            seal, the SHA-256 of its `manifest.json`. Where it raises, nothing has changed.
        live: whether the new version becomes the live one; the first one must.
        spare: how many of the newest other versions are kept beside the live one, the one before
            it and the new one.
        record: told who is live once the version is in its place, before older ones are removed.
            Where it fails, they stay, and the next one records what is missing.

    Raises:
        CheckpointError: the folder holds other things than versions.
        OSError: it cannot be written.
    """
    with _locked(path) as versions:
        try:
            old: Live | None = read_pointer(path)
        except CheckpointError:
            if not live:
                raise
            old = None
        aside = versions / _ASIDE
        aside.mkdir()
        try:
            reached("version-begun")
            seal = fill(aside)
            folder = versions / f"v{max(_numbers(versions), default=0) + 1:06d}"
            if live:
                old = Live(folder, seal) if old is None else _after(old, folder, seal)
                _intend(path, old)
            reached("version-written")
            os.rename(aside, folder)
            flush(versions)
            reached("version-named")
        except BaseException:
            # Who is told that it failed must not find it done later.
            (path / _NEXT).unlink(missing_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            raise
        if live:
            _switch(path)
            reached("version-live")
        assert old is not None, "a first version is live"
        try:
            if record is not None:
                record(old)
        except (OSError, ValueError, CheckpointError):
            # The version is live, and nobody may be told that writing it failed.
            return folder
        kept = {folder.name, old.folder.name, *old.before[:1]}
        others = [name for name in kept_versions(path) if name not in kept]
        _discard(versions, but=kept | set(others[max(0, len(others) - spare) :]))
        return folder


def switch(path: Path, version: str, seal: str, *, back: bool = False) -> None:
    """Make a version that is kept the live one.

    Args:
        path: the folder.
        version: its name.
        seal: its own, as `publish` got it.
        back: it was live before; what came after it is forgotten as a place to go back to.

    Raises:
        CheckpointError: there is no such version.
        OSError: the folder cannot be written.
    """
    with _locked(path) as versions:
        old = read_pointer(path)
        if not (versions / version).is_dir():
            raise CheckpointError(
                f"there is no version {version!r}",
                where=str(path),
                hint=did_you_mean(version, kept_versions(path)),
            )
        if version == old.folder.name:
            return
        new = _after(old, versions / version, seal)
        if back:
            new = replace(new, before=old.before[old.before.index(version) + 1 :])
        _intend(path, new)
        _switch(path)
        with suppress(OSError):
            if version in read_ledger(path):
                enter(path, [{"version": version, "live": True}])


def settle(path: Path) -> None:
    """Make a version live whose publisher was killed between naming it and switching to it.

    Raises:
        CheckpointError: the folder holds other things than versions.
        OSError: it cannot be written.
    """
    if (path / _NEXT).exists():
        with _locked(path):
            pass


def drop_others(path: Path) -> None:
    """Remove every version but the live one, which then has nothing to go back to.

    Raises:
        CheckpointError: no version is live.
        OSError: the folder cannot be written.
    """
    with _locked(path) as versions:
        live = read_pointer(path)
        _intend(path, Live(live.folder, live.seal))
        _switch(path)
        _discard(versions, but={live.folder.name})


def kept_versions(path: Path) -> list[str]:
    """Names of the versions on disk, the oldest first."""
    return [f"v{number:06d}" for number in sorted(_numbers(path / _VERSIONS))]


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
        before = tuple(content.get("before", ()))
        been = tuple(content.get("been", before))
        return Live(path / _VERSIONS / content["version"], content["seal"], before, been)
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


def _after(old: Live, folder: Path, seal: str) -> Live:
    """The version in `folder` in place of the old one; names of others stand once each."""
    before, been = (
        tuple(name for name in dict.fromkeys((old.folder.name, *names)) if name != folder.name)
        for names in (old.before, old.been)
    )
    return Live(folder, seal, before[:_REMEMBERED], been[:_REMEMBERED])


def _intend(path: Path, live: Live) -> None:
    """Write down what the pointer will say."""
    content = {
        "version": live.folder.name,
        "seal": live.seal,
        "before": live.before,
        "been": live.been,
    }
    (path / _NEXT).write_text(json.dumps(content) + "\n", "utf-8")
    flush(path / _NEXT)
    flush(path)


def _switch(path: Path) -> None:
    """Have the pointer say what was written down: one rename."""
    try:
        os.replace(path / _NEXT, path / _POINTER)
    except OSError:
        (path / _NEXT).unlink(missing_ok=True)
        raise
    flush(path)


def _finish(path: Path) -> None:
    """Make the switch that a killed publisher had written down, if its version has its name."""
    try:
        content = json.loads((path / _NEXT).read_text("utf-8"))
        manifest = path / _VERSIONS / content["version"] / MANIFEST
        whole = hashlib.sha256(manifest.read_bytes()).hexdigest() == content["seal"]
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if whole:
        _switch(path)
    else:
        (path / _NEXT).unlink(missing_ok=True)


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
            _finish(path)
            try:
                yield versions
            finally:
                if not (path / _POINTER).exists():
                    _discard(versions, but=())
                    files = [path / name for name in (_NEXT, LEDGER)]
                    for remove in (versions.rmdir, *(file.unlink for file in files), lock.unlink):
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
