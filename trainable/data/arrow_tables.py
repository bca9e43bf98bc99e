"""From Arrow's columns to a checked table: what parquet files and the hub's data sets have in common."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from trainable.data.columns import Column, Places
from trainable.data.file_checks import FileProblems
from trainable.data.tables import Table, check_header, nameless_notes
from trainable.errors import listed, shown

CELL_BYTES = 24  # what a cell takes in later steps, however short it is


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
        if not is_named(name):
            continue
        if is_usable_type(column.type):
            columns[name] = column.chunks
        else:
            left_out[name] = type_in_words(column.type)
    return table_of_chunks(path, columns, table.num_rows, left_out, table.schema, found)


def table_of_chunks(
    path: Path, columns: dict[str, list[Any]], rows: int, left_out: dict[str, str], schema: Any, found: FileProblems
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
    notes = nameless_notes([name if is_named(name) else "" for name in schema.names], found.path)
    return Table(path, made, Places("row", range(1, rows + 1)), left_out, class_names(schema), notes)


def is_named(column: str) -> bool:
    """Whether a column has a name of its own. pandas writes an index without one as `__index_level_0__`."""
    return bool(column.strip()) and re.fullmatch(r"__index_level_\d+__", column) is None


def class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """The class names of each label column, by id, which `datasets` keeps in the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kinds = {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
        listed = {name: names if isinstance(names, list) else list(names.values()) for name, names in kinds.items()}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}
    return {name: tuple(map(str, names)) for name, names in listed.items()}


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
    """Whether cells of an Arrow type can be texts or labels. Lists of texts or integers may be labels."""
    import pyarrow.types as types

    inner = kind.value_type if types.is_dictionary(kind) or is_list_type(kind) else kind
    return is_text_type(inner) or (is_number_type(inner) and not (is_list_type(kind) and types.is_floating(inner)))


def is_list_type(kind: Any) -> bool:
    """Whether an Arrow type holds lists."""
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind))


def type_in_words(kind: Any) -> str:
    """An Arrow type as messages show it."""
    import pyarrow.types as types

    if types.is_struct(kind):
        return f"an object with the fields {listed([kind.field(i).name for i in range(kind.num_fields)])}"
    return str(kind)


def decoded_bytes(chunk: Any) -> int:
    """The bytes that a chunk takes once decoded: a dictionary's text of 1 MB takes 1 MB in each row that has it."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    spare = len(chunk) * CELL_BYTES
    if not types.is_dictionary(chunk.type) or not is_text_type(chunk.type.value_type):
        return int(chunk.nbytes) + spare
    lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
    return int(pc.sum(lengths).as_py() or 0) + spare


def decoded(chunk: Any) -> Any:
    """The chunk without a dictionary."""
    import pyarrow as pa
    import pyarrow.types as types

    if not types.is_dictionary(chunk.type):
        return chunk
    kind = chunk.type.value_type
    if not is_text_type(kind):
        return chunk.cast(kind)
    return chunk.dictionary.cast(pa.large_string()).take(chunk.indices)
