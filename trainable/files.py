"""Read tables strictly: what a file says is what comes out, or an error names the file and the line.

The usual readers shift ragged rows, turn the texts "NA" and "null" into nothing, and labels into floats, in
silence. Here a cell of a text file is text, as it stands; every row has every column; nothing is guessed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")
MAX_PROBLEMS_PER_FILE = 10
_JSON_WORDS: dict[type, str] = {
    list: "an array", str: "a string", int: "a number", float: "a number", bool: "true or false", type(None): "null",
}  # fmt: skip
_MAGIC = {b"PAR1": "a parquet file", b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive"}


@dataclass(frozen=True)
class Table:
    """Columns of equal length. Cells are str in .csv and .tsv; str, int, float, bool or None in the others.

    places: for each row, "line 7" (text files) or "row 7" (parquet), counted from 1
    left_out: columns of other types (parquet has lists, images, dates), with the type in words
    """

    path: Path
    columns: dict[str, list[Any]]
    places: list[str]
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.places)


class FileProblems:
    """Collects what is wrong with one file; shows the first few and counts the rest."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._shown: list[str] = []
        self._more = 0

    def add(self, place: str | None, text: str) -> None:
        """Note a problem at a place ("line 7"), or of the whole file."""
        if len(self._shown) < MAX_PROBLEMS_PER_FILE:
            self._shown.append(f"{self.path}, {place}: {text}" if place else f"{self.path}: {text}")
        else:
            self._more += 1

    def take(self) -> list[str]:
        """The problems, one sentence each."""
        more = f"{self.path}: {self._more} more problem{'' if self._more == 1 else 's'}"
        return [*self._shown, more] if self._more else self._shown


def read_table(path: Path, problems: list[str]) -> Table | None:
    """Read a file by its ending; on any problem append all of them to `problems` and return None."""
    found = FileProblems(path)
    table: Table | None = None
    try:
        if not path.is_file():
            found.add(None, "is a folder, not a file" if path.is_dir() else "no such file")
        elif path.suffix not in SUFFIXES:
            found.add(None, f"can't read {path.suffix or 'a file without an ending'}; known: {', '.join(SUFFIXES)}")
        elif path.stat().st_size == 0:
            found.add(None, "is empty")
        else:
            table = _READERS[path.suffix](path, found)
    except OSError as error:
        found.add(None, f"can't be read: {error.strerror or error}")
    here = found.take()
    problems += here
    if here or table is None:
        return None
    if len(table) == 0:
        problems.append(f"{path}: has a header but no rows" if table.columns else f"{path}: has no rows")
        return None
    return table


def _read_text(path: Path, found: FileProblems) -> str | None:
    data = path.read_bytes()
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            found.add(None, f"ends in {path.suffix} but is {name}")
            return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        found.add(None, "is UTF-16, not UTF-8; save it as UTF-8")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found.add(f"line {line}", f"is not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8")
        return None
    if "\x00" in text:
        found.add(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}", "holds a NUL character")
        return None
    return text


def _read_delimited(path: Path, found: FileProblems, delimiter: str) -> Table | None:
    text = _read_text(path, found)
    if text is None:
        return None
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    places: list[str] = []
    header: list[str] = []
    start = 1
    try:
        for cells in reader:
            place, start = f"line {start}", reader.line_num + 1
            if not header:
                header = cells
                _check_header(header, place, found)
            elif not cells:
                continue  # a wholly blank line
            elif len(cells) != len(header):
                found.add(place, f"has {len(cells)} columns where the header has {len(header)}")
            else:
                rows.append(cells)
                places.append(place)
    except csv.Error as error:
        hint = '; a quote inside a cell is doubled ("") and the cell quoted'
        found.add(f"line {start}", f"{error}{hint if 'expected after' in str(error) or 'EOF' in str(error) else ''}")
    columns = list(map(list, zip(*rows, strict=True))) if rows and not found.take() else [[] for _ in header]
    return Table(path, dict(zip(header, columns, strict=False)), places)


def _check_header(header: list[str], place: str | None, found: FileProblems) -> None:
    for i, name in enumerate(header):
        if not name.strip():
            found.add(place, f"column {i + 1} has no name")
        elif name in header[:i]:
            found.add(place, f"column {name!r} stands twice")


def _read_csv(path: Path, found: FileProblems) -> Table | None:
    return _read_delimited(path, found, ",")


def _read_tsv(path: Path, found: FileProblems) -> Table | None:
    return _read_delimited(path, found, "\t")


def _read_jsonl(path: Path, found: FileProblems) -> Table | None:
    text = _read_text(path, found)
    if text is None:
        return None
    columns: dict[str, list[Any]] = {}
    places: list[str] = []
    # str.splitlines would also cut at U+2028, which is legal inside JSON strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(line, object_pairs_hook=unique_keys, parse_constant=_no_constant)
        except RecursionError:
            found.add(place, "is nested too deeply")
            continue
        except ValueError as error:
            found.add(place, f"is not JSON: {error}")
            continue
        if not isinstance(row, dict):
            found.add(place, f"holds {_JSON_WORDS[type(row)]}, not an object; .jsonl has one object a line")
            continue
        if not columns and not places:
            columns = {name: [] for name in row}
        if row.keys() != columns.keys():
            missing, extra = sorted(columns.keys() - row.keys()), sorted(row.keys() - columns.keys())
            unlike = [f"has no {n!r}" for n in missing] + [f"has {n!r}, {places[0]} not" for n in extra]
            found.add(place, "; ".join(unlike))
            continue
        for name, value in row.items():
            columns[name].append(value)
        places.append(place)
    return Table(path, columns, places)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json's object_pairs_hook: a key that stands twice is an error, where json keeps the last in silence."""
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} stands twice")
    return row


def is_unicode(text: str) -> bool:
    """Whether text can be written: JSON's escapes can spell half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _read_parquet(path: Path, found: FileProblems) -> Table | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            found.add(None, "ends in .parquet but is not a parquet file")
            return None
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        found.add(None, f"is damaged: {(str(error) or type(error).__name__).splitlines()[0]}")
        return None
    return table_from_arrow(table, path, found)


def table_from_arrow(table: Any, path: Path, found: FileProblems) -> Table | None:
    """An Arrow table's columns as Python values; columns of other types than text and numbers are left out."""
    import pyarrow.types as types

    _check_header(list(table.column_names), None, found)
    plain: list[Callable[[Any], bool]] = [
        types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_boolean,
        types.is_floating,
    ]  # fmt: skip
    columns: dict[str, list[Any]] = {}
    left_out: dict[str, str] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        if any(is_kind(kind) for is_kind in plain):
            columns[name] = _cells(name, column, found)
        else:
            left_out[name] = str(column.type)
    return Table(path, columns, [f"row {i}" for i in range(1, table.num_rows + 1)], left_out)


def _cells(name: str, column: Any, found: FileProblems) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        pass  # parquet's writers do not check that text is UTF-8; the rows are found below
    for number, cell in enumerate(column, 1):
        try:
            cell.as_py()
        except UnicodeDecodeError as error:
            found.add(f"row {number}", f"column {name!r} is not UTF-8 (byte 0x{error.object[error.start]:02x})")
    return []


_READERS: dict[str, Callable[[Path, FileProblems], Table | None]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
}
