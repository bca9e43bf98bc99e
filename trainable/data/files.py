"""Read tables strictly: what a file says is what comes out, or an error names the file and the line.

The usual readers shift ragged rows, turn the texts "NA" and "null" into nothing, and labels into floats, in
silence. Here a cell of a text file is text, as it stands; every row has every column; nothing is guessed.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainable.data.columns import CHUNK_BYTES, Column, Places, Rows
from trainable.errors import shown

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")
MAX_PROBLEMS_PER_FILE = 10
MAX_LINE_MIB = 32  # a longer line of JSON could take half a GB of memory
MAX_COLUMNS = 10_000
_BLOCK = 1 << 20
_JSON_WORDS: dict[type, str] = {
    dict: "an object", list: "an array", str: "a string", int: "a number", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip
_MAGIC = {
    b"PAR1": "a parquet file", b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive", b"\xfd7zXZ\x00": "an xz archive", b"(\xb5/\xfd": "a zstd archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"\xd0\xcf\x11\xe0": "an old Excel file",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Columns of equal length. Cells are str in .csv and .tsv; str, int, float, bool or None in the others.

    places: for each row, "line 7" (text files) or "row 7" (parquet), counted from 1
    left_out: columns of other types (parquet has lists, images, dates), with the type in words
    """

    path: Path
    columns: dict[str, Column]
    places: Places
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.places)


class FileProblems:
    """Collects what is wrong with one file; shows the first few and counts the rest."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._shown: list[str] = []
        self._more = 0

    def add(self, place: str | None, text: str | Callable[[], str]) -> None:
        """Note a problem at a place ("line 7"), or of the whole file; what takes long to say as a function."""
        if len(self._shown) < MAX_PROBLEMS_PER_FILE:
            said = text if isinstance(text, str) else text()
            self._shown.append(f"{self.path}, {place}: {said}" if place else f"{self.path}: {said}")
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
        wrong = not_a_file(path)
        if wrong:
            found.add(None, wrong)
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


def not_a_file(path: Path) -> str:
    """Why a path is no file that can be read to its end; empty where it is one. A pipe would be waited on for ever."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        missing = "is a link to nothing" if os.path.islink(path) else "no such file"
        return missing if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
    except ValueError as error:  # a NUL in the name
        return f"can't be read: {error}"
    if stat.S_ISDIR(mode):
        return "is a folder, not a file"
    return "" if stat.S_ISREG(mode) else "is a pipe, a socket or a device, not a file"


def read_small(path: Path, max_bytes: int) -> str:
    """The text of a small file in UTF-8, with or without a byte order mark.

    Raises ValueError with what is wrong: no file, more than `max_bytes`, not UTF-8.
    """
    wrong = not_a_file(path)
    if wrong:
        raise ValueError(f"{path}: {wrong}")
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror or error}") from None
    if len(data) > max_bytes:
        raise ValueError(f"{path}: is larger than {max_bytes:,} bytes")
    name = _utf16(data)
    if name:
        raise ValueError(f"{path}: is {name}, not UTF-8; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: is not UTF-8 (byte 0x{data[error.start]:02x})") from None


def _utf16(start: bytes) -> str:
    """The name of another encoding of Unicode where `start` looks like it; most texts have ASCII in them."""
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    even, odd = start[0:200:2].count(0), start[1:200:2].count(0)
    pairs = len(start[:200]) // 2
    return "UTF-16" if pairs > 1 and max(even, odd) > pairs // 2 > min(even, odd) * 4 else ""


def _is_text(path: Path, found: FileProblems) -> bool:
    """Whether a file is UTF-8 without NULs in lines of bearable length; it is read in blocks, not whole."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    past = length = 0  # bytes of the file, and of the line, before this block
    for block in _blocks(path):
        name = next((name for magic, name in _MAGIC.items() if block.startswith(magic)), None)
        other = _utf16(block)
        if not past and (name or other):
            found.add(
                None, f"ends in {path.suffix} but is {name}" if name else f"is {other}, not UTF-8; save it as UTF-8"
            )
            return False
        if 0 in block:
            found.add(_line_at(path, past + block.index(0)), "holds a NUL character")
            return False
        held = len(decoder.getstate()[0])
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            bad = f"is not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as UTF-8"
            found.add(_line_at(path, past - held + error.start), bad)
            return False
        pieces = (block if path.suffix == ".jsonl" else block.replace(b"\r", b"\n")).split(b"\n")
        longest = max(length + len(pieces[0]), *map(len, pieces))
        if longest > MAX_LINE_MIB << 20:
            found.add(_line_at(path, past), f"is longer than {MAX_LINE_MIB} MiB")
            return False
        length = len(pieces[-1]) + (length if len(pieces) == 1 else 0)
        past += len(block)
    return True


def _blocks(path: Path) -> Iterator[bytes]:
    """The blocks of a file, an empty one last."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
    yield b""


def _line_at(path: Path, offset: int) -> str:
    """The place of a byte, as an editor counts lines; those of JSON end with LF alone."""
    line, last = 1, b""
    for block in _blocks(path):
        before, offset = block[:offset], offset - len(block)
        line += before.count(b"\n")
        if path.suffix != ".jsonl":
            line += before.count(b"\r") - (last + before).count(b"\r\n")
        last = before[-1:]
        if offset <= 0:
            break
    return f"line {line}"


def _read_delimited(path: Path, found: FileProblems, delimiter: str) -> Table | None:
    if not _is_text(path, found):
        return None
    # A quote that is never closed would take the rest of the file for one cell.
    csv.field_size_limit(MAX_LINE_MIB << 20)
    rows: Rows | None = None
    header: list[str] = []
    start = 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                line, start = start, reader.line_num + 1
                if rows is None and cells:
                    header, rows = cells, Rows(len(cells))
                    if not _check_header(header, f"line {line}", found):
                        return None
                elif rows is None or not cells:
                    continue  # a wholly blank line
                elif len(cells) != len(header):
                    found.add(f"line {line}", f"has {len(cells)} columns where the header has {len(header)}")
                else:
                    rows.add(line, cells)
        except csv.Error as error:
            found.add(f"line {start}", _csv_problem(str(error)))
    if rows is None:
        return Table(path, {}, Places("line", []))
    return Table(path, dict(zip(header, rows.columns(), strict=True)), Places("line", rows.numbers))


def _csv_problem(error: str) -> str:
    hint = '; a quote inside a cell is doubled ("") and the cell quoted'
    if "field larger" in error:
        return f"a cell is longer than {MAX_LINE_MIB} MiB{hint}"
    return f"{error}{hint if 'expected after' in error or 'EOF' in error else ''}"


def _check_header(header: Sequence[str], place: str | None, found: FileProblems) -> bool:
    """Whether the names can be those of columns; what is wrong is noted."""
    if len(header) > MAX_COLUMNS:
        found.add(place, f"has {len(header)} columns; {MAX_COLUMNS} at most can be read")
        return False
    before: set[str] = set()
    for i, name in enumerate(header):
        if not name.strip():
            found.add(place, f"column {i + 1} has no name")
        elif name in before:
            found.add(place, f"column {shown(name)} stands twice")
        elif not is_unicode(name):
            found.add(place, f"column {shown(name)} holds half a surrogate pair")
        before.add(name)
    return True


def _read_csv(path: Path, found: FileProblems) -> Table | None:
    return _read_delimited(path, found, ",")


def _read_tsv(path: Path, found: FileProblems) -> Table | None:
    return _read_delimited(path, found, "\t")


def _read_jsonl(path: Path, found: FileProblems) -> Table | None:
    if not _is_text(path, found):
        return None
    names: list[str] = []
    known: frozenset[str] = frozenset()
    first = ""
    rows: Rows | None = None
    # Python's other ways to cut lines would also cut at U+2028 or a lone CR.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip(" \t\r\n"):
                continue
            place = f"line {number}"
            row = _json_row(line, place, found)
            if row is None:
                continue
            if rows is None:
                names, known, first, rows = list(row), frozenset(row), place, Rows(len(row))
                if any(not is_unicode(name) for name in names) or len(names) > MAX_COLUMNS:
                    _check_header(names, place, found)
                    return None
            if row.keys() != known:
                missing, extra = sorted(known - row.keys()), sorted(row.keys() - known)
                unlike = [f"has no {shown(n)}" for n in missing] + [f"has {shown(n)}, {first} not" for n in extra]
                found.add(place, "; ".join(unlike[:20]))
                continue
            rows.add(number, [_cell(row[name]) for name in names])
    if rows is None:
        return Table(path, {}, Places("line", []))
    return Table(path, dict(zip(names, rows.columns(), strict=True)), Places("line", rows.numbers))


def _json_row(line: str, place: str, found: FileProblems) -> dict[str, Any] | None:
    try:
        row = json.loads(line, object_pairs_hook=unique_keys, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        found.add(place, "is nested too deeply")
        return None
    except ValueError as error:
        found.add(place, f"is not JSON: {error}")
        return None
    if not isinstance(row, dict):
        found.add(place, f"holds {_JSON_WORDS[type(row)]}, not an object; .jsonl has one object a line")
        return None
    return row


class _Nested:
    """Stands for an array or an object in a cell, which no column that is used can hold."""

    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return self._word


_NESTED = {kind: _Nested(_JSON_WORDS[kind]) for kind in (list, dict)}


def _cell(value: Any) -> Any:
    return _NESTED.get(type(value), value)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json's object_pairs_hook: a key that stands twice is an error, where json keeps the last in silence."""
    row = dict(pairs)
    if len(row) != len(pairs):
        before: set[str] = set()
        for name, _ in pairs:
            if name in before:
                raise ValueError(f"key {shown(name)} stands twice")
            before.add(name)
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


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{shown(text)} is too large")
    return number


def _read_parquet(path: Path, found: FileProblems) -> Table | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            found.add(None, "ends in .parquet but is not a parquet file")
            return None
    try:
        with pq.ParquetFile(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
            if not _check_header(schema.names, None, found) or found.take():
                return None
            kinds = dict(zip(schema.names, schema.types, strict=True))
        wanted = [name for name, kind in kinds.items() if _is_plain(kind)]
        # What a column's own metadata say is not asked for: pyarrow ends the process where they are damaged.
        groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
        if not _is_bearable(sum(groups) + metadata.num_rows * len(wanted) * _CELL_BYTES, path, found):
            return None
        # A dictionary's entry can stand in every row. In small groups texts stay with their dictionaries until it is
        # known how long they are together; in large ones that takes too much memory, and rows come a few at a time.
        is_small = max(groups, default=0) <= _SMALL_GROUP_BYTES
        texts = [name for name in wanted if is_small and not _is_number(kinds[name])]
        rows = 8192 if is_small else 64
        with pq.ParquetFile(path, read_dictionary=texts, buffer_size=_BLOCK, page_checksum_verification=True) as file:
            columns: dict[str, list[Any]] = {name: [] for name in wanted}
            for piece in _pieces(file, wanted, rows, path, found):
                for name in wanted:
                    columns[name].append(piece[name])
            count = metadata.num_rows
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:  # the last of a column's name
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        found.add(None, f"is damaged: {reason}")
        return None
    if not found.take() and any(sum(map(len, chunks)) != count for chunks in columns.values()):
        found.add(None, f"is damaged: it says that it has {count} rows, but has others")
    if found.take():
        return None
    return _checked(path, columns, count, {n: str(kind) for n, kind in kinds.items() if n not in columns}, found)


def _pieces(file: Any, wanted: Sequence[str], rows: int, path: Path, found: FileProblems) -> Iterator[dict[str, Any]]:
    """The columns in pieces of some MB, until they take more memory than is bearable."""
    import pyarrow as pa

    if not wanted:
        return
    waiting: dict[str, list[Any]] = {name: [] for name in wanted}
    size = taken = 0
    for batch in file.iter_batches(batch_size=rows, columns=wanted, use_threads=False):
        for name, chunks in waiting.items():
            chunk = batch.column(batch.schema.get_field_index(name))
            size += _decoded_bytes(chunk)
            if not _is_bearable(taken + size, path, found):
                return
            chunks.append(_decoded(chunk))
        if size > CHUNK_BYTES:
            yield {name: pa.concat_arrays(chunks) for name, chunks in waiting.items()}
            waiting = {name: [] for name in wanted}
            taken, size = taken + size, 0
    if size:
        yield {name: pa.concat_arrays(chunks) for name, chunks in waiting.items()}


# The program's own memory together with this must stay below twice the file's size and 1 GB.
_SMALL_GROUP_BYTES = 64_000_000
_SPARE_BYTES = 400_000_000
_CELL_BYTES = 24  # what a cell takes later, however short it is


def _is_bearable(size: int, path: Path, found: FileProblems) -> bool:
    on_disk = path.stat().st_size
    limit = int(1.5 * on_disk) + _SPARE_BYTES
    if size <= limit:
        return True
    found.add(
        None,
        f"its {on_disk:,} bytes would take {size:,} bytes or more of memory, which is above {limit:,}; "
        "save it with less compression, or in parts",
    )
    return False


def _decoded_bytes(piece: Any) -> int:
    """What a piece takes once its dictionary is gone: a text of 1 MB that stands in all rows takes 1 MB in each."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    spare = len(piece) * _CELL_BYTES
    if not types.is_dictionary(piece.type) or not _is_text_type(piece.type.value_type):
        return int(piece.nbytes) + spare
    lengths = pc.binary_length(piece.dictionary).take(piece.indices)
    return int(pc.sum(lengths).as_py() or 0) + spare


def _decoded(piece: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as types

    if not types.is_dictionary(piece.type):
        return piece
    kind = piece.type.value_type
    if not _is_text_type(kind):
        return piece.cast(kind)
    return piece.dictionary.cast(pa.large_string()).take(piece.indices)


def _is_text_type(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind))


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return _is_text_type(inner) or _is_number(inner)


def table_from_arrow(table: Any, path: Path, found: FileProblems) -> Table | None:
    """An Arrow table's columns; those of other types than text and numbers are left out."""
    if not _check_header(list(table.column_names), None, found):
        return None
    columns: dict[str, list[Any]] = {}
    left_out: dict[str, str] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if _is_plain(column.type):
            columns[name] = column.chunks
        else:
            left_out[name] = str(column.type)
    return _checked(path, columns, table.num_rows, left_out, found)


def _checked(
    path: Path, columns: dict[str, list[Any]], count: int, left_out: dict[str, str], found: FileProblems
) -> Table:
    """The table, its texts checked: parquet's writers do not look whether a text is UTF-8."""
    import pyarrow as pa

    for name, chunks in columns.items():
        number = 0
        for chunk in chunks:
            try:
                chunk.validate(full=True)
            except pa.ArrowInvalid:
                for i, cell in enumerate(chunk, number + 1):
                    try:
                        cell.as_py()
                    except UnicodeDecodeError as error:
                        bad = error.object[error.start]
                        found.add(f"row {i}", f"column {shown(name)} is not UTF-8 (byte 0x{bad:02x})")
            number += len(chunk)
    made = {name: Column(chunks) for name, chunks in columns.items()}
    return Table(path, made, Places("row", range(1, count + 1)), left_out)


_READERS: dict[str, Callable[[Path, FileProblems], Table | None]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
}
