"""From the cells of a label column to classes and their ids.

A task type decides what a label is: one class for each row, or several. The rest of `trainable.data` asks its
`LabelReader`; a new task type brings a reader of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from trainable.data.file_checks import FileProblems, is_unicode
from trainable.data.splits import Label
from trainable.data.tables import Table
from trainable.errors import nearest, shown

MAX_CLASSES = 100_000
SECRET_LABEL = "-1"  # the hub's data sets write it in place of each test label that they keep secret


@dataclass(frozen=True)
class LabelColumn:
    """The label cells of one split, before their classes are known."""

    table: Table
    """Where the cells come from: problems name its file and its rows."""
    keys: Sequence[str]
    """For each row the label as text; equal labels have equal keys. "" stands for a cell that holds no label."""


@dataclass(frozen=True)
class Classes:
    """The classes of a data set or of a model, in the order of their ids."""

    names: tuple[str, ...]
    """Names as a report shows them."""
    keys: tuple[str, ...]
    """The same classes as the data's cells write them: "1" where the hub names class 1 "equivalent"."""
    unknown: str
    """What to tell of a label that is none of them, as a predicate: "does not occur in train"."""

    def ids(self) -> dict[str, int]:
        """Class ids by key."""
        return {key: i for i, key in enumerate(self.keys)}


class LabelReader(Protocol):
    """How a task type reads labels.

    The loader calls the methods in the order in which they stand here. What is wrong is appended to `problems`.
    """

    def read(self, table: Table, column: str, problems: list[str]) -> LabelColumn:
        """Read the cells of one split's label column. The column is there."""
        ...

    def are_secret(self, test: LabelColumn, train: LabelColumn) -> bool:
        """Whether the data set keeps the labels of its test split secret; the split can't be scored then."""
        ...

    def classes(
        self,
        train: LabelColumn,
        known_names: tuple[str, ...] | None,
        positive_label: str | None,
        problems: list[str],
    ) -> Classes | None:
        """Fix the classes and their ids.

        Args:
            train: The labels of the training split.
            known_names: Class names by id where the data set itself tells them, as the hub's do.
            positive_label: The name of the class that binary F1 counts; None means the last one in order.
            problems: Sentences are appended here.

        Returns:
            The classes, or None where the labels allow none and `problems` says why.
        """
        ...

    def encode(self, column: LabelColumn, classes: Classes, problems: list[str]) -> tuple[Label, ...]:
        """Turn labels into ids: for each row a class id, or one number for each class.

        The result is of use only where no problem was found, neither here nor by `read`.
        """
        ...


class SingleLabelReader:
    """One class for each row: text, integers, or true and false."""

    def read(self, table: Table, column: str, problems: list[str]) -> LabelColumn:
        """Read labels as text, so that 1 in parquet and "1" in CSV are the same class."""
        found = FileProblems(table.path)
        keys = []
        distinct: dict[str, str] = {}  # rows of one class hold the same string, not equal ones
        first: tuple[str, type] | None = None
        for place, cell in zip(table.places, table.columns[column], strict=True):
            key = ""
            if cell is None or (isinstance(cell, str) and not cell.strip()):
                found.add(place, f"label {shown(column)} is {'missing' if cell is None else 'blank'}")
            elif not isinstance(cell, (str, int)):
                found.add(place, f"label {shown(cell)} is no integer and no text")
            elif isinstance(cell, str) and not is_unicode(cell):
                found.add(place, f"label {shown(cell)} holds half a surrogate pair")
            elif first is not None and type(cell) is not first[1]:
                there = f"that of {first[0]} is {_kind(first[1])}"
                found.add(place, f"label {shown(cell)} is {_kind(type(cell))}, but {there}")
            else:
                first = first or (place, type(cell))
                key = str(cell).lower() if isinstance(cell, bool) else str(cell)
            full = len(distinct) > MAX_CLASSES and key not in distinct
            keys.append("" if full else distinct.setdefault(key, key))
        if len(distinct) > MAX_CLASSES:
            question = f"is the label column {shown(column)} the right one?"
            found.add(None, f"more than {MAX_CLASSES} different labels; {question}")
        problems += found.take()
        return LabelColumn(table, keys)

    def are_secret(self, test: LabelColumn, train: LabelColumn) -> bool:
        """Whether each test label is -1, which is no label of train."""
        return set(test.keys) == {SECRET_LABEL} and SECRET_LABEL not in train.keys

    def classes(
        self,
        train: LabelColumn,
        known_names: tuple[str, ...] | None,
        positive_label: str | None,
        problems: list[str],
    ) -> Classes | None:
        """Take the classes in the hub's order; without one, integers by value and texts by alphabet."""
        occurring = set(train.keys) - {""}
        if not occurring or len(occurring) > MAX_CLASSES:
            return None  # `read` has told that no cell holds a label, or that too many different ones are there
        if known_names is not None:
            names = {str(i): name for i, name in enumerate(known_names)}
        else:
            integers = all(re.fullmatch(r"-?\d{1,18}", key) for key in occurring)
            names = {key: key for key in sorted(occurring, key=(lambda k: (int(k), k)) if integers else None)}
        rows = len(train.keys)
        if len(occurring) == 1:
            only = shown(occurring.pop())
            problems.append(f"{train.table.path}: all labels are {only}; a classifier needs two classes or more")
        elif len(names) > max(20, rows // 2):
            problems.append(
                f"{train.table.path}: {len(names)} classes in {rows} rows; is the label column the right one?"
            )
        if positive_label is not None:
            names = _positive_last(names, positive_label, problems)
        unknown = "does not occur in train" if known_names is None else "is no class of the data set"
        return Classes(tuple(names.values()), tuple(names), unknown)

    def encode(self, column: LabelColumn, classes: Classes, problems: list[str]) -> tuple[int, ...]:
        """Turn labels into class ids; -1 stands for a row with a problem."""
        ids = classes.ids()
        found = FileProblems(column.table.path)
        for place, key in zip(column.table.places, column.keys, strict=True):
            if key and key not in ids:
                # Looking for the nearest name takes long; only the problems that are shown do it.
                found.add(place, partial(_unknown, key, classes.unknown, ids))
        problems += found.take()
        return tuple(ids.get(key, -1) for key in column.keys)


SINGLE_LABEL = SingleLabelReader()


def classes_in(labels: Iterable[Label]) -> set[int]:
    """The ids of the classes that occur in `labels`."""
    found: set[int] = set()
    for label in set(labels):
        found.update([label] if isinstance(label, int) else np.flatnonzero(label).tolist())
    return found


def _unknown(key: str, what: str, known: Mapping[str, object]) -> str:
    return f"label {shown(key)} {what}; {nearest(key, known)}"


def _kind(kind: type) -> str:
    return {str: "text", int: "an integer", bool: "true or false"}[kind]


def _positive_last(names: dict[str, str], positive: str, problems: list[str]) -> dict[str, str]:
    """The two classes with the positive one last, since binary F1 counts class 1."""
    if positive not in names.values():
        problems.append(f"positive_label: no class {shown(positive)}; {nearest(positive, names.values())}")
    elif len(names) > 2:
        problems.append(f"positive_label is for two classes, but the data has {len(names)}")
    return dict(sorted(names.items(), key=lambda item: item[1] == positive))
