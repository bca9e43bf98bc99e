"""Choose the columns: which one is the label, and which one or two hold the texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainable.data.tables import Table
from trainable.errors import listed, nearest, shown

LABEL_NAMES = ("label", "labels", "label_ids", "class", "target", "category", "y")
NO_TEXT_NAMES = ("idx", "id", "index", "guid", "uid")


@dataclass(frozen=True)
class ChosenColumns:
    """The columns that are used. A table may have more."""

    texts: tuple[str, ...]
    """One or two names, in the order in which the model sees the texts."""
    label: str

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.texts, self.label)


def choose_columns(
    table: Table, texts: tuple[str, ...] | None, label: str | None, problems: list[str]
) -> ChosenColumns | None:
    """Take the columns that the user names, and guess the others.

    Args:
        table: The training split, or the first split that could be read.
        texts: The text columns that the user names; None means guess.
        label: The label column that the user names; None means guess.
        problems: Sentences are appended here.

    Returns:
        The columns, or None where `problems` says why. `table` need not have those that the user named.
    """
    columns = list(table.columns)
    label = label or guess_label(columns)
    if label is None:
        problems.append(f"{table.path}: which column is the label? Name it with --label-column; {_there_are(columns)}")
    if texts is None and label in columns:
        texts = _guess_texts({name: cells for name, cells in table.columns.items() if name != label})
        if texts is None:
            problems.append(
                f"{table.path}: which columns are the texts? Name one or two with --text-columns; {_there_are(columns)}"
            )
            return None
    if label is None or texts is None:
        has_columns(table, [*(texts or ()), *([label] if label else [])], problems)
        return None
    if not 1 <= len(texts) <= 2 or len(set(texts)) != len(texts) or label in texts:
        given = f"{','.join(texts)} (label: {label})"
        problems.append(f"--text-columns takes one or two columns other than the label's, but got {given}")
        return None
    return ChosenColumns(texts, label)


def guess_label(columns: Sequence[str]) -> str | None:
    """The one column that is called like a label, if there is exactly one."""
    named = [name for name in columns if name.lower() in LABEL_NAMES]
    return named[0] if len(named) == 1 else None


def has_columns(table: Table, wanted: Sequence[str], problems: list[str]) -> bool:
    """Whether a table has these columns; a problem is appended for each that it has not."""
    missing = [name for name in wanted if name not in table.columns]
    for name in missing:
        if name in table.left_out:
            problems.append(f"{table.path}: column {shown(name)} holds {table.left_out[name]}, not text or integers")
        else:
            problems.append(f"{table.path}: no column {shown(name)}; {nearest(name, table.columns)}")
    return not missing


def _there_are(columns: Sequence[str]) -> str:
    return f"there are {listed(columns)}" if columns else "there are none"


def _guess_texts(columns: Mapping[str, Sequence[Any]]) -> tuple[str, ...] | None:
    """The columns of words, if they are one or two.

    If there are none, columns that would be texts but for their blank cells are taken, so that each such cell is told.
    """
    named = {name: cells for name, cells in columns.items() if name.lower() not in NO_TEXT_NAMES}
    words = [name for name, cells in named.items() if _looks_like_text(cells)]
    found = words or [name for name, cells in named.items() if _has_gaps(cells)]
    return tuple(found) if 1 <= len(found) <= 2 else None


def _looks_like_text(cells: Sequence[Any]) -> bool:
    if not all(isinstance(cell, str) for cell in cells):
        return False
    return any(re.search(r"[^\W\d_]", cell) for cell in cells[:100])


def _has_gaps(cells: Sequence[Any]) -> bool:
    return all(cell is None or isinstance(cell, str) for cell in cells) and any(
        not (cell or "").strip() for cell in cells
    )
