"""From a data set's name to checked rows: open it, choose columns, read labels and texts, cut missing splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainable.data.column_choice import ChosenColumns, choose_columns, has_columns
from trainable.data.file_checks import FileProblems, is_unicode
from trainable.data.formats import read_table
from trainable.data.labels import SINGLE_LABEL, Classes, LabelReader, classes_in
from trainable.data.sources import Source, open_source
from trainable.data.splits import SPLITS, Split, cut_missing, first_rows, note_leaks
from trainable.data.tables import Table
from trainable.data.unpacking import UTF_8
from trainable.errors import UserError, shown


@dataclass(frozen=True)
class DataRequest:
    """Which data set to load, and how to read it."""

    dataset: str
    """A local folder, a file, or a hub name (`glue/mrpc`, `namespace/name`, `namespace/name/config`)."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that are a split, by the split's name: validation, test."""
    encoding: str = UTF_8
    """Of the files that are text."""
    text_columns: tuple[str, ...] | None = None
    """One or two names; None means guess."""
    label_column: str | None = None
    """None means guess."""
    split_names: tuple[str, ...] = SPLITS
    """What the data set calls train, validation and test."""
    validation_fraction: float = 0.15
    """The fraction of train that is cut off as validation if that split is missing, in (0, 0.5]."""
    test_fraction: float = 0.15
    """The same for test."""
    train_rows: int | None = None
    """Use so many training rows, chosen by a seeded shuffle; None means all."""
    validation_rows: int | None = None
    """The same for validation."""
    strict_labels: bool = False
    """Whether labels that differ only in blanks around them or in case are different classes."""
    skip_labels: tuple[str, ...] = ()
    """Rows with one of these labels are left out."""
    skip_blank_rows: bool = False
    """Whether rows in which a text or the label is blank are left out."""
    positive_label: str | None = None
    """The class that binary F1 counts; None means the last one in order."""
    seed: int = 0
    """Of cuts and of the shuffle."""


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
    notes: tuple[str, ...] = ()
    """Sentences that the user should read, such as which split was cut from train."""
    fingerprint: str = ""
    """SHA-256 of everything above but the notes. It does not depend on the files' format."""


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
    source = open_source(request.dataset, request.split_names, problems, request.files, request.encoding)
    notes += source.notes
    if not source.tables:
        raise UserError(problems)
    leader = next(iter(source.tables.values()))  # train, or the first split that could be read
    columns = choose_columns(leader, request.text_columns, request.label_column, problems)
    if columns is None:
        raise UserError(problems)
    tables = _usable_tables(source, columns, notes, problems)
    label_columns = {name: reader.read(table, columns.label, problems) for name, table in tables.items()}
    texts = {name: _texts(table, columns.texts, problems) for name, table in tables.items()}
    if "train" not in tables:
        raise UserError(problems)
    if "test" in label_columns and reader.are_secret(label_columns["test"], label_columns["train"]):
        notes.append("the labels of the test split are hidden (-1)")
        del label_columns["test"], texts["test"]
    known_names = tuple(source.class_names.get(columns.label, ())) or None
    of_classes: list[str] = []  # told after what is wrong with single rows
    classes = reader.classes(label_columns["train"], known_names, request.positive_label, of_classes)
    if classes is None:
        raise UserError(problems + of_classes)
    labels = {name: reader.encode(column, classes, problems) for name, column in label_columns.items()}
    problems += of_classes
    if problems:
        raise UserError(problems)
    splits = _three_splits({name: Split(texts[name], labels[name]) for name in labels}, request, classes, notes)
    data = TextData(columns.texts, columns.label, classes.names, splits, tuple(notes))
    return replace(data, fingerprint=_fingerprint(data))


def load_file(
    path: Path, data: TextData, problems: list[str], reader: LabelReader = SINGLE_LABEL, encoding: str = UTF_8
) -> Split | None:
    """Read one more labelled file, with the columns and classes of `data`.

    Returns:
        Its rows, or None if `problems` is not empty.
    """
    table = read_table(path, problems, encoding)
    if table is None or not has_columns(table, (*data.text_columns, data.label_column), problems):
        return None
    texts = _texts(table, data.text_columns, problems)
    column = reader.read(table, data.label_column, problems)
    classes = Classes(data.label_names, data.label_names, "is none of the model's classes")
    labels = reader.encode(column, classes, problems)
    return None if problems else Split(texts, labels)


def _usable_tables(source: Source, columns: ChosenColumns, notes: list[str], problems: list[str]) -> dict[str, Table]:
    """The tables that have the chosen columns. Of the hub's, rows without a text are left out."""
    tables = {name: table for name, table in source.tables.items() if has_columns(table, columns.names, problems)}
    if not source.is_local:
        tables = {name: _without_blanks(table, columns.texts, notes) for name, table in tables.items()}
        problems += [f"{table.path}: has no rows" for table in tables.values() if len(table) == 0]
    return tables


def _without_blanks(table: Table, columns: Sequence[str], notes: list[str]) -> Table:
    """The rows that have all their texts.

    Blank texts are no error in a data set of the hub, which its user can't correct: glue/qqp's train has two such rows.
    """
    rows = zip(*(table.columns[name] for name in columns), strict=True)
    kept = [i for i, cells in enumerate(rows) if all(cell is not None and str(cell).strip() for cell in cells)]
    if len(kept) == len(table):
        return table
    notes.append(f"{table.path}: {len(table) - len(kept)} of {len(table)} rows have a blank text and were left out")
    columns_kept = {name: column.take(kept) for name, column in table.columns.items()}
    return Table(table.path, columns_kept, table.places.take(kept))


def _texts(table: Table, columns: Sequence[str], problems: list[str]) -> tuple[Sequence[str], ...]:
    """The text columns; a problem is appended for each cell that is no text."""
    found = FileProblems(table.path)
    for name in columns:
        for place, cell in zip(table.places, table.columns[name], strict=True):
            if isinstance(cell, list):
                found.add(None, f"column {shown(name)} holds lists ({shown(cell)}, ...), not text")
                break
            if not isinstance(cell, str):
                found.add(place, f"column {shown(name)} holds {shown(cell)}, not text")
            elif not cell.strip():
                found.add(place, f"column {shown(name)} is {'blank' if cell else 'empty'}")
            elif not is_unicode(cell):
                found.add(place, f"column {shown(name)} holds half a surrogate pair")
    problems += found.take()
    return tuple(table.columns[name] for name in columns)


def _three_splits(
    splits: Mapping[str, Split], request: DataRequest, classes: Classes, notes: list[str]
) -> dict[str, Split]:
    """Train, validation and test: missing ones are cut from train, then train is cut to `train_rows`."""
    fractions = {"validation": request.validation_fraction, "test": request.test_fraction}
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
    note_leaks(cut, notes)
    return cut


def _fingerprint(data: TextData) -> str:
    digest = hashlib.sha256()
    digest.update(repr((data.text_columns, data.label_column, data.label_names)).encode())
    for name in SPLITS:
        split = data.splits[name]
        for column in (*split.texts, split.labels):
            for cell in map(str, column):
                raw = cell.encode()
                digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()
