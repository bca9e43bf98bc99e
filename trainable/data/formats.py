"""The file formats of tables. To add one, write its reader in a module of its own and enter it in `FORMATS`.

All readers are strict: what the file says is what the table holds, or a problem names the file and the line. The usual
readers shift ragged rows, take the texts "NA" and "null" for missing cells and labels for floats, all in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainable.data.arrow_files import read_arrow
from trainable.data.delimited import read_csv, read_tsv
from trainable.data.file_checks import FileProblems, not_a_file
from trainable.data.json_files import read_json
from trainable.data.other_formats import other_format
from trainable.data.parquet import read_parquet
from trainable.data.tables import Table
from trainable.data.unpacking import COMPRESSIONS, UTF_8, read_unpacked


@dataclass(frozen=True)
class FileOptions:
    """What the user says about files that are text."""

    encoding: str = UTF_8
    column_names: tuple[str, ...] | None = None
    """Of .csv and .tsv files without a header; None means that their first line is the header."""


AS_THEY_ARE = FileOptions()

# A reader gets a regular file that is not empty. It notes what is wrong; its table counts only if nothing is.
Reader = Callable[[Path, FileProblems], Table | None]

FORMATS: dict[str, Reader] = {
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_json,
    ".json": read_json,
    ".arrow": read_arrow,
}
HEADERLESS: dict[str, Callable[..., Table | None]] = {".csv": read_csv, ".tsv": read_tsv}
"""The readers that take `column_names`."""
SUFFIXES = tuple(FORMATS)
TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
KNOWN = f"{', '.join(SUFFIXES)}, each also as {' or '.join(COMPRESSIONS)}"


def suffix_of(name: str) -> str:
    """The ending of a file that can be read, with that of its compression: ".csv", ".CSV.gz"; else ""."""
    lower = name.lower()
    packed = next((end for end in COMPRESSIONS if lower.endswith(end)), "")
    inner = next((end for end in SUFFIXES if lower.removesuffix(packed).endswith(end)), "")
    return name[len(name) - len(inner + packed) :] if inner else ""


def read_table(path: Path, problems: list[str], options: FileOptions = AS_THEY_ARE) -> Table | None:
    """Read a file as its ending says.

    Args:
        path: The file.
        problems: What is wrong is appended here.
        options: What the user says about files that are text.

    Returns:
        A table with at least one row, or None; then everything that is wrong was appended to `problems`.
    """
    found = FileProblems(path)
    table: Table | None = None
    try:
        wrong = not_a_file(path)
        if wrong:
            found.add(None, wrong)
        elif path.stat().st_size == 0:
            found.add(None, "is empty")
        elif other := other_format(path):
            found.add(None, other)
        elif not (suffix := suffix_of(path.name)):
            found.add(None, f"can't read {path.suffix or 'a file without an ending'}; known: {KNOWN}")
        else:
            table = _read(path, suffix, options, found)
    except OSError as error:
        found.add(None, f"can't be read: {error.strerror or error}")
    here = found.take()
    problems += here
    if here or table is None:
        return None
    if len(table) == 0:
        problems.append(f"{path}: has a header but no rows" if table.columns else f"{path}: has no rows")
        return None
    return table


def _read(path: Path, suffix: str, options: FileOptions, found: FileProblems) -> Table | None:
    packed = path.suffix if path.suffix.lower() in COMPRESSIONS else ""
    inner = suffix.removesuffix(packed).lower()
    read = FORMATS[inner]
    if options.column_names is not None and inner in HEADERLESS:  # other formats name their columns themselves
        read = partial(HEADERLESS[inner], column_names=options.column_names)
    encoding = options.encoding if inner in TEXT_SUFFIXES else UTF_8
    if packed or encoding != UTF_8:
        return read_unpacked(path, inner, encoding, read, found)
    return read(path, found)
