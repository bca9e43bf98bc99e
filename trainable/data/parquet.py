"""Read .parquet within a limit of memory.

A parquet file of some KB can hold GBs, because compression and dictionaries store equal cells once. So we first
estimate from the file's metadata how much memory its cells take, and then count it while they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainable.data.arrow_tables import (
    CELL_BYTES,
    decoded,
    decoded_bytes,
    is_list_type,
    is_named,
    is_number_type,
    is_usable_type,
    table_of_chunks,
    type_in_words,
)
from trainable.data.columns import CHUNK_BYTES
from trainable.data.file_checks import FileProblems
from trainable.data.tables import Table, check_header

# With these the whole process stays below twice the file's size and 1 GB.
SPARE_BYTES = 400_000_000  # allowed beyond one and a half times the file's size
_SMALL_GROUP_BYTES = 64_000_000
_READ_BYTES = 1 << 20


def read_parquet(path: Path, found: FileProblems) -> Table | None:
    """Read the columns that hold text or numbers; problems are noted in `found`."""
    import pyarrow as pa

    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            found.add(None, "ends in .parquet but is not a parquet file")
            return None
    try:
        return _read(path, found)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:  # the last: a column's name
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        found.add(None, f"is damaged: {reason}")
        return None


def _read(path: Path, found: FileProblems) -> Table | None:
    """The table; None if something is wrong. What pyarrow raises means that the file is damaged."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
        if not check_header(schema.names, None, found) or found.take():
            return None
        kinds = dict(zip(schema.names, schema.types, strict=True))
    wanted = [name for name, kind in kinds.items() if is_usable_type(kind) and is_named(name)]
    # We read only the groups' metadata: where the columns' metadata are damaged, pyarrow ends the process.
    groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    if not is_bearable(sum(groups) + metadata.num_rows * len(wanted) * CELL_BYTES, path, found):
        return None
    # One entry of a dictionary may stand in every row. Texts of small groups are read as dictionaries and decoded
    # once their whole length is known. In large groups that takes too much memory: we read a few rows at once.
    is_small = max(groups, default=0) <= _SMALL_GROUP_BYTES
    dictionaries = [
        name for name in wanted if is_small and not is_list_type(kinds[name]) and not is_number_type(kinds[name])
    ]
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    with pq.ParquetFile(
        path, read_dictionary=dictionaries, buffer_size=_READ_BYTES, page_checksum_verification=True
    ) as file:
        for piece in _pieces(file, wanted, 8192 if is_small else 64, path, found):
            for name in wanted:
                columns[name].append(piece[name])
    count = metadata.num_rows
    if not found.take() and any(sum(map(len, chunks)) != count for chunks in columns.values()):
        found.add(None, f"is damaged: it says that it has {count} rows, but has others")
    if found.take():
        return None
    left_out = {name: type_in_words(kind) for name, kind in kinds.items() if name not in columns and is_named(name)}
    return table_of_chunks(path, columns, count, left_out, schema, found)


def _pieces(file: Any, wanted: Sequence[str], rows: int, path: Path, found: FileProblems) -> Iterator[dict[str, Any]]:
    """The columns in pieces of some MB. If they take too much memory, that is noted and no further piece comes."""
    import pyarrow as pa

    if not wanted:
        return
    waiting: dict[str, list[Any]] = {name: [] for name in wanted}
    size = taken = 0
    for batch in file.iter_batches(batch_size=rows, columns=wanted, use_threads=False):
        for name, chunks in waiting.items():
            chunk = batch.column(batch.schema.get_field_index(name))
            size += decoded_bytes(chunk)
            if not is_bearable(taken + size, path, found):
                return
            chunks.append(decoded(chunk))
        if size > CHUNK_BYTES:
            yield {name: pa.concat_arrays(chunks) for name, chunks in waiting.items()}
            waiting = {name: [] for name in wanted}
            taken, size = taken + size, 0
    if size:
        yield {name: pa.concat_arrays(chunks) for name, chunks in waiting.items()}


def is_bearable(size: int, path: Path, found: FileProblems) -> bool:
    """Whether `size` bytes of memory are few enough for this file; if not, that is noted."""
    on_disk = path.stat().st_size
    limit = int(1.5 * on_disk) + SPARE_BYTES
    if size <= limit:
        return True
    found.add(
        None,
        f"its {on_disk:,} bytes would take {size:,} bytes or more of memory, which is above {limit:,}; "
        "save it with less compression, or in parts",
    )
    return False
