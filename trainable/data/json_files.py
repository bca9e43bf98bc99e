"""Read .jsonl and .json: one JSON object a line, or an array of objects.

A key that some rows lack is a column with empty cells. Whether that matters is known once the columns are chosen.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainable.data.columns import Places, RecordBuilder
from trainable.data.file_checks import FileProblems, unique_keys
from trainable.data.tables import MAX_COLUMNS, Table, check_header, nameless_notes
from trainable.data.text_files import MAX_LINE_MIB, is_text
from trainable.errors import listed, shown

MAX_LIST_CELLS = 64  # a longer list is no list of labels
_BLOCK = 1 << 20
_BLANKS = re.compile(r"[ \t\r\n]*")
_JSON_WORDS: dict[type, str] = {
    dict: "an object", list: "an array", str: "a string", int: "a number", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip


class Nested:
    """Stands for an object or a long array in a cell: no text and no label is one, so its content is not kept."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return self._words


def read_json(path: Path, found: FileProblems) -> Table | None:
    """Read a file of JSON lines or of an array of objects; problems are noted in `found`."""
    if not is_text(path, "lf", found):
        return None
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        start = file.read(_BLOCK).lstrip(" \t\r\n")
    if start.startswith("[") and not _is_whole_line(start):
        rows, word = _array_rows(path, found), "row"
    elif _is_one_object(path, start):
        _tell_one_object(path, found)
        return None
    else:
        rows, word = line_rows(path, found), "line"
    builder = RecordBuilder()
    nested: dict[str, str] = {}
    flat: set[str] = set()  # columns that have a cell of another kind
    for number, row in rows:
        cells = {name: _cell(value) for name, value in row.items()}
        builder.add(number, cells)
        for name, cell in cells.items():
            if isinstance(cell, Nested):
                nested.setdefault(name, repr(cell))
            elif cell is not None:
                flat.add(name)
        if builder.width > MAX_COLUMNS:
            found.add(f"{word} {number}", f"has a new key after {MAX_COLUMNS}; {MAX_COLUMNS} at most can be read")
            return None
    places = Places(word, builder.numbers)
    columns = builder.columns()
    if not check_header(list(columns), None, found) or found.take():
        return None
    if _is_label_studio(columns):
        found.add(None, "is an export of Label Studio in JSON; export it as CSV or TSV instead")
        return None
    left_out = {name: words for name, words in nested.items() if name not in flat}
    kept = {name: column for name, column in columns.items() if name.strip() and name not in left_out}
    return Table(path, kept, places, left_out, notes=nameless_notes(list(columns), found.path))


def _cell(value: Any) -> Any:
    """The value as a table's cell holds it: short lists of names or integers are kept, since labels may be some."""
    if isinstance(value, dict):
        names = listed([str(name) for name in list(value)[:20]])
        inner = f" with the fields {names} (pandas.json_normalize makes columns of them)" if value else ""
        return Nested(f"an object{inner}")
    if isinstance(value, list):
        plain = len(value) <= MAX_LIST_CELLS and all(isinstance(each, str | int) for each in value)
        return value if plain else Nested("an array")
    return value


def line_rows(path: Path, found: FileProblems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file that has one a line, with the lines."""
    # newline="\n": str.splitlines and Python's default would also end a line at U+2028 or at a lone CR.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip(" \t\r\n"):
                continue
            place = f"line {number}"
            try:
                row = json.loads(line, **_STRICT)
            except (RecursionError, ValueError) as error:
                found.add(place, _not_json(error))
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                found.add(place, f"holds {_JSON_WORDS[type(row)]}, not an object; {path.suffix} has one object a line")


def _array_rows(path: Path, found: FileProblems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file that is one array, numbered from 1. It is read in blocks, as a whole it may be large."""
    decoder = json.JSONDecoder(**_STRICT)
    number = 1
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        text, at, line = file.read(_BLOCK), 0, 1
        at = text.index("[") + 1
        line += text.count("\n", 0, at)
        expected = "value"  # what comes next: a value, or a comma between two
        while True:
            end = _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
            line += text.count("\n", at, end)
            at = end
            if at >= len(text) - 1 and (more := file.read(_BLOCK)):
                text, at = text[at:] + more, 0
                continue
            if text[at : at + 1] == "]" and (expected == "comma" or number == 1):
                if (text[at + 1 :] + file.read(_BLOCK)).strip(" \t\r\n"):
                    found.add(f"line {line}", "is not JSON: more stands behind the end of the array")
                return
            if expected == "comma":
                if text[at : at + 1] != ",":
                    found.add(f"line {line}", "is not JSON: no comma and no end of the array behind a row")
                    return
                at, expected = at + 1, "value"
                continue
            try:
                row, end = decoder.raw_decode(text, at)
                if end == len(text) and (more := file.read(_BLOCK)):  # a number may go on in the next block
                    text, at = text[at:] + more, 0
                    continue
            except (RecursionError, ValueError) as error:
                more = "" if isinstance(error, RecursionError) else file.read(max(_BLOCK, len(text) - at))
                if more and len(text) - at <= MAX_LINE_MIB << 20:
                    text, at = text[at:] + more, 0
                    continue
                if isinstance(error, json.JSONDecodeError):
                    line += text.count("\n", at, error.pos)
                found.add(f"row {number} (line {line})", _not_json(error))
                return
            if isinstance(row, dict):
                yield number, row
            elif isinstance(row, list) and number == 1:
                found.add(
                    None,
                    "holds arrays, which name no columns; make a table of them, and name the columns with "
                    f"--column-names: pandas.DataFrame(json.load(open({path.name!r}))).to_csv("
                    f"{path.name.partition('.')[0] + '.csv'!r}, index=False, header=False)",
                )
                return
            else:
                found.add(f"row {number} (line {line})", f"is {_JSON_WORDS[type(row)]}, not an object")
            line += text.count("\n", at, end)
            at, expected, number = end, "comma", number + 1


def _is_whole_line(start: str) -> bool:
    """Whether the first line is an array for itself: then the file has arrays for rows, which no column can name."""
    first, _, rest = start.partition("\n")
    if not rest.strip().startswith("["):
        return False
    try:
        return isinstance(json.loads(first), list)
    except (ValueError, RecursionError):
        return False


def _is_one_object(path: Path, start: str) -> bool:
    """Whether the whole file is one object that spans lines, or one that is no row."""
    if not start.startswith("{"):
        return False
    first, _, rest = start.partition("\n")
    if rest.strip(" \t\r\n"):  # there are further lines: if the first is whole, they are rows
        try:
            json.loads(first)
        except RecursionError:
            return False
        except ValueError:
            return first.rstrip().endswith(("{", "[", ","))  # an object that is written over several lines
        return False
    return bool(re.match(r'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*[\[{]', start))


def _tell_one_object(path: Path, found: FileProblems) -> None:
    """Note what a file that is one object holds, and how to make rows of it."""
    if path.stat().st_size > MAX_LINE_MIB << 20:
        found.add(None, "holds one object, not one a row")
        return
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"), **_STRICT)
    except (RecursionError, ValueError) as error:
        found.add(None, _not_json(error))
        return
    mended = f"{path.name.partition('.')[0]}.rows.jsonl"
    to_lines = f"to_json({mended!r}, orient='records', lines=True)"
    tables = [name for name, value in whole.items() if _is_rows(value)]
    name = tables[0] if tables else None
    if len(tables) > 1:
        found.add(
            None,
            f"holds one object, whose rows stand under {listed(tables[:20])}; make a file of each: [pandas.DataFrame("
            f"rows).to_json(f'{{name}}.jsonl', orient='records', lines=True) for name, rows in "
            f"json.load(open({path.name!r})).items()]",
        )
    elif _is_columns(whole):
        orient = _orient(whole)
        what = "rows by their names" if "index" in orient else "columns, not rows,"
        found.add(
            None,
            f"holds {what} as pandas' to_json writes them; make {'lines' if 'index' in orient else 'rows'} of them: "
            f"pandas.read_json({path.name!r}{orient}).{to_lines}",
        )
    elif name is not None:
        found.add(
            None,
            f"holds one object, whose rows stand under {shown(name)}; make lines of them: "
            f"pandas.DataFrame(json.load(open({path.name!r}))[{name!r}]).{to_lines}",
        )
    elif all(_is_lists(value) for value in whole.values()):
        found.add(
            None,
            f"holds one object, whose fields {listed(list(whole)[:20])} are tables without column names; make a file "
            "of each, and name the columns with --column-names: [pandas.DataFrame(rows).to_csv(f'{name}.csv', "
            f"index=False, header=False) for name, rows in json.load(open({path.name!r})).items()]",
        )
    else:
        found.add(None, f"holds one object with the fields {listed(list(whole)[:20])}, not one a row")


def _is_columns(whole: Mapping[str, Any]) -> bool:
    """Whether an object is what `DataFrame.to_json` writes: columns by name, or its orient="split"."""
    if {"columns", "data"} <= whole.keys() and isinstance(whole["data"], list):
        return True
    kinds = {type(value) for value in whole.values()}
    lengths = {len(value) for value in whole.values() if isinstance(value, dict | list)}
    return kinds in ({dict}, {list}) and len(lengths) == 1 and len(whole) > 1


def _is_lists(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, list) for row in value)


def _orient(whole: Mapping[str, Any]) -> str:
    """How `pandas.read_json` is told the way in which the object was written; empty for its default, columns."""
    if {"columns", "data"} <= whole.keys():
        return ", orient='split'"
    inner = next(iter(whole.values()))
    is_by_row = isinstance(inner, dict) and len(whole) > len(inner) and not all(key.isdigit() for key in inner)
    return ", orient='index'" if is_by_row else ""


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _is_label_studio(columns: Mapping[str, Any]) -> bool:
    return "annotations" in columns and "data" in columns


def _not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return f"is not JSON: {error}"


def _no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python's json takes although JSON has no such values."""
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{shown(text)} is too large")
    return number


_STRICT: dict[str, Any] = {
    "object_pairs_hook": unique_keys,
    "parse_constant": _no_constant,
    "parse_float": _finite,
}
