"""Read what .gz and .zst files hold: decompress them into a temporary file, within a limit."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainable.data.file_checks import FileProblems
from trainable.data.parquet import is_bearable
from trainable.data.tables import Table

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_BLOCK = 1 << 20


def read_compressed(
    path: Path, suffix: str, read: Callable[[Path, FileProblems], Table | None], found: FileProblems
) -> Table | None:
    """Decompress a file and read the result.

    Args:
        path: Ends in one of COMPRESSIONS.
        suffix: The ending of what it holds, such as ".csv".
        read: The reader of that.
        found: Problems are noted here, under the file's own name.
    """
    folder = Path(tempfile.mkdtemp(prefix="ft-data-"))
    try:
        inner = folder / f"data{suffix}"
        try:
            if not _decompress(path, inner, found):
                return None
        except (OSError, EOFError, ValueError, zlib.error) as error:  # damage; a full disk has a strerror
            if getattr(error, "strerror", None):
                raise
            found.add(None, f"is damaged or not in {COMPRESSIONS[path.suffix]} format: {str(error).splitlines()[0]}")
            return None
        if inner.stat().st_size == 0:
            found.add(None, "is empty")
            return None
        table = read(inner, found)
        return None if table is None else replace(table, path=path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _decompress(path: Path, inner: Path, found: FileProblems) -> bool:
    """Write the file's content to `inner`; False where it is too large, which is noted."""
    size = 0
    with _opened(path) as packed, inner.open("wb") as file:
        while block := packed.read(_BLOCK):
            size += len(block)
            if not is_bearable(size, path, found):
                return False
            file.write(block)
    return True


def _opened(path: Path) -> Any:
    if path.suffix == ".gz":
        import gzip

        return gzip.open(path)
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")
