"""Vectors of texts on disk, half precision, one folder per model.

A folder holds segments: NumPy files of one structured array (key, truncated, vector) sorted by
key, named by the hash of their content and never changed. Writers add segments and readers take
what is there, so any number of processes may share a folder. A segment that does not match its
name is damaged: it is removed, and its texts are encoded again. Many small segments are merged.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.language.aside import write_aside

_log = logging.getLogger(__name__)
_MERGE_AT, _SMALL_ROWS = 32, 16_384
_LARGEST = float(np.finfo(np.float16).max)


def text_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """128-bit keys of texts, uint64 [n, 2]."""
    digests = [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for text in texts
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(len(texts), 2)


def to_half(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """Rounded to half precision; what is too large for it becomes the largest that is not."""
    return np.clip(vectors, -_LARGEST, _LARGEST).astype(np.float16)


@dataclass
class Encoded:
    """Vectors of some texts.

    Attributes:
        vectors: float16 [n, dim].
        truncated: bool [n]; the model did not see the text's end.
        known: bool [n]; false where there is no vector yet, and the row means nothing.
    """

    vectors: NDArray[np.float16]
    truncated: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @classmethod
    def none(cls, n: int, dim: int) -> Encoded:
        """Room for `n` texts, none known."""
        return cls(np.zeros((n, dim), np.float16), np.zeros(n, bool), np.zeros(n, bool))


@dataclass(frozen=True)
class _Segment:
    high: NDArray[np.uint64]
    table: NDArray[np.void]


class VectorCache:
    """One model's vectors on disk."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self._row = np.dtype([("key", "<u8", (2,)), ("truncated", "?"), ("vector", "<f2", (dim,))])
        self._segments: dict[str, _Segment] = {}

    def get(self, keys: NDArray[np.uint64]) -> Encoded:
        """Look up texts by `text_keys` [n, 2]."""
        found = Encoded.none(len(keys), self.dim)
        self._refresh()
        for segment in list(self._segments.values()):
            rows = np.flatnonzero(~found.known)
            at = np.searchsorted(segment.high, keys[rows, 0])
            at[at == len(segment.high)] = 0
            hit = (segment.table["key"][at] == keys[rows]).all(axis=1)
            rows, at = rows[hit], at[hit]
            found.vectors[rows] = segment.table["vector"][at]
            found.truncated[rows] = segment.table["truncated"][at]
            found.known[rows] = True
        return found

    def put(
        self,
        keys: NDArray[np.uint64],
        vectors: NDArray[np.float16],
        truncated: NDArray[np.bool_],
    ) -> bool:
        """Add texts by key [n, 2], with vectors [n, dim]; false where the disk refuses."""
        table = np.empty(len(keys), self._row)
        table["key"], table["vector"], table["truncated"] = keys, vectors, truncated
        return self._write(table) is not None

    def merge(self) -> None:
        """Put many small segments into one."""
        self._refresh()
        before = {n: s for n, s in self._segments.items() if len(s.table) <= _SMALL_ROWS}
        if len(before) < _MERGE_AT:
            return
        table = np.concatenate([segment.table for segment in before.values()])
        _, first = np.unique(table["key"], axis=0, return_index=True)
        if merged := self._write(table[first]):
            for name in before.keys() - {merged}:
                self._drop(name)

    def _write(self, table: NDArray[np.void]) -> str | None:
        """The new segment's name, or None where the disk refuses."""
        buffer = io.BytesIO()
        ordered = table[np.lexsort((table["key"][:, 1], table["key"][:, 0]))]
        np.save(buffer, ordered, allow_pickle=False)
        name = f"{hashlib.blake2b(buffer.getvalue(), digest_size=16).hexdigest()}.npy"
        return name if write_aside(self.folder / name, buffer.getvalue()) else None

    def _refresh(self) -> None:
        """Read segments that were not there the last time."""
        for path in sorted(self.folder.glob("*.npy")):
            if path.name not in self._segments and (segment := self._read(path)):
                self._segments[path.name] = segment

    def _read(self, path: Path) -> _Segment | None:
        try:
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, _hash).hexdigest() == path.stem
            if whole:
                table = np.load(path, mmap_mode="r", allow_pickle=False)
                if table.dtype == self._row and table.ndim == 1 and len(table):
                    return _Segment(np.ascontiguousarray(table["key"][:, 0]), table)
        except FileNotFoundError:  # another process has merged it
            return None
        except (OSError, ValueError) as error:
            _log.warning("Vector cache file %s cannot be read: %s", path, error)
            return None
        _log.warning("Vector cache file %s is damaged: its texts are encoded again", path)
        self._drop(path.name)
        return None

    def _drop(self, name: str) -> None:
        self._segments.pop(name, None)
        with suppress(OSError):
            (self.folder / name).unlink()


def _hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)
