"""Files → frames: CSV and TSV (also .gz, .zst), Parquet, JSON lines.

Delimited files are read as text throughout, so that ids keep their leading zeros; numbers are made
of them later, where numbers are wanted. A delimiter other than the usual is recognised and said.
Between tabs, quotation marks often are part of the texts; where they enclose nothing, they are read
so, and said.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from isthmus.errors import DataError, did_you_mean

_DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ",", ".dat": ","}
_PARQUET = (".parquet", ".pq")
_LINES = (".jsonl", ".ndjson", ".json")
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
_MAGIC = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a zip archive, perhaps Excel",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"<!DOC": "a web page",
    b"<html": "a web page",
}
_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Table:
    """A file that was recognised and whose columns are known; rows are read when asked for.

    Attributes:
        path: the file.
        columns: its columns.
        notes: what was unusual, one sentence each.
        as_text: whether every value is text, as in delimited files.
    """

    path: Path
    columns: tuple[str, ...]
    notes: tuple[str, ...]
    as_text: bool
    _frame: pl.LazyFrame
    _delimiter: str | None = None

    def read(
        self,
        columns: Sequence[str] | None = None,
        *,
        only: Mapping[str, Sequence[str]] | None = None,
        rows: int | None = None,
        keep: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """The rows.

        Args:
            columns: which columns; None: all.
            only: column → values; other rows are left out.
            rows: most rows, from the top.
            keep: further rows are left out where this is false; the file is then read in stretches,
                and only what is kept is ever held.

        Raises:
            DataError: the file breaks off or is not what its head promised.
        """
        frame = self._filtered(only)
        if keep is not None:
            frame = frame.filter(keep)
        frame = frame if columns is None else frame.select(columns)
        frame = frame if rows is None else frame.head(rows)
        try:
            return frame.collect(engine="auto" if keep is None else "streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(self.path, error, self._delimiter) from None

    def count(self, only: Mapping[str, Sequence[str]] | None = None) -> int:
        """How many rows there are, read in stretches; `only` as in `read`.

        Raises:
            DataError: see `read`.
        """
        try:
            counted = self._filtered(only).select(pl.len()).collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(self.path, error, self._delimiter) from None
        return int(counted.item())

    @property
    def least_rows(self) -> int:
        """Rows that there are at least, without reading them; a compressed file has more."""
        if not self.as_text and self.path.suffix.lower() in _PARQUET:
            return int(pq.read_metadata(self.path).num_rows)
        suffix = self.path.suffix.lower()
        lines = _head(self.path, _COMPRESSED.get(suffix)).split(b"\n")
        # The last line of the head is cut off, and the first may be a header.
        whole = lines[1:-1] or lines
        width = max(sum(map(len, whole)) / len(whole) + 1, 1)
        return int(self.path.stat().st_size / width)

    def _filtered(self, only: Mapping[str, Sequence[str]] | None) -> pl.LazyFrame:
        frame = self._frame
        for name, values in (only or {}).items():
            frame = frame.filter(pl.col(name).cast(pl.String).is_in(list(values)))
        return frame


def open_table(path: Path) -> Table:
    """Recognise a file by its name and check that its head is what the name says.

    Raises:
        DataError: no such file, an empty one, an unknown kind, another format than the name says,
            or a delimiter that cannot be told.
    """
    path = Path(path)
    _must_exist(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = _COMPRESSED.get(suffixes[-1]) if suffixes else None
    kind = (suffixes[:-1] if compression else suffixes)[-1:] or [""]
    known = {*_DELIMITED, *_PARQUET, *_LINES}
    if kind[0] not in known or (compression and kind[0] in _PARQUET):
        raise DataError(
            "unknown kind of file",
            where=str(path),
            hint="Use .csv, .tsv (also .gz, .zst), .parquet or .jsonl",
        )
    head = _head(path, compression)
    if kind[0] in _PARQUET:
        if not head.startswith(b"PAR1"):
            raise DataError("not a Parquet file", where=str(path), hint="Write it again")
        return _table(path, pl.scan_parquet(path), as_text=False)
    text, whole = _as_text(path, head), len(head) < _HEAD_BYTES
    if kind[0] in _LINES:
        _must_be_json_lines(path, text)
        frame = pl.scan_ndjson(path, infer_schema_length=None)
        return _table(path, frame, as_text=False)
    delimiter, notes = _delimiter(path, text, whole, _DELIMITED[kind[0]])
    frame = pl.scan_csv(path, separator=delimiter, infer_schema=False)
    if delimiter == "\t":
        frame, more = _unquoted(path, frame)
        notes = (*notes, *more)
    return _table(path, frame, as_text=True, notes=notes, delimiter=delimiter)


def read_table(path: Path) -> pl.DataFrame:
    """A whole file; see `open_table` and `Table.read`."""
    return open_table(path).read()


def _must_exist(path: Path) -> None:
    if path.is_dir():
        raise DataError("is a folder, not a file", where=str(path), hint="Name one file")
    if not path.exists():
        folder = path.parent
        beside = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        hint = did_you_mean(path.name, beside) if beside else f"Folder {folder} is not there either"
        raise DataError("no such file", where=str(path), hint=hint)


def _head(path: Path, compression: str | None) -> bytes:
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            head = b""
            # A compressed stream may give less than asked for.
            while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
                head += more
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None
    if not head.strip():
        raise DataError("the file is empty", where=str(path), hint="Write it again or leave it out")
    return head


def _as_text(path: Path, head: bytes) -> str:
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(
                f"the name says text, and the content is {name}",
                where=str(path),
                hint="Rename it, or export it as CSV in UTF-8",
            )
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(head, final=len(head) < _HEAD_BYTES)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError("not text in UTF-8", where=str(path), hint="Save it as CSV in UTF-8")
    return text.removeprefix("\ufeff")


def _must_be_json_lines(path: Path, text: str) -> None:
    first = text.lstrip().split("\n", 1)[0].strip()
    hint = "Write one JSON object per line"
    if first.startswith("["):
        raise DataError("one JSON array, not JSON lines", where=str(path), hint=hint)
    try:
        fine = len(first) > _HEAD_BYTES // 2 or isinstance(json.loads(first), dict)
    except json.JSONDecodeError:
        fine = False
    if not fine:
        raise DataError("the first line is no JSON object", where=str(path), hint=hint)


def _delimiter(path: Path, text: str, whole: bool, usual: str) -> tuple[str, tuple[str, ...]]:
    """The delimiter of a head, and a note where it is not the usual one."""
    lines = [line for line in text.splitlines() if line.strip()]
    lines = lines if whole or len(lines) == 1 else lines[:-1]
    header, sample = lines[0], lines[:50]
    if header.startswith("{") and header.rstrip().endswith("}"):
        raise DataError(
            "looks like JSON lines, not a delimited file", where=str(path), hint="Name it .jsonl"
        )
    fields = {d: [len(row) for row in csv.reader(sample, delimiter=d)] for d in _NAMES}
    steady = {d: n[0] for d, n in fields.items() if n and n[0] > 1 and min(n) == max(n)}
    if usual in steady and steady[usual] == max(steady.values()):
        return usual, ()
    if steady:
        best = max(steady, key=lambda d: steady[d])
        return best, (f"fields are separated by {_NAMES[best]}, not by {_NAMES[usual]}",)
    if usual in header:
        return usual, ()
    present = [d for d in _NAMES if d in header]
    if len(present) == 1:
        note = f"fields are separated by {_NAMES[present[0]]}, not by {_NAMES[usual]}"
        return present[0], (note,)
    if re.search(r"[^\w\s.-]|\w\s{2,}\w", header):
        raise DataError(
            f"the delimiter cannot be told; the header is read as one column, {header[:80]!r}",
            where=str(path),
            hint="Separate fields by a comma, semicolon, tab or bar",
        )
    return usual, ()


def _unquoted(path: Path, frame: pl.LazyFrame) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """A tab-separated file as it is to be read, and a note where its quotation marks are odd.

    A title that begins with a quotation mark would swallow the lines up to the next one. Where one
    value holds tabs and line breaks, or quotes do not close, and every line has as many tabs as the
    header, the marks are part of the texts.
    """
    swallowed = pl.any_horizontal(
        pl.all().str.contains("\t", literal=True) & pl.all().str.contains("\n", literal=True)
    )
    try:
        odd = frame.select(swallowed.alias("odd")).collect(engine="streaming")["odd"].arg_true()
        if not len(odd):
            return frame, ()
    except pl.exceptions.PolarsError:
        odd = pl.Series([], dtype=pl.UInt32)
    except OSError as error:
        raise _unreadable(path, error) from None
    lines = pl.scan_csv(
        path, separator="\x01", quote_char=None, has_header=False, new_columns=["line"]
    )
    tabs = pl.col("line").str.count_matches("\t", literal=True)
    try:
        counted = lines.drop_nulls().select(tabs.n_unique() == 1)
        steady = bool(counted.collect(engine="streaming").item())
    except (pl.exceptions.PolarsError, OSError):
        steady = False
    if steady:
        note = "quotation marks do not enclose its values, and are read as part of them"
        return pl.scan_csv(path, separator="\t", infer_schema=False, quote_char=None), (note,)
    if not len(odd):
        return frame, ()
    values = "1 row has a value" if len(odd) == 1 else f"{len(odd):,} rows have a value"
    note = f"{values} of several lines with tabs in quotation marks, first row {odd[0] + 1:,}"
    return frame, (note,)


def _table(
    path: Path,
    frame: pl.LazyFrame,
    *,
    as_text: bool,
    notes: tuple[str, ...] = (),
    delimiter: str | None = None,
) -> Table:
    try:
        names = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error, delimiter) from None
    padded = {name: name.strip() for name in names if name != name.strip()}
    frame = frame.rename(padded) if padded else frame
    columns = tuple(padded.get(n, n) for n in names)
    return Table(path, columns, notes, as_text, frame, delimiter)


def _unreadable(path: Path, error: Exception, delimiter: str | None = None) -> DataError:
    found = None if delimiter is None else _broken_row(path, delimiter)
    if found is not None:
        what, hint = found
        return DataError(f"cannot be read: {what}", where=str(path), hint=hint)
    first = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return DataError(
        f"cannot be read: {first.rstrip('.')}",
        where=str(path),
        hint="The file may be cut off, of another encoding, or have rows of unequal length",
    )


def _broken_row(path: Path, delimiter: str) -> tuple[str, str] | None:
    """What is wrong with the first row that is no row, and what to do; None where all are fine."""
    compression = _COMPRESSED.get(path.suffix.lower())
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
            rows = csv.reader(text, delimiter=delimiter, strict=True)
            n, width = 0, len(next(rows))
            while True:
                n += 1
                try:
                    row = next(rows)
                except csv.Error:
                    return (
                        f"a quotation mark in row {n:,} does not enclose a value",
                        'Write "" for a mark within a value in quotation marks',
                    )
                if len(row) > width:
                    return (
                        f"row {n:,} has {len(row)} values, and the header {width}",
                        "Put a value that holds the delimiter in quotation marks",
                    )
    except (csv.Error, OSError, StopIteration, pa.ArrowException):
        return None
