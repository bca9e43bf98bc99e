"""Find out how a file's cells are separated and quoted, from its header and its rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from trainable.data.text_files import MAX_LINE_MIB

NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe"}
_SAMPLE_ROWS = 200
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Layout:
    """How cells are written."""

    delimiter: str
    expected: str
    """The delimiter that the file's ending says."""
    is_quoted: bool = True
    """Whether a cell may stand in quotes. If not, a quote is a letter like any other."""
    blank_behind: bool = False
    """Whether a blank stands behind each delimiter, which is no part of the cell."""
    says_delimiter: bool = False
    """Whether the first line is `sep=;`, as spreadsheet programs write it."""

    def notes(self, path: Path | str) -> list[str]:
        """What is unlike what the file's ending says."""
        notes = []
        if self.delimiter != self.expected:
            notes.append(f"{path}: cells are separated by {NAMES[self.delimiter]}s, not by {NAMES[self.expected]}s")
        if self.blank_behind:
            notes.append(f"{path}: the blank behind each {NAMES[self.delimiter]} is left out, in the header too")
        return notes


def find_layout(path: Path, expected: str) -> Layout:
    """Find the layout of a text file whose ending says that `expected` separates its cells."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = list(islice(_lines(file), _SAMPLE_ROWS))
    said = re.fullmatch(r'"?sep=(.)"?', start[0].strip("\r\n")) if start else None
    if said is not None and said[1] in NAMES:
        layout = Layout(said[1], expected, says_delimiter=True)
        start = start[1:]
    else:
        layout = Layout(_delimiter(start, expected), expected)
    if layout.delimiter == "\t":
        layout = replace(layout, is_quoted=_is_quoted(path, layout))
    sample = _parsed(start, layout)
    behind = [cells[1:] for cells in sample if len(cells) > 1]
    return replace(layout, blank_behind=bool(behind) and all(cell[:1] == " " for cells in behind for cell in cells))


class DelimitedRows:
    """The rows of a file, each with the line where it begins. Blank lines are no rows.

    Iterating raises csv.Error where a row can't be read; `line` is where it begins.
    """

    def __init__(self, lines: Iterable[str], layout: Layout) -> None:
        # Without a limit, a quote that is never closed would make one cell of the rest of the file.
        csv.field_size_limit(MAX_LINE_MIB << 20)
        self._reader = csv.reader(
            lines,
            delimiter=layout.delimiter,
            strict=True,
            quoting=csv.QUOTE_MINIMAL if layout.is_quoted else csv.QUOTE_NONE,
            skipinitialspace=layout.blank_behind,
        )
        self._skip_first = layout.says_delimiter
        self.line = 1

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for cells in self._reader:
            line, self.line = self.line, self._reader.line_num + 1  # a quoted cell may hold line ends
            if self._skip_first:
                self._skip_first = False
            elif cells:
                yield line, cells


def _lines(file: Iterable[str]) -> Iterator[str]:
    """The lines that are not blank. A file opened with newline="" ends them at CR, LF and CRLF."""
    return (line for line in file if line.strip("\r\n"))


def _parsed(lines: Iterable[str], layout: Layout) -> list[list[str]]:
    """Rows of a sample. The last one may be cut off; where another one can't be read, there are none."""
    rows = []
    try:
        for _, cells in DelimitedRows(lines, replace(layout, says_delimiter=False)):
            rows.append(cells)
    except csv.Error as error:
        return rows if "unexpected end" in str(error) else []
    return rows


def _delimiter(start: list[str], expected: str) -> str:
    """The delimiter by which the header has two columns or more and most rows as many."""
    best, best_share = expected, 0.0
    for delimiter in (expected, *(other for other in NAMES if other != expected)):
        rows = _parsed(start, Layout(delimiter, expected, is_quoted=delimiter != "\t"))
        if rows and len(rows[0]) > 1:
            share = sum(len(cells) == len(rows[0]) for cells in rows) / len(rows)
            if share > best_share:
                best, best_share = delimiter, share
    return best


def _is_quoted(path: Path, layout: Layout) -> bool:
    """Whether quotes of a file with tabs are quotes. They are letters, unless the file shows otherwise.

    It does where it can be read only with quotes, where the cells of a whole column stand in quotes, or where cells
    in quotes hold doubled quotes.
    """
    as_letters = replace(layout, is_quoted=False)
    quoted: dict[int, int] = {}
    count = width = 0
    fits, doubled, any_quote = True, False, False
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for _, cells in DelimitedRows(file, as_letters):
                width = width or len(cells)
                count += 1
                fits = fits and len(cells) == width
                for i, cell in enumerate(cells):
                    if '"' in cell:
                        any_quote = True
                        if _QUOTED.fullmatch(cell):
                            quoted[i] = quoted.get(i, 0) + (count > 1)
                            doubled = doubled or '""' in cell[1:-1]
        except csv.Error:
            fits = False
    if not any_quote or not _is_readable(path, replace(layout, is_quoted=True)):
        return False
    whole_column = any(number == count - 1 > 0 for number in quoted.values())
    return not fits or doubled or whole_column


def _is_readable(path: Path, layout: Layout) -> bool:
    """Whether each row of a file has as many columns as the header."""
    width = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for _, cells in DelimitedRows(file, layout):
                width = width or len(cells)
                if len(cells) != width:
                    return False
        except csv.Error:
            return False
    return True
