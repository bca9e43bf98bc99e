"""From Arrow's columns to a checked table: what parquet files and the hub's data sets have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainable.data.columns import Column, Places
from trainable.data.file_checks import FileProblems
from trainable.data.tables import Table, check_header
from trainable.errors import shown


def table_from_arrow(table: Any, path: Path, found: FileProblems) -> Table | None:
    """The columns of a `pyarrow.Table` that hold text or numbers. Problems are noted in `found`.

    Returns:
        The table, or None if its column names can't be used.
    """
    if not check_header(list(table.column_names), None, found):
        return None
    columns: dict[str, list[Any]] = {}
    left_out: dict[str, str] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if is_usable_type(column.type):
            columns[name] = column.chunks
        else:
            left_out[name] = str(column.type)
    return table_of_chunks(path, columns, table.num_rows, left_out, found)


def table_of_chunks(
    path: Path, columns: dict[str, list[Any]], rows: int, left_out: dict[str, str], found: FileProblems
) -> Table:
    """The table of these columns, given in chunks. Cells that are not UTF-8 are noted."""
    import pyarrow as pa

    for name, chunks in columns.items():
        before = 0
        for chunk in chunks:
            try:
                chunk.validate(full=True)
            except pa.ArrowInvalid:
                _note_bad_cells(name, chunk, before, found)
            before += len(chunk)
    made = {name: Column(chunks) for name, chunks in columns.items()}
    return Table(path, made, Places("row", range(1, rows + 1)), left_out)


def _note_bad_cells(name: str, chunk: Any, before: int, found: FileProblems) -> None:
    for row, cell in enumerate(chunk, before + 1):
        try:
            cell.as_py()
        except UnicodeDecodeError as error:
            found.add(f"row {row}", f"column {shown(name)} is not UTF-8 (byte 0x{error.object[error.start]:02x})")


def is_text_type(kind: Any) -> bool:
    """Whether an Arrow type is one of its types for text."""
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_number_type(kind: Any) -> bool:
    """Whether an Arrow type holds integers, floats, or true and false."""
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind))


def is_usable_type(kind: Any) -> bool:
    """Whether cells of an Arrow type can be texts or labels."""
    import pyarrow.types as types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return is_text_type(inner) or is_number_type(inner)
