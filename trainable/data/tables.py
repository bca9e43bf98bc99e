"""A table that was read strictly, and the rules for its column names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainable.data.columns import Column, JoinedPlaces, Names, Places
from trainable.data.file_checks import FileProblems, is_unicode
from trainable.errors import listed, shown

MAX_COLUMNS = 10_000


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and where each row stands."""

    path: Path
    """The file, or a name that stands for it in messages: "glue/mrpc (train)"."""
    columns: dict[str, Column]
    """Cells by column. They are str in .csv and .tsv; str, int, float, bool or None in the other formats."""
    places: Places | Names | JoinedPlaces
    """For each row "line 7" (text files), "row 7" (parquet, the hub; counted from 1), or a file's name."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Columns that can be neither texts nor labels (parquet has lists, images, dates), with their type in words."""
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For label columns whose classes the file names: the names by id."""
    notes: tuple[str, ...] = ()
    """What the reader left out or took for something else, a sentence each."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.places)


def joined(parts: Sequence[Table], problems: list[str]) -> Table | None:
    """The tables of a split's files as one table.

    Returns:
        The table, or None where the files have different columns, which is appended to `problems`.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        unlike = sorted(first.columns.keys() ^ part.columns.keys())
        if unlike:
            problems.append(f"{part.path}: has not the columns of {first.path.name}: {listed(unlike)}")
            return None
    columns = {name: Column([c for part in parts for c in part.columns[name].chunks]) for name in first.columns}
    places = JoinedPlaces([(part.path.name, part.places) for part in parts])
    notes = tuple(note for part in parts for note in part.notes)
    return Table(first.path.parent, columns, places, first.left_out, first.class_names, notes)


def nameless_notes(names: Sequence[str], path: Path | str) -> tuple[str, ...]:
    """The note that columns without a name are left out; none where all have one."""
    nameless = [str(i) for i, name in enumerate(names, 1) if not name.strip()]
    if not nameless:
        return ()
    if len(nameless) == 1:
        return (f"{path}: column {nameless[0]} has no name and is left out",)
    return (f"{path}: {len(nameless)} columns have no name and are left out ({listed(nameless)})",)


def check_header(names: Sequence[str], place: str | None, found: FileProblems) -> bool:
    """Note which column names are not unique or not Unicode. Blank names are no problem: readers leave them out.

    Returns:
        False if there are too many columns: then only that is noted.
    """
    if len(names) > MAX_COLUMNS:
        found.add(place, f"has {len(names)} columns; {MAX_COLUMNS} at most can be read")
        return False
    before: set[str] = set()
    for name in names:
        if not name.strip():
            continue
        if name in before:
            found.add(place, f"column {shown(name)} stands twice")
        elif not is_unicode(name):
            found.add(place, f"column {shown(name)} holds half a surrogate pair")
        before.add(name)
    return True
