"""Read .csv and .tsv: each cell is the text that stands there, and each row has every column."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from trainable.data.column_choice import TEXT_NAMES
from trainable.data.columns import Column, ColumnBuilder, Places
from trainable.data.delimiters import NAMES, DelimitedRows, Layout, find_layout
from trainable.data.file_checks import FileProblems
from trainable.data.tables import MAX_COLUMNS, Table, check_header, nameless_notes
from trainable.data.text_files import MAX_LINE_MIB, is_text
from trainable.errors import listed, shown

_MAX_LINES_SHOWN = 8


def read_csv(path: Path, found: FileProblems, column_names: Sequence[str] | None = None) -> Table | None:
    """Read a file whose cells are separated by commas.

    Args:
        path: The file.
        found: Problems are noted here.
        column_names: Of a file without a header; None means that its first row is the header.
    """
    return _read(path, ",", found, column_names)


def read_tsv(path: Path, found: FileProblems, column_names: Sequence[str] | None = None) -> Table | None:
    """Read a file whose cells are separated by tabs; otherwise as `read_csv`."""
    return _read(path, "\t", found, column_names)


def _read(path: Path, expected: str, found: FileProblems, column_names: Sequence[str] | None) -> Table | None:
    if not is_text(path, "any", found):
        return None
    layout = find_layout(path, expected)
    header = list(column_names or [])
    builder = ColumnBuilder(len(header)) if column_names is not None else None
    header_line = 1
    ragged = _RaggedLines()
    blank_rows = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = DelimitedRows(file, layout)
        try:
            for line, cells in rows:
                if builder is not None and not any(cell.strip() for cell in cells):
                    blank_rows += 1
                    continue
                if line == 1 and [cell.strip() for cell in cells] == header:
                    continue  # it is named as the user says, by a header
                if builder is None:
                    header, header_line, builder = cells, line, ColumnBuilder(len(cells))
                    if len(header) > MAX_COLUMNS:
                        check_header(header, f"line {line}", found)
                        return None
                elif (fitted := ragged.fit(line, cells, len(header))) is not None:
                    builder.add(line, fitted)
        except csv.Error as error:
            found.add(f"line {rows.line}", _csv_problem(str(error)))
    if builder is None:
        return Table(path, {}, Places("line", []))
    ragged.tell(len(header), layout, found, "--column-names" if column_names is not None else "the header")
    columns = dict(enumerate(builder.columns()))
    label = _repeated(header, columns) if column_names is None else None
    if label is None:
        check_header([name.strip() for name in header], f"line {header_line}", found)
    else:
        found.add(f"line {header_line}", _no_header(header, columns, label))
    notes = [f"{found.path}: rows that hold nothing are left out: {blank_rows}"] if blank_rows else []
    notes += [*layout.notes(found.path), *ragged.notes(found.path, layout), *nameless_notes(header, found.path)]
    if blank := [shown(name) for name in header if name.strip() and name != name.strip()]:
        notes.append(f"{found.path}: the blanks around the column names {listed(blank)} are left out")
    named = {name.strip(): columns[i] for i, name in enumerate(header) if name.strip()}
    return Table(path, named, Places("line", builder.numbers), notes=tuple(notes))


class _RaggedLines:
    """DelimitedRows that are longer or shorter than the header, told together: one cause makes most of them."""

    def __init__(self) -> None:
        self._lines: dict[str, list[int]] = {"more": [], "fewer": []}
        self._counts: dict[str, set[int]] = {"more": set(), "fewer": set()}
        self._ends_in_delimiter = 0

    def fit(self, line: int, cells: list[str], width: int) -> list[str] | None:
        """The cells of a row, without empty ones behind the last column; None if it does not fit the header."""
        if len(cells) > width and not any(cells[width:]):
            self._ends_in_delimiter += 1
            return cells[:width]
        if len(cells) == width:
            return cells
        which = "more" if len(cells) > width else "fewer"
        self._lines[which].append(line)
        self._counts[which].add(len(cells))
        return None

    def tell(self, width: int, layout: Layout, found: FileProblems, header: str) -> None:
        """Note the rows that do not fit what `header` says, with the likely reason."""
        name = NAMES[layout.delimiter]
        fix = "must stand in quotes" if layout.is_quoted else "must stand in quotes, and all texts with quotes too"
        reasons = {
            "more": f"a text with a {name} in it {fix}",
            "fewer": "each row must have every column, and a text with a line end in it must stand in quotes",
        }
        for which, lines in self._lines.items():
            if lines:
                counts = " or ".join(map(str, sorted(self._counts[which])[:3]))
                there = f"{counts} column{'' if counts == '1' else 's'} where {header} has {width}"
                has = "has" if len(lines) == 1 else "have"
                found.add(_lines(lines), f"{has} {there}; {reasons[which]}")

    def notes(self, path: Path | str, layout: Layout) -> list[str]:
        """What was left out of rows that fit."""
        if not self._ends_in_delimiter:
            return []
        return [f"{path}: {self._ends_in_delimiter} lines end in a {NAMES[layout.delimiter]} more, which is left out"]


def _lines(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    more = f" and {len(numbers) - _MAX_LINES_SHOWN} more" if len(numbers) > _MAX_LINES_SHOWN else ""
    return f"lines {', '.join(map(str, numbers[:_MAX_LINES_SHOWN]))}{more}"


def _repeated(header: list[str], columns: dict[int, Column]) -> int | None:
    """The first column whose name also stands below it as one of a few values: the header is more likely a row.

    Unless another column is called like a text, as in message,spam above rows of spam.
    """
    repeated = []
    for i, name in enumerate(header):
        if any(other.strip().lower() in TEXT_NAMES for other in header[:i] + header[i + 1 :]):
            continue
        cells = columns[i][:1000]
        distinct = set(cells)
        if name.strip() and name in distinct and 2 * len(distinct) <= len(cells):
            repeated.append((len(distinct) == 1, i))  # a column of one value is no label
    return min(repeated)[1] if repeated else None


def _no_header(header: list[str], columns: dict[int, Column], label: int) -> str:
    """Tell that the file has no header, with the flag that names its columns."""
    text = max((i for i in columns if i != label), key=lambda i: sum(map(len, columns[i][:100])), default=label)
    names = [f"column{i + 1}" for i in columns]
    names[text], names[label] = "text", "label"
    row = shown(",".join(header)[:80])
    how = f"say what its columns are: --column-names {','.join(names)}"
    return f"was taken for the header, but looks like a row: {row}; if the file has no header, {how}"


def _csv_problem(error: str) -> str:
    hint = '; a quote inside a cell is doubled ("") and the cell quoted'
    if "field larger" in error:
        return f"a cell is longer than {MAX_LINE_MIB} MiB{hint}"
    return f"{error}{hint if 'expected after' in error or 'EOF' in error else ''}"
