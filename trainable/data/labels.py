"""From the cells of a label column to classes and their ids.

A task type decides what a label is: one class for each row, or several. The rest of `trainable.data` asks its
`LabelReader`; a new task type brings a reader of its own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trainable.data.file_checks import FileProblems, is_unicode
from trainable.data.splits import Label
from trainable.data.tables import Table
from trainable.errors import nearest, shown

MAX_CLASSES = 100_000
NO_LABEL_MARKS = ("-", "--", "?", "n/a", "N/A", "nan", "NaN")  # what stands where annotators have no label
MULTI_LABEL = "multi-label data, which is not supported yet; a label column holds one class for each row"
REGRESSION = "that looks like regression, which is not supported; a label column holds classes"
SKIP_BLANK_ROWS = "; --skip-blank-rows leaves such rows out"
_TWO_CLASSES = "a classifier needs two classes or more"
SECRET_LABEL = "-1"  # the hub's data sets write it in place of each test label that they keep secret


@dataclass(frozen=True)
class LabelColumn:
    """The label cells of one split, before their classes are known."""

    table: Table
    """Where the cells come from: problems name its file and its rows."""
    keys: Sequence[str]
    """For each row the label as text; equal labels have equal keys. "" stands for a cell that holds no label."""


@dataclass(frozen=True)
class LabelWishes:
    """What the user says about labels."""

    positive: str | None = None
    """The name of the class that binary F1 counts; None means the last one in order."""
    are_strict: bool = False
    """Whether labels that differ only in blanks around them or in case are different classes."""
    skipped: tuple[str, ...] = ()
    """Labels whose rows were left out: the data set may still name them."""


@dataclass(frozen=True)
class Classes:
    """The classes of a data set or of a model, in the order of their ids."""

    names: tuple[str, ...]
    """Names as a report shows them."""
    keys: tuple[str, ...]
    """The same classes as the data's cells write them: "1" where the hub names class 1 "equivalent"."""
    unknown: str
    """What to tell of a label that is none of them, as a predicate: "does not occur in train"."""
    are_strict: bool = False
    """Whether only the very keys count. If not, "Good " is the class "good", and 1.0 is the class 1."""

    def ids(self) -> dict[str, int]:
        """Class ids by key, and where the classes are not strict by what `folded` makes of the keys."""
        ids = {key: i for i, key in enumerate(self.keys)}
        if self.are_strict:
            return ids
        spelled = {folded(key): i for i, key in enumerate(self.keys)}
        for word, number in (("true", "1"), ("false", "0")):  # one split may say true where another says 1
            for one, other in ((word, number), (number, word)):
                if one in spelled and other not in spelled:
                    spelled[other] = spelled[one]
        return spelled | ids if len({folded(key) for key in self.keys}) == len(self.keys) else ids


class LabelReader(Protocol):
    """How a task type reads labels.

    The loader calls the methods in the order in which they stand here. What is wrong is appended to `problems`.
    """

    def read(self, table: Table, column: str, notes: list[str], problems: list[str]) -> LabelColumn:
        """Read the cells of one split's label column. The column is there."""
        ...

    def are_secret(self, test: LabelColumn, train: LabelColumn) -> bool:
        """Whether the data set keeps the labels of its test split secret; the split can't be scored then."""
        ...

    def classes(
        self,
        train: LabelColumn,
        known_names: tuple[str, ...] | None,
        wishes: LabelWishes,
        notes: list[str],
        problems: list[str],
    ) -> Classes | None:
        """Fix the classes and their ids.

        Args:
            train: The labels of the training split.
            known_names: Class names by id where the data set itself tells them, as the hub's do.
            wishes: What the user says about labels.
            notes: Get a sentence for labels that were taken for others.
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
    """One class for each row: text, integers, true and false, or a list with one of them."""

    def read(self, table: Table, column: str, notes: list[str], problems: list[str]) -> LabelColumn:
        """Read labels as text, so that 1 in parquet, 1.0 in parquet and "1" in CSV are the same class."""
        found = FileProblems(table.path)
        cells = table.columns[column]
        if several := next((cell for cell in cells if isinstance(cell, list) and len(cell) > 1), None):
            found.add(None, f"label {shown(column)} holds lists such as {shown(several)}: {MULTI_LABEL}")
            problems += found.take()
            return LabelColumn(table, [""] * len(table))
        if fraction := next((cell for cell in cells if isinstance(cell, float) and cell % 1 > 0), None):
            found.add(None, f"label {shown(column)} holds numbers such as {shown(fraction)}: {REGRESSION}")
            problems += found.take()
            return LabelColumn(table, [""] * len(table))
        if any(isinstance(cell, list) for cell in cells):
            notes.append(f"{table.path}: label {shown(column)} holds lists of one class each, read as that class")
        keys = []
        distinct: dict[str, str] = {}  # rows of one class hold the same string, not equal ones
        first: tuple[str, type, bool] | None = None  # place, type, and whether it is an integer in some way
        for place, cell in zip(table.places, map(_alone, cells), strict=True):
            key = ""
            if is_blank(cell):
                is_missing = not isinstance(cell, str)
                found.add(place, f"label {shown(column)} is {'missing' if is_missing else 'blank'}", SKIP_BLANK_ROWS)
            elif not isinstance(cell, (str, int)):
                found.add(place, f"label {shown(cell)} is no integer and no text")
            elif isinstance(cell, str) and not is_unicode(cell):
                found.add(place, f"label {shown(cell)} holds half a surrogate pair")
            elif first is not None and type(cell) is not first[1] and not (_is_integer(cell) and first[2]):
                there = f"that of {first[0]} is {_kind(first[1])}"
                found.add(place, f"label {shown(cell)} is {_kind(type(cell))}, but {there}")
            else:
                first = first or (place, type(cell), _is_integer(cell))
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
        wishes: LabelWishes,
        notes: list[str],
        problems: list[str],
    ) -> Classes | None:
        """Take the classes in the hub's order; without one, integers by value and texts by alphabet."""
        counts = Counter(train.keys)
        del counts[""]
        if not counts or len(counts) > MAX_CLASSES:
            return None  # `read` has told that no cell holds a label, or that too many different ones are there
        path = train.table.path
        if known_names is not None:
            names = {str(i): name for i, name in enumerate(known_names) if name not in wishes.skipped}
            if len(counts) == 1:
                only = names.get(*counts, *counts)
                problems.append(f"{path}: all labels are {shown(only)}; {_TWO_CLASSES}")
        else:
            spellings = sorted(counts) if wishes.are_strict else _spellings(counts, path, notes)
            integers = all(re.fullmatch(r"-?\d{1,18}", key) for key in spellings)
            names = {key: key for key in sorted(spellings, key=(lambda k: (int(k), k)) if integers else None)}
            problems += _strange_labels(names, counts, train, wishes)
        if positive := wishes.positive:
            names = _positive_last(names, positive, problems)
        unknown = "does not occur in train" if known_names is None else "is no class of the data set"
        return Classes(tuple(names.values()), tuple(names), unknown, wishes.are_strict or known_names is not None)

    def encode(self, column: LabelColumn, classes: Classes, problems: list[str]) -> tuple[int, ...]:
        """Turn labels into class ids; -1 stands for a row with a problem."""
        ids = classes.ids()
        for key in set(column.keys) - ids.keys():
            if not classes.are_strict and folded(key) in ids:
                ids[key] = ids[folded(key)]
        found = FileProblems(column.table.path)
        known = classes.keys
        for place, key in zip(column.table.places, column.keys, strict=True):
            if key and key not in ids:
                # Looking for the nearest name takes long; only the problems that are shown do it.
                found.add(place, partial(_unknown, key, classes.unknown, known))
        problems += found.take()
        return tuple(ids.get(key, -1) for key in column.keys)


SINGLE_LABEL = SingleLabelReader()


def classes_in(labels: Iterable[Label]) -> set[int]:
    """The ids of the classes that occur in `labels`."""
    found: set[int] = set()
    for label in set(labels):
        found.update([label] if isinstance(label, int) else np.flatnonzero(label).tolist())
    return found


def folded(key: str) -> str:
    """What two labels have in common that differ only in blanks around them, in case, or as 1 and 1.0 do."""
    bare = key.strip().casefold()
    return bare.partition(".")[0] if re.fullmatch(r"-?\d+\.0+", bare) else bare


def is_blank(cell: Any) -> bool:
    """Whether a cell holds nothing: null, not a number, blanks, or a list of nothing."""
    return (
        cell is None
        or (isinstance(cell, float) and math.isnan(cell))
        or (isinstance(cell, str) and not cell.strip())
        or cell == []
    )


def _is_integer(cell: Any) -> bool:
    """Whether a label is an integer, be it as a number or as text: files that were joined have both."""
    return type(cell) is int or (isinstance(cell, str) and re.fullmatch(r"-?\d{1,18}", cell.strip()) is not None)


def _alone(cell: Any) -> Any:
    """A cell that is a list of one is that one; 1.0 is 1, since parquet and pandas make floats of integers."""
    if isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _spellings(counts: Counter[str], path: Path, notes: list[str]) -> list[str]:
    """One spelling for each class: the most frequent one of those that differ in blanks or case; 1 for 1.0."""
    groups: dict[str, list[str]] = {}
    are_versions = any(re.fullmatch(r"-?\d+\.\d*[1-9]\d*", key.strip()) for key in counts)  # 1.0 beside 1.5
    for key in sorted(counts, key=lambda k: (-counts[k], k)):
        groups.setdefault(key.strip().casefold() if are_versions else folded(key), []).append(key)
    chosen, told = [], []
    for fold, (first, *others) in groups.items():
        name = fold if re.fullmatch(r"-?\d+\.0+", first.strip()) and not are_versions else first.strip()
        chosen.append(name)
        told += [f"{shown(other)} ({counts[other]} rows) is read as {shown(name)}" for other in others]
        if not others and name != first:
            told.append(f"{shown(first)} is read as {shown(name)}")
    if told:
        more = f"; and {len(told) - 5} more" if len(told) > 5 else ""
        notes.append(f"{path}: label {'; '.join(told[:5])}{more}. --strict-labels keeps labels as they stand")
    return chosen


def _strange_labels(
    names: Mapping[str, str], counts: Counter[str], train: LabelColumn, wishes: LabelWishes
) -> list[str]:
    """Say what looks as if the column was not one of classes, or as if some rows had none."""
    path, rows = train.table.path, len(train.keys)
    if len(names) == 1:
        return [f"{path}: all labels are {shown(next(iter(names)))}; {_TWO_CLASSES}"]
    if len(names) > max(20, rows // 2):
        numbers = all(re.fullmatch(r"-?\d+(\.\d+)?", key) for key in names)
        looks = f", all of them numbers: {REGRESSION}" if numbers else ""
        return [f"{path}: {len(names)} classes in {rows} rows{looks}; is the label column the right one?"]
    for sign in "|;,":
        several = [key for key in names if sign in key]
        parts = {part.strip() for key in names for part in key.split(sign)}
        if several and len(parts) < len(names) and (sign == "|" or parts & names.keys()):
            return [f"{path}: labels such as {shown(several[0])} name several classes: {MULTI_LABEL}"]
    if wishes.are_strict:
        return []
    marks = [(key, sum(n for k, n in counts.items() if k.strip() == key)) for key in names if key in NO_LABEL_MARKS]
    return [
        f"{path}: {n} rows have the label {shown(key)}, which looks like a mark for rows without a label; "
        f"--skip-labels={key} leaves them out, --strict-labels makes a class of them"
        for key, n in marks
    ]


def _unknown(key: str, what: str, known: Sequence[str]) -> str:
    skip = f"; --skip-labels={key} leaves such rows out" if key.strip() in (*NO_LABEL_MARKS, SECRET_LABEL) else ""
    return f"label {shown(key)} {what}; {nearest(key, known)}{skip}"


def _kind(kind: type) -> str:
    return {str: "text", int: "an integer", bool: "true or false"}[kind]


def _positive_last(names: dict[str, str], positive: str, problems: list[str]) -> dict[str, str]:
    """The two classes with the positive one last, since binary F1 counts class 1."""
    if positive not in names.values():
        problems.append(f"positive_label: no class {shown(positive)}; {nearest(positive, names.values())}")
    elif len(names) > 2:
        problems.append(f"positive_label is for two classes, but the data has {len(names)}")
    return dict(sorted(names.items(), key=lambda item: item[1] == positive))
