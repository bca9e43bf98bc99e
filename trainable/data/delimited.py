"""Read .csv and .tsv: each cell is the text that stands there, and each row has every column."""

from __future__ import annotations

import csv
from pathlib import Path

from trainable.data.columns import ColumnBuilder, Places
from trainable.data.file_checks import FileProblems
from trainable.data.tables import Table, check_header
from trainable.data.text_files import MAX_LINE_MIB, is_text


def read_csv(path: Path, found: FileProblems) -> Table | None:
    """Read a file whose cells are separated by commas; problems are noted in `found`."""
    return _read(path, ",", found)


def read_tsv(path: Path, found: FileProblems) -> Table | None:
    """Read a file whose cells are separated by tabs; problems are noted in `found`."""
    return _read(path, "\t", found)


def _read(path: Path, delimiter: str, found: FileProblems) -> Table | None:
    if not is_text(path, "any", found):
        return None
    # Without a limit, a quote that is never closed would make one cell of the rest of the file.
    csv.field_size_limit(MAX_LINE_MIB << 20)
    builder: ColumnBuilder | None = None
    header: list[str] = []
    start = 1  # the line where the row begins; a quoted cell may hold line ends
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                line, start = start, reader.line_num + 1
                if not cells:
                    continue  # a blank line
                if builder is None:
                    header, builder = cells, ColumnBuilder(len(cells))
                    if not check_header(header, f"line {line}", found):
                        return None
                elif len(cells) != len(header):
                    found.add(f"line {line}", f"has {len(cells)} columns where the header has {len(header)}")
                else:
                    builder.add(line, cells)
        except csv.Error as error:
            found.add(f"line {start}", _csv_problem(str(error)))
    if builder is None:
        return Table(path, {}, Places("line", []))
    return Table(path, dict(zip(header, builder.columns(), strict=True)), Places("line", builder.numbers))


def _csv_problem(error: str) -> str:
    hint = '; a quote inside a cell is doubled ("") and the cell quoted'
    if "field larger" in error:
        return f"a cell is longer than {MAX_LINE_MIB} MiB{hint}"
    return f"{error}{hint if 'expected after' in error or 'EOF' in error else ''}"
