"""Turn a file that is compressed or in another encoding into one that readers read, within a limit of memory."""

from __future__ import annotations

import codecs
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainable.data.file_checks import FileProblems
from trainable.data.parquet import is_bearable
from trainable.data.tables import Table

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
UTF_8 = "utf-8"
_BLOCK = 1 << 20


def read_unpacked(
    path: Path,
    suffix: str,
    encoding: str,
    read: Callable[[Path, FileProblems], Table | None],
    found: FileProblems,
) -> Table | None:
    """Unpack a file and read the result.

    Args:
        path: The file; it may end in one of COMPRESSIONS.
        suffix: The ending of what it holds, such as ".csv".
        encoding: The encoding of its text; UTF_8 leaves it as it is.
        read: The reader of what it holds.
        found: Problems are noted here, under the file's own name.
    """
    folder = Path(tempfile.mkdtemp(prefix="ft-data-"))
    try:
        inner = folder / f"data{suffix}"
        if not _write(_blocks(path, encoding), path, encoding, inner, found):
            return None
        if inner.stat().st_size == 0:
            found.add(None, "is empty")
            return None
        table = read(inner, found)
        return None if table is None else replace(table, path=path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(blocks: Iterable[bytes], path: Path, encoding: str, inner: Path, found: FileProblems) -> bool:
    """Write the content to `inner`; False where it is damaged or too large, which is noted."""
    size = 0
    try:
        with inner.open("wb") as file:
            for block in blocks:
                size += len(block)
                if not is_bearable(size, path, found):
                    return False
                file.write(block)
    except UnicodeError as error:
        found.add(None, f"is not {encoding}: {getattr(error, 'reason', error)}")
        return False
    except (OSError, EOFError, zlib.error) as error:  # damage; a full disk has a strerror
        if getattr(error, "strerror", None):
            raise
        found.add(
            None, f"is damaged or not in {COMPRESSIONS[path.suffix.lower()]} format: {str(error).splitlines()[0]}"
        )
        return False
    return True


def _blocks(path: Path, encoding: str) -> Iterator[bytes]:
    """The content in blocks: decompressed, and in UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)()
    with _opened(path) as file:
        while block := file.read(_BLOCK):
            yield block if encoding == UTF_8 else decoder.decode(block).encode()
    if encoding != UTF_8:
        yield decoder.decode(b"", final=True).encode()


def _opened(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        import gzip

        return gzip.open(path)
    if path.suffix.lower() == ".zst":
        import pyarrow as pa

        return pa.input_stream(str(path), compression="zstd")
    return path.open("rb")
