"""Folders that are written whole or not at all, and checked when read.

A checkpoint is a folder of safetensors, JSON and Parquet with a manifest of checksums. It is
written aside, flushed to disk and renamed, so that a reader sees the old one or the new one, never
half of either (`versions.py`). Nothing is ever pickled.

    manifest.json           kind, and size and checksum of every file (`manifest.py`)
    meta.json               plain values of the whole and of each state
    states/*.safetensors    arrays of each state
    …                       whatever the caller's own writers add
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from isthmus.errors import CheckpointError, did_you_mean
from isthmus.training.ledger import enter, read_ledger
from isthmus.training.manifest import checksum, read_manifest, seal, verify_files
from isthmus.training.versions import MANIFEST, Live, kept_versions, publish, read_pointer, switch

_META, _STATES = "meta.json", "states"
_STORABLE = {"bool", "bfloat16", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True)
class State:
    """What a fitted object needs to come back: arrays by name, and plain JSON values.

    Every scorer gives one from `state()` and comes back from the class method `from_state(state)`.
    """

    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """One version of a folder, every file of it verified when it was opened.

    Attributes:
        folder: the version's own folder; two later writes to the same place remove it.
        kind: what it holds, as the writer named it: `model`, `training`.
        meta: the writer's own JSON values.
        manifest: schema, time of writing, library versions, and size and checksum of every file.
    """

    folder: Path
    kind: str
    meta: dict[str, Any]
    manifest: dict[str, Any]
    _states: dict[str, dict[str, Any]] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the states within."""
        return tuple(self._states)

    def state(self, name: str) -> State:
        """The state of that name; CheckpointError names the near ones."""
        if name not in self._states:
            raise CheckpointError(
                f"holds no state {name!r}",
                where=str(self.folder),
                hint=did_you_mean(name, self._states),
            )
        return State(arrays=load_file(self.file(_state_file(name))), meta=self._states[name])

    def file(self, name: str) -> Path:
        """Path of a file that the writer added, by its path within the folder."""
        if name not in self.manifest["files"]:
            raise CheckpointError(
                f"holds no file {name!r}",
                where=str(self.folder),
                hint=did_you_mean(name, self.manifest["files"]),
            )
        path = self.folder / name
        if not path.is_file():
            raise CheckpointError(
                f"{name} has gone since the folder was opened",
                where=str(self.folder),
                hint="It was replaced meanwhile; open it again",
            )
        return path


def write_folder(
    path: Path | str,
    states: Mapping[str, State],
    *,
    kind: str,
    meta: Mapping[str, Any] | None = None,
    files: Iterable[Callable[[Path], object]] = (),
    live: bool = True,
    spare: int = 0,
    note: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
) -> Path:
    """Write a new version of a checkpoint folder and make it the live one.

    A reader, or a kill at any moment, finds the version before or this one whole. The version
    before stays on disk until the next write, so that whoever is reading it can finish. Writers of
    one folder wait for each other; what a killed writer left behind is removed.

    Args:
        path: the checkpoint folder, made where it is missing.
        states: by name; a slash in a name makes a subfolder. JSON turns tuples in a state's `meta`
            into lists and other keys into text.
        kind: what the folder holds, asked for again by `read_folder`.
        meta: JSON values about the whole.
        files: called with the new version's folder, each to add files of its own to it, such as
            the Parquet tables of a dataset; `manifest.json`, `meta.json` and `states/` are taken.
        live: off: the version is kept, and the live one stays live.
        spare: further versions to keep; see `publish`.
        note: from a version's `meta`, what the folder's ledger is to say of it beside its name and
            when it was written: plain values, `kind` among them. None: it keeps no ledger.

    Returns:
        The folder of the new version.

    Raises:
        CheckpointError: the disk is full, the folder cannot be written or holds other things, or a
            state holds what safetensors or JSON cannot. Whatever was live before still is.
    """
    path = Path(path)

    def fill(folder: Path) -> str:
        for write in files:
            write(folder)
        _write_states(folder, states, dict(meta or {}), path)
        return seal(folder, kind)

    def record(now: Live) -> None:
        assert note is not None, "checked below"
        known = read_ledger(path)
        been = {now.folder.name, *now.before}
        enter(
            path,
            [
                {"version": name, "written": manifest["written"], "live": name in been, **note(of)}
                for name, manifest, of in described(path)
                if known.get(name, {}).get("written") != manifest["written"]
            ],
        )

    with _explained(path, "written"):
        return publish(path, fill, live=live, spare=spare, record=record if note else None)


def read_folder(
    path: Path | str, *, kind: str | None = None, version: str | None = None
) -> Checkpoint:
    """Open the live version of a checkpoint folder, or a named one, and verify every file of it.

    Args:
        path: a folder that `write_folder` made.
        kind: what it must hold; None takes any.
        version: name of a version that is kept; None: the live one.

    Raises:
        CheckpointError: no such folder, one from another tool or of another kind, a newer schema,
            a missing or damaged file.
    """
    path = Path(path)
    with _explained(path, "read"):
        live = read_pointer(path)
        if version is not None:
            return _open(_named(path, version), kind, where=str(path))
        while True:
            try:
                return _open(live, kind, where=str(path))
            except (CheckpointError, OSError):
                # A writer may have replaced and removed this version while it was being read.
                before, live = live, read_pointer(path)
                if live == before:
                    raise


def promote(
    path: Path | str,
    version: str,
    *,
    kind: str | None = None,
    check: Callable[[Checkpoint], None] | None = None,
) -> Checkpoint:
    """Make a version that is kept the live one, after verifying every file of it.

    Args:
        path: the folder.
        version: name of the version.
        kind: what the folder must hold; None: any.
        check: told of the version before the switch; where it raises, nothing has changed.

    Raises:
        CheckpointError: no such version, or it is damaged.
    """
    found = read_folder(path, kind=kind, version=version)
    if check is not None:
        check(found)
    with _explained(Path(path), "written"):
        switch(Path(path), version, checksum(found.folder / MANIFEST))
    return found


def roll_back(
    path: Path | str,
    *,
    kind: str | None = None,
    check: Callable[[Checkpoint], None] | None = None,
) -> Checkpoint:
    """Make the latest version that was live before the live one, and is still there, live again.

    Args:
        path: the folder.
        kind: what the folder must hold; None: any.
        check: told of the version before the switch; where it raises, nothing has changed.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = Path(path)
    with _explained(path, "read"):
        live, kept = read_pointer(path), kept_versions(path)
    earlier = [name for name in live.before if name in kept]
    if not earlier:
        raise CheckpointError(
            f"no version that was live before {live.folder.name} is kept",
            where=str(path),
            hint="Name one with 'isthmus models promote'",
        )
    found = read_folder(path, kind=kind, version=earlier[0])
    if check is not None:
        check(found)
    with _explained(path, "written"):
        switch(path, earlier[0], checksum(found.folder / MANIFEST), back=True)
    return found


def described(path: Path | str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every version that is kept, the oldest first: name, manifest, and the writer's own values.

    Raises:
        CheckpointError: no such folder, or nothing of ours.
    """
    path, found = Path(path), []
    with _explained(path, "read"):
        read_pointer(path)
        for name in kept_versions(path):
            folder = path / "versions" / name
            # What a killed writer left whole but unnamed has a manifest too; a half one has none.
            if (folder / MANIFEST).is_file():
                manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
                content = json.loads((folder / _META).read_text("utf-8"))
                found.append((name, manifest, content["meta"]))
    return found


def _named(path: Path, version: str) -> Live:
    """A version that is kept, sealed by what it says of itself."""
    kept = kept_versions(path)
    manifest = path / "versions" / version / MANIFEST
    if version not in kept or not manifest.is_file():
        raise CheckpointError(
            f"there is no version {version!r}",
            where=str(path),
            hint=did_you_mean(version, kept),
        )
    return Live(manifest.parent, checksum(manifest))


def _write_states(folder: Path, states: Mapping[str, State], meta: object, path: Path) -> None:
    for name, state in states.items():
        file = folder / _state_file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            key: _storable(array, f"{path}: {name}.{key}") for key, array in state.arrays.items()
        }
        # Not `save_file`: its files can be read by their owner alone, whatever the umask.
        file.write_bytes(save(arrays))
    content = {"meta": meta, "states": {name: state.meta for name, state in states.items()}}
    try:
        text = json.dumps(content, indent=1, default=_plain)
    except TypeError as error:
        raise CheckpointError(
            str(error), where=f"{path}: meta", hint="Keep arrays in `arrays` and the rest plain"
        ) from None
    (folder / _META).write_text(text, "utf-8")


def _storable(array: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    """The array in the one layout that safetensors writes correctly: dense, row-major."""
    array = np.asarray(array)
    if array.dtype.name not in _STORABLE:
        raise CheckpointError(
            f"an array of {array.dtype} cannot be stored", where=where, hint="Keep text in `meta`"
        )
    return np.asarray(array, order="C")


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _open(live: Live, kind: str | None, *, where: str) -> Checkpoint:
    manifest = read_manifest(live.folder, live.seal, where=where)
    if kind is not None and manifest["kind"] != kind:
        raise CheckpointError(
            f"holds a {manifest['kind']}, not a {kind}", where=where, hint="Name another folder"
        )
    verify_files(live.folder, manifest)
    content = json.loads((live.folder / _META).read_text("utf-8"))
    return Checkpoint(live.folder, manifest["kind"], content["meta"], manifest, content["states"])


@contextmanager
def _explained(path: Path, verb: str) -> Iterator[None]:
    """Turn what the system says into what, where and what to do."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        # Parquet and safetensors writers report the system's error in their own types' text.
        if code in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error):
            raise CheckpointError(
                "the disk is full",
                where=str(path),
                hint="Free some space and save again; what was saved before is untouched",
            ) from error
        if not isinstance(error, OSError):
            raise
        raise CheckpointError(
            f"cannot be {verb}: {error.strerror or error}",
            where=str(error.filename or path),
            hint="Check the folder's permissions, or name another one",
        ) from error


def _state_file(name: str) -> str:
    path = PurePosixPath(_STATES, f"{name}.safetensors")
    if path.as_posix() != f"{_STATES}/{name}.safetensors" or ".." in path.parts or not name:
        raise CheckpointError(f"{name!r} cannot be the name of a state", hint="Use a plain name")
    return path.as_posix()
