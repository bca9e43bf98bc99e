"""A table that was read strictly, and the rules for its column names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainable.data.columns import Column, Places
from trainable.data.file_checks import FileProblems, is_unicode
from trainable.errors import shown

MAX_COLUMNS = 10_000


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and where each row stands."""

    path: Path
    """The file, or a name that stands for it in messages: "glue/mrpc (train)"."""
    columns: dict[str, Column]
    """Cells by column. They are str in .csv and .tsv; str, int, float, bool or None in the other formats."""
    places: Places
    """For each row "line 7" (text files) or "row 7" (parquet, the hub), counted from 1."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Columns that can be neither texts nor labels (parquet has lists, images, dates), with their type in words."""
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For label columns whose classes the file names: the names by id."""
    notes: tuple[str, ...] = ()
    """What the reader left out or took for something else, a sentence each."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.places)


def check_header(names: Sequence[str], place: str | None, found: FileProblems) -> bool:
    """Note which column names are blank, not unique or not Unicode.

    Returns:
        False if there are too many columns: then only that is noted.
    """
    if len(names) > MAX_COLUMNS:
        found.add(place, f"has {len(names)} columns; {MAX_COLUMNS} at most can be read")
        return False
    before: set[str] = set()
    for i, name in enumerate(names):
        if not name.strip():
            found.add(place, f"column {i + 1} has no name")
        elif name in before:
            found.add(place, f"column {shown(name)} stands twice")
        elif not is_unicode(name):
            found.add(place, f"column {shown(name)} holds half a surrogate pair")
        before.add(name)
    return True
