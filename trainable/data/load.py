"""From a data set's name to checked rows: open it, choose columns, read labels and texts, cut missing splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainable.data.column_choice import choose_columns, has_columns
from trainable.data.file_checks import FileProblems, is_unicode
from trainable.data.folders import NO_SPLIT
from trainable.data.formats import AS_THEY_ARE, FileOptions, read_table
from trainable.data.labels import (
    SINGLE_LABEL,
    SKIP_BLANK_ROWS,
    Classes,
    LabelReader,
    LabelWishes,
    classes_in,
)
from trainable.data.request import DataRequest
from trainable.data.rows import split_columns, usable_tables
from trainable.data.sources import open_source
from trainable.data.splits import SPLITS, Split, cut_missing, first_rows, stratified_rows
from trainable.data.tables import Table
from trainable.errors import UserError, shown


@dataclass(frozen=True)
class TextData:
    """A data set of which every row was checked."""

    text_columns: tuple[str, ...]
    """Names, one or two."""
    label_column: str
    label_names: tuple[str, ...]
    """Class names by id."""
    splits: Mapping[str, Split]
    """By name: train, validation, test."""
    cut: tuple[str, ...] = ()
    """The splits that were cut from train."""
    notes: tuple[str, ...] = ()
    """Sentences that the user should read, such as which split was cut from train."""
    fingerprint: str = ""
    """SHA-256 of columns, classes and rows. It does not depend on the files' format."""


def load_data(request: DataRequest, reader: LabelReader = SINGLE_LABEL) -> TextData:
    """Load a data set and check every row of it.

    Args:
        request: What to load.
        reader: How the task reads labels.

    Raises:
        UserError: With every problem of every file at once.
    """
    problems: list[str] = []
    notes: list[str] = []
    options = FileOptions(request.encoding, request.column_names)
    source = open_source(request.dataset, request.split_names, problems, request.files, options)
    notes += source.notes
    if not source.tables:
        raise UserError(problems)
    leader = next(iter(source.tables.values()))  # train, or the first split that could be read
    columns = choose_columns(leader, request.text_columns, request.label_column, notes, problems)
    if columns is None:
        raise UserError(problems)
    notes += split_columns(leader, columns) if len(source.tables) == 1 else []
    tables = usable_tables(source, columns, request, notes, problems)
    wishes = LabelWishes(request.positive_label, request.strict_labels, request.skip_labels)
    label_columns = {name: reader.read(table, columns.label, notes, problems) for name, table in tables.items()}
    texts = {name: _texts(table, columns.texts, problems) for name, table in tables.items()}
    if "train" not in tables:
        raise UserError(problems)
    if "test" in label_columns and reader.are_secret(label_columns["test"], label_columns["train"]):
        notes.append("the labels of the test split are hidden (-1)")
        del label_columns["test"], texts["test"]
    known_names = tuple(source.class_names.get(columns.label, ())) or None
    of_classes: list[str] = []  # told after what is wrong with single rows
    classes = reader.classes(label_columns["train"], known_names, wishes, notes, of_classes)
    if classes is None:
        raise UserError(problems + of_classes)
    labels = {name: reader.encode(column, classes, problems) for name, column in label_columns.items()}
    problems += of_classes
    if problems:
        raise UserError(problems)
    splits = _three_splits({name: Split(texts[name], labels[name]) for name in labels}, request, classes, notes)
    cut = tuple(name for name in splits if name not in labels)
    data = TextData(columns.texts, columns.label, classes.names, splits, cut, tuple(notes))
    return replace(data, fingerprint=_fingerprint(data))


def load_file(
    path: Path,
    data: TextData,
    problems: list[str],
    reader: LabelReader = SINGLE_LABEL,
    options: FileOptions = AS_THEY_ARE,
) -> Split | None:
    """Read one more labelled file, with the columns and classes of `data`.

    Returns:
        Its rows, or None if `problems` is not empty.
    """
    table = read_table(path, problems, options)
    if table is None or not has_columns(table, (*data.text_columns, data.label_column), problems):
        return None
    wrong: list[str] = []
    texts = _texts(table, data.text_columns, wrong)
    column = reader.read(table, data.label_column, [], wrong)
    if names := table.class_names.get(data.label_column):
        column = replace(column, keys=[names[int(key)] if _is_id(key, names) else key for key in column.keys])
    classes = Classes(data.label_names, data.label_names, "is none of the model's classes")
    labels = reader.encode(column, classes, wrong)
    problems += [problem.replace(SKIP_BLANK_ROWS, "") for problem in wrong]  # here all rows are scored
    return None if problems else Split(texts, labels)


def _is_id(key: str, names: Sequence[str]) -> bool:
    return key.isdigit() and int(key) < len(names)


def _texts(table: Table, columns: Sequence[str], problems: list[str]) -> tuple[Sequence[str], ...]:
    """The text columns; a problem is appended for each cell that is no text."""
    found = FileProblems(table.path)
    for name in columns:
        for place, cell in zip(table.places, table.columns[name], strict=True):
            if isinstance(cell, list):
                found.add(None, f"column {shown(name)} holds lists ({shown(cell)}, ...), not text")
                break
            if not isinstance(cell, str):
                hint = SKIP_BLANK_ROWS if cell is None else ""
                found.add(place, f"column {shown(name)} holds {shown(cell)}, not text", hint)
            elif not cell.strip():
                found.add(place, f"column {shown(name)} is {'blank' if cell else 'empty'}", SKIP_BLANK_ROWS)
            elif not is_unicode(cell):
                found.add(place, f"column {shown(name)} holds half a surrogate pair")
    problems += found.take()
    return tuple(table.columns[name] for name in columns)


def _three_splits(
    splits: Mapping[str, Split], request: DataRequest, classes: Classes, notes: list[str]
) -> dict[str, Split]:
    """Train, validation and test: missing ones are cut from train, then train and validation are cut to size."""
    fractions = {"validation": request.validation_fraction, "test": request.test_fraction}
    if request.split_names[2] == NO_SPLIT:
        del fractions["test"]
    try:
        cut = cut_missing(splits, fractions, request.seed, notes)
    except ValueError as error:
        raise UserError([f"{request.dataset}: {error}"]) from None
    train = cut["train"]
    if request.train_rows is not None and request.train_rows < len(train):
        cut["train"] = first_rows(train, request.train_rows, request.seed)
        lost = classes_in(train.labels) - classes_in(cut["train"].labels)
        if lost:
            names = ", ".join(repr(classes.names[i]) for i in sorted(lost))
            raise UserError([f"--train-rows {request.train_rows} leaves no row of class {names}; use more rows"])
    if request.validation_rows is not None and request.validation_rows < len(cut["validation"]):
        cut["validation"] = stratified_rows(cut["validation"], request.validation_rows, request.seed)
    _note_absent_classes(cut, classes, notes)
    return cut


def _note_absent_classes(splits: Mapping[str, Split], classes: Classes, notes: list[str]) -> None:
    """Tell which classes of train have no row in validation or test: no score says anything of them."""
    counts = Counter(i for label in splits["train"].labels for i in classes_in([label]))
    absent: dict[tuple[str, ...], list[str]] = {}
    for i in sorted(counts):
        where = tuple(name for name in ("validation", "test") if name in splits and i not in _present(splits, name))
        if where:
            rows = f"{counts[i]} row{'' if counts[i] == 1 else 's'} in train"
            absent.setdefault(where, []).append(f"{classes.names[i]} ({rows})")
    for where, names in absent.items():
        has = "has no row of class" if len(where) == 1 else "have no row of class"
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        notes.append(f"{' and '.join(where)} {has} {', '.join(names[:5])}{more}: no score says anything of it")


def _present(splits: Mapping[str, Split], name: str) -> set[int]:
    return classes_in(splits[name].labels)


def _fingerprint(data: TextData) -> str:
    digest = hashlib.sha256()
    digest.update(repr((data.text_columns, data.label_column, data.label_names)).encode())
    for split in (data.splits[name] for name in SPLITS if name in data.splits):
        for column in (*split.texts, split.labels):
            for cell in map(str, column):
                raw = cell.encode()
                digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()
