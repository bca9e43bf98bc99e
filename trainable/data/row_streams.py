"""Tables of any length, read and written in pieces: the memory does not grow with the file."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trainable.data.delimiters import DelimitedRows, find_layout
from trainable.data.file_checks import FileProblems, not_a_file
from trainable.data.json_files import line_rows
from trainable.data.text_files import is_text
from trainable.data.unpacking import UTF_8
from trainable.errors import UserError, listed, shown

Row = dict[str, Any]
T = TypeVar("T")

STREAMED = (".csv", ".tsv", ".jsonl", ".parquet")
DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class RowStream:
    """A table that is read row by row."""

    columns: tuple[str, ...]
    """Its columns; of .jsonl those of the first row."""
    rows: Iterator[tuple[str, Row]]
    """Each row with its place, like "line 7". Reading on raises UserError where the file is wrong."""
    schema: Any = None
    """Arrow's types of the columns, where the file has types."""


def suffix_of_stream(path: Path, flag: str) -> str:
    """The file's ending in small letters.

    Raises:
        UserError: It is none that is read and written in pieces.
    """
    suffix = path.suffix.lower()
    if suffix not in STREAMED:
        raise UserError([f"{flag} {path}: must end in one of {', '.join(STREAMED)}"])
    return suffix


@contextlib.contextmanager
def row_stream(path: Path, flag: str, encoding: str = UTF_8) -> Iterator[RowStream]:
    """Open a file for reading its rows.

    Args:
        path: A file of one of STREAMED.
        flag: What the user gave it with, for messages.
        encoding: Of .csv, .tsv and .jsonl.

    Raises:
        UserError: It can't be read, or is not what its ending says.
    """
    suffix = suffix_of_stream(path, flag)
    try:
        if wrong := not_a_file(path):
            raise UserError([f"{flag} {path}: {wrong}"])
        if path.stat().st_size == 0:
            raise UserError([f"{flag} {path}: is empty"])
        if suffix == ".parquet":
            yield _parquet(path)
        else:
            with _in_utf_8(path, encoding) as text:
                found = FileProblems(path)
                if not is_text(text, "any", found):
                    raise UserError(found.take())
                yield _delimited(text, path, DELIMITERS[suffix]) if suffix in DELIMITERS else _json_lines(text, path)
    except OSError as error:
        raise UserError([f"{flag} {path}: can't be read: {error.strerror or error}"]) from error


@contextlib.contextmanager
def _in_utf_8(path: Path, encoding: str) -> Iterator[Path]:
    """The file itself, or a copy in UTF-8 for as long as the context lasts."""
    if encoding == UTF_8:
        yield path
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ft-data-") as folder:
        copy = Path(folder, path.name)
        try:
            with path.open(encoding=encoding, newline="") as there, copy.open("w", encoding=UTF_8, newline="") as here:
                while block := there.read(1 << 20):
                    here.write(block)
        except UnicodeError as error:
            raise UserError([f"{path}: is not {encoding}: {getattr(error, 'reason', error)}"]) from error
        yield copy


def _delimited(text: Path, path: Path, expected: str) -> RowStream:
    lines = _cells(text, path, expected)
    _, header = next(lines)
    columns = tuple(name.strip() for name in header)
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise UserError([f"{path}: two columns are called {shown(twice)}"])

    def rows() -> Iterator[tuple[str, Row]]:
        for line, cells in lines:
            if len(cells) != len(columns):
                there = f"{len(cells)} columns where the header has {len(columns)}"
                raise UserError([f"{path}, line {line}: has {there}"])
            yield f"line {line}", dict(zip(columns, cells, strict=True))

    return RowStream(columns, rows())


def _cells(text: Path, path: Path, expected: str) -> Iterator[tuple[int, list[str]]]:
    with text.open(encoding="utf-8-sig", newline="") as file:
        rows = DelimitedRows(file, find_layout(text, expected))
        try:
            yield from rows
        except csv.Error as error:
            raise UserError([f"{path}, line {rows.line}: {error}"]) from error


def _json_lines(text: Path, path: Path) -> RowStream:
    def rows() -> Iterator[tuple[str, Row]]:
        found = FileProblems(path)
        for number, row in line_rows(text, found):
            if problems := found.take():
                raise UserError(problems)
            yield f"line {number}", row
        if problems := found.take():
            raise UserError(problems)

    whole = rows()
    first = next(whole, None)
    if first is None:
        raise UserError([f"{path}: has no rows"])

    def again() -> Iterator[tuple[str, Row]]:
        yield first
        yield from whole

    return RowStream(tuple(first[1]), again())


def _parquet(path: Path) -> RowStream:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise UserError([f"{path}: is no parquet file: {str(error).splitlines()[0]}"]) from error

    def rows() -> Iterator[tuple[str, Row]]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
        except pyarrow.ArrowException as error:
            raise UserError([f"{path}: is damaged: {str(error).splitlines()[0]}"]) from error

    return RowStream(tuple(file.schema_arrow.names), rows(), file.schema_arrow)


def pieces(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` rows each; the last one may be shorter."""
    while piece := list(islice(rows, size)):
        yield piece


# Writing


class RowWriter(Protocol):
    """Takes rows, piece by piece."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows. Raises UserError where the format can't hold them."""

    def close(self) -> None:
        """End the file."""


class _Delimited:
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, columns
        self._file = path.open("w", encoding=UTF_8, newline="")
        delimiter = DELIMITERS[path.suffix.lower()]
        self._csv = csv.writer(self._file, delimiter=delimiter, lineterminator="\n")
        self._csv.writerow(columns)

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if more := row.keys() - set(self._columns):
                raise UserError(
                    [f"{self._path.suffix} has the columns of the first row; another has {listed([*more])}"]
                )
            self._csv.writerow([_cell(row.get(name)) for name in self._columns])

    def close(self) -> None:
        self._file.close()


def _cell(value: Any) -> Any:
    """A cell of a text file: a list or an object is written as JSON, and a missing value as nothing."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding=UTF_8, newline="\n")

    def write(self, rows: Sequence[Row]) -> None:
        self._file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, columns: Sequence[str], schema: Any, added: Any) -> None:
        import pyarrow

        self._path, self._columns, self._added = path, columns, added
        self._schema = schema if schema is None else pyarrow.schema([*schema, *added])
        self._writer: Any = None

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows; the first ones have the types of columns that the file they come from has none for."""
        import pyarrow
        from pyarrow import parquet

        by_column = {name: [row.get(name) for row in rows] for name in self._columns}
        try:
            if self._schema is None:  # of a file without types, the first rows have them
                typed = {field.name for field in self._added}
                fields = [pyarrow.field(n, pyarrow.array(v).type) for n, v in by_column.items() if n not in typed]
                self._schema = pyarrow.schema([*fields, *self._added])
            table = pyarrow.table(by_column, schema=self._schema)
        except pyarrow.ArrowException as error:
            raise UserError([f"parquet can't hold these rows: {str(error).splitlines()[0]}; write .jsonl"]) from error
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, self._schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def row_writer(path: Path, stream: RowStream, added: Sequence[tuple[str, type]]) -> RowWriter:
    """Make a file for the rows of a stream and further columns.

    Args:
        path: The new file, of one of STREAMED.
        stream: The rows that will be written.
        added: The further columns, each with `str` or `float`.
    """
    columns = [*stream.columns, *(name for name, _ in added)]
    suffix = path.suffix.lower()
    if suffix in DELIMITERS:
        return _Delimited(path, columns)
    if suffix == ".jsonl":
        return _JsonLines(path)
    import pyarrow

    types: dict[type, Callable[[], Any]] = {str: pyarrow.string, float: pyarrow.float64}
    return _Parquet(path, columns, stream.schema, [pyarrow.field(name, types[kind]()) for name, kind in added])
