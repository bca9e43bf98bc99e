"""Read .arrow, Arrow's file and stream format, within the limit of memory that parquet has.

`datasets` writes the stream format, and nothing in it but dictionaries and compressed buffers can hide large cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainable.data.arrow_tables import decoded, decoded_bytes, is_named, is_usable_type, table_of_chunks, type_in_words
from trainable.data.file_checks import FileProblems
from trainable.data.parquet import is_bearable
from trainable.data.tables import Table, check_header
from trainable.data.text_files import binary_format


def read_arrow(path: Path, found: FileProblems) -> Table | None:
    """Read the columns that hold text, numbers or lists of them; problems are noted in `found`."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            start = bytes(file.read(8))
            file.seek(0)
            if start.startswith(b"ARROW1"):
                reader = pa.ipc.open_file(file)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            elif start.startswith(b"\xff\xff\xff\xff"):
                reader = pa.ipc.open_stream(file)
                batches = iter(reader)
            else:
                found.add(None, f"ends in .arrow but is {binary_format(start) or 'not an Arrow file or stream'}")
                return None
            return _read(path, reader.schema, batches, found)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        found.add(None, f"is damaged: {reason}")
        return None


def _read(path: Path, schema: Any, batches: Any, found: FileProblems) -> Table | None:
    if not check_header(schema.names, None, found) or found.take():
        return None
    kinds = {name: kind for name, kind in zip(schema.names, schema.types, strict=True) if is_named(name)}
    columns: dict[str, list[Any]] = {name: [] for name, kind in kinds.items() if is_usable_type(kind)}
    rows = size = 0
    for batch in batches:
        rows += len(batch)
        for name, chunks in columns.items():
            chunk = batch.column(schema.get_field_index(name))
            _check_offsets(chunk)
            size += decoded_bytes(chunk)
            if not is_bearable(size, path, found):
                return None
            chunks.append(decoded(chunk))
    left_out = {name: type_in_words(kind) for name, kind in kinds.items() if name not in columns}
    return table_of_chunks(path, columns, rows, left_out, schema, found)


def _check_offsets(chunk: Any) -> None:
    """Raise ArrowInvalid where a damaged file leads outside its buffers. Cells that are not UTF-8 are told later."""
    import pyarrow as pa

    as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    (chunk.view(as_bytes[chunk.type]) if chunk.type in as_bytes else chunk).validate(full=True)
