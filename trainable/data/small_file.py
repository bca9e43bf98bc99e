"""Read a small text file whole, within a limit: specifications, presets and starting points."""

from __future__ import annotations

from pathlib import Path

from trainable.data.file_checks import not_a_file, other_encoding


def read_small(path: Path, max_bytes: int) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: It is not a regular file, holds more than `max_bytes`, or is not UTF-8. The message names the file.
    """
    wrong = not_a_file(path)
    if wrong:
        raise ValueError(f"{path}: {wrong}")
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror or error}") from None
    if len(data) > max_bytes:
        raise ValueError(f"{path}: is larger than {max_bytes:,} bytes")
    encoding = other_encoding(data)
    if encoding:
        raise ValueError(f"{path}: is {encoding}, not UTF-8; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: is not UTF-8 (byte 0x{data[error.start]:02x})") from None
