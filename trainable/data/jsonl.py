"""Read .jsonl: one JSON object a line, all with the same keys."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from trainable.data.columns import ColumnBuilder, Places
from trainable.data.file_checks import FileProblems, is_unicode, unique_keys
from trainable.data.tables import MAX_COLUMNS, Table, check_header
from trainable.data.text_files import is_text
from trainable.errors import shown

_JSON_WORDS: dict[type, str] = {
    dict: "an object", list: "an array", str: "a string", int: "a number", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip


class _Nested:
    """Stands for an array or an object in a cell: no text and no label is one, so its content is not kept."""

    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return self._word


_NESTED = {kind: _Nested(_JSON_WORDS[kind]) for kind in (list, dict)}


def read_jsonl(path: Path, found: FileProblems) -> Table | None:
    """Read a file of JSON lines; problems are noted in `found`."""
    if not is_text(path, "lf", found):
        return None
    names: list[str] = []
    known: frozenset[str] = frozenset()
    first = ""  # where the first object stands, whose keys all others must have
    builder: ColumnBuilder | None = None
    # newline="\n": str.splitlines and Python's default would also end a line at U+2028 or at a lone CR.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip(" \t\r\n"):
                continue
            place = f"line {number}"
            row = _parse(line, place, found)
            if row is None:
                continue
            if builder is None:
                names, known, first, builder = list(row), frozenset(row), place, ColumnBuilder(len(row))
                if any(not is_unicode(name) for name in names) or len(names) > MAX_COLUMNS:
                    check_header(names, place, found)
                    return None
            if row.keys() != known:
                missing, extra = sorted(known - row.keys()), sorted(row.keys() - known)
                unlike = [f"has no {shown(n)}" for n in missing] + [f"has {shown(n)}, {first} not" for n in extra]
                found.add(place, "; ".join(unlike[:20]))
                continue
            builder.add(number, [_NESTED.get(type(row[name]), row[name]) for name in names])
    if builder is None:
        return Table(path, {}, Places("line", []))
    return Table(path, dict(zip(names, builder.columns(), strict=True)), Places("line", builder.numbers))


def _parse(line: str, place: str, found: FileProblems) -> dict[str, Any] | None:
    """The object on a line, or None and a note of what the line is instead."""
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


def _no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python's json takes although JSON has no such values."""
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{shown(text)} is too large")
    return number
