"""Checks that every strict reader of files makes, and how it collects what is wrong with one file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainable.errors import shown

MAX_PROBLEMS_PER_FILE = 10


class FileProblems:
    """Collects what is wrong with one file. It keeps the first few problems and counts the others."""

    def __init__(self, path: Path | str) -> None:
        """Begin without problems; each sentence will name `path`."""
        self.path = path
        self._shown: list[str] = []
        self._hints: set[str] = set()
        self._more = 0

    def add(self, place: str | None, text: str | Callable[[], str], hint: str = "") -> None:
        """Note a problem.

        Args:
            place: Where it is ("line 7"); None means the whole file.
            text: What is wrong, as a predicate. A function is called only if the problem is among the first few.
            hint: What to do about it; it is told once.
        """
        if len(self._shown) < MAX_PROBLEMS_PER_FILE:
            said = (text if isinstance(text, str) else text()) + (hint if hint not in self._hints else "")
            self._hints.add(hint)
            self._shown.append(f"{self.path}, {place}: {said}" if place else f"{self.path}: {said}")
        else:
            self._more += 1

    def take(self) -> list[str]:
        """The problems, one sentence each."""
        more = f"{self.path}: {self._more} more problem{'' if self._more == 1 else 's'}"
        return [*self._shown, more] if self._more else self._shown


def not_a_file(path: Path) -> str:
    """Why `path` is not a regular file, as a predicate; empty if it is one.

    Pipes and devices are refused because reading them may never end.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        missing = "is a link to nothing" if os.path.islink(path) else "no such file"
        return missing if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
    except ValueError as error:  # the name holds a NUL
        return f"can't be read: {error}"
    if stat.S_ISDIR(mode):
        return "is a folder, not a file"
    return "" if stat.S_ISREG(mode) else "is a pipe, a socket or a device, not a file"


def other_encoding(start: bytes) -> str:
    """The name of the encoding if `start` looks like UTF-16 or UTF-32, else "".

    Without a byte order mark UTF-16 is recognised by its NULs: most texts have ASCII characters in them.
    """
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    even, odd = start[0:200:2].count(0), start[1:200:2].count(0)
    pairs = len(start[:200]) // 2
    if pairs > 1 and max(even, odd) > pairs // 2 > min(even, odd) * 4:
        return "UTF-16-BE" if even > odd else "UTF-16-LE"
    return ""


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8. Half a surrogate pair can't, but JSON's escapes can spell one."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ; pass it to `json.loads` as `object_pairs_hook`.

    Left to itself, json keeps the last of two equal keys in silence.

    Raises:
        ValueError: A key stands twice.
    """
    row = dict(pairs)
    if len(row) != len(pairs):
        before: set[str] = set()
        for name, _ in pairs:
            if name in before:
                raise ValueError(f"key {shown(name)} stands twice")
            before.add(name)
    return row
