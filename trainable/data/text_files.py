"""Check that a file is text before a reader parses it: UTF-8, no NUL, no line that would fill the memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from trainable.data.file_checks import FileProblems, other_encoding

LineEnds = Literal["any", "lf"]  # "any": CR, LF and CRLF each end a line, as editors show it; "lf": only LF does

MAX_LINE_MIB = 32  # parsing a longer line of JSON could take half a GB of memory
_BLOCK_BYTES = 1 << 20
_HINT = "save it as UTF-8, or say which encoding it has: --encoding"
_MAGIC = {
    b"PAR1": "a parquet file", b"ARROW1": "an Arrow file", b"\xff\xff\xff\xff": "an Arrow stream",
    b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive", b"\xfd7zXZ\x00": "an xz archive", b"(\xb5/\xfd": "a zstd archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"\xd0\xcf\x11\xe0": "an old Excel file",
}  # fmt: skip


def is_text(path: Path, line_ends: LineEnds, found: FileProblems) -> bool:
    """Whether a file is UTF-8 without NULs and without overlong lines; the first thing that is wrong is noted.

    The file is read in blocks, so it may be larger than the memory.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = 0  # bytes of the file before this block
    begun = 0  # bytes of the line that the block before left unfinished
    for block in _blocks(path):
        wrong = _other_format(path, block) if before == 0 else ""
        if wrong:
            found.add(None, wrong)
            return False
        if 0 in block:
            found.add(_line_at(path, before + block.index(0), line_ends), "holds a NUL character")
            return False
        held = len(decoder.getstate()[0])  # bytes of a character that the block before cut in two
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            bad = f"is not UTF-8 (byte 0x{error.object[error.start]:02x}); {_HINT} windows-1252"
            found.add(_line_at(path, before - held + error.start, line_ends), bad)
            return False
        lines = (block if line_ends == "lf" else block.replace(b"\r", b"\n")).split(b"\n")
        longest = max(begun + len(lines[0]), *map(len, lines))
        if longest > MAX_LINE_MIB << 20:
            found.add(_line_at(path, before, line_ends), f"is longer than {MAX_LINE_MIB} MiB")
            return False
        begun = len(lines[-1]) + (begun if len(lines) == 1 else 0)
        before += len(block)
    return True


def _other_format(path: Path, start: bytes) -> str:
    """What the file is instead of UTF-8 text, as a predicate; empty if its start looks like text."""
    if name := binary_format(start):
        return f"ends in {path.suffix} but is {name}"
    encoding = other_encoding(start)
    return f"is {encoding}, not UTF-8; {_HINT} {encoding.lower()}" if encoding else ""


def binary_format(start: bytes) -> str:
    """The format of a binary file that begins with these bytes; empty if it is none that we recognise."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


def _blocks(path: Path) -> Iterator[bytes]:
    """The blocks of a file, and an empty one at the end."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block
    yield b""


def _line_at(path: Path, offset: int, line_ends: LineEnds) -> str:
    """The line in which the byte at `offset` stands: "line 7", counted as an editor counts."""
    line, last = 1, b""
    for block in _blocks(path):
        before, offset = block[:offset], offset - len(block)
        line += before.count(b"\n")
        if line_ends == "any":
            line += before.count(b"\r") - (last + before).count(b"\r\n")
        last = before[-1:]
        if offset <= 0:
            break
    return f"line {line}"
