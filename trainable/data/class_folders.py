"""Read a folder in which each class is a folder and each text a file, as aclImdb and 20 Newsgroups are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trainable.data.columns import ColumnBuilder, Names
from trainable.data.file_checks import FileProblems, not_a_file
from trainable.data.tables import Table
from trainable.data.text_files import is_text
from trainable.data.unpacking import UTF_8
from trainable.errors import listed

TEXT, LABEL = "text", "label"  # what the two columns are called
UNLABELLED = ("unsup", "unsupervised", "unlabeled", "unlabelled")
_ENDINGS = (".txt", ".text", "")


def class_folders(folder: Path) -> list[Path]:
    """The folders inside `folder` that hold texts, a file each, in the order of their names."""
    inside = (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "_")))
    return [path for path in inside if any(_texts_in(path))]


def read_class_folder(folder: Path, problems: list[str], encoding: str = UTF_8) -> Table | None:
    """Read the texts of each class.

    Returns:
        A table with the columns `text` and `label`, or None where something was appended to `problems`.
    """
    folders = class_folders(folder)
    classes = [path for path in folders if path.name.lower() not in UNLABELLED]
    builder = ColumnBuilder(2)
    places: list[str] = []
    found = FileProblems(folder)
    for inside in classes:
        for name in sorted(_texts_in(inside)):
            text = _read(inside / name, encoding, problems)
            if text is not None:
                builder.add(len(places), (text, inside.name))
                places.append(f"{inside.name}/{name}")
    if found.take() or problems:
        return None
    notes = [f"{folder}: {len(classes)} classes, a folder each: {listed([path.name for path in classes])}"]
    if left := [path.name for path in folders if path not in classes]:
        notes.append(f"{folder}: {listed(left)} holds texts without a label and is left out")
    columns = dict(zip((TEXT, LABEL), builder.columns(), strict=True))
    return Table(folder, columns, Names(places), notes=tuple(notes))


def _texts_in(folder: Path) -> Iterator[str]:
    """The names of the files in a folder that are texts, judged by their endings."""
    for name in os.listdir(folder):
        ending = os.path.splitext(name)[1].lower()
        if not name.startswith(".") and (ending in _ENDINGS or ending[1:].isdigit()) and not (folder / name).is_dir():
            yield name


def _read(path: Path, encoding: str, problems: list[str]) -> str | None:
    found = FileProblems(path)
    try:
        wrong = not_a_file(path)
        if wrong:
            found.add(None, wrong)
        elif encoding != UTF_8:
            return path.read_bytes().decode(encoding)
        elif is_text(path, "any", found):
            return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        found.add(None, f"can't be read: {error.strerror or error}")
    except UnicodeError as error:
        found.add(None, f"is not {encoding}: {getattr(error, 'reason', error)}")
    problems += found.take()
    return None
