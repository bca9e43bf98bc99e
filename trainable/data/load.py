"""From a data set's name to checked rows: open it, choose columns, read labels and texts, cut missing splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainable.data.column_choice import ChosenColumns, choose_columns, has_columns
from trainable.data.column_kinds import SAMPLE_ROWS
from trainable.data.file_checks import FileProblems, is_unicode
from trainable.data.folders import ALIASES, NO_SPLIT
from trainable.data.formats import AS_THEY_ARE, FileOptions, read_table
from trainable.data.labels import (
    NO_LABEL_MARKS,
    SINGLE_LABEL,
    SKIP_BLANK_ROWS,
    Classes,
    LabelReader,
    LabelWishes,
    classes_in,
    is_blank,
)
from trainable.data.sources import Source, open_source
from trainable.data.splits import SPLITS, Split, cut_missing, first_rows, note_leaks
from trainable.data.tables import Table
from trainable.data.unpacking import UTF_8
from trainable.errors import UserError, listed, nearest, shown


@dataclass(frozen=True)
class DataRequest:
    """Which data set to load, and how to read it."""

    dataset: str
    """A local folder, a file, or a hub name (`glue/mrpc`, `namespace/name`, `namespace/name/config`)."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that are a split, by the split's name: validation, test."""
    encoding: str = UTF_8
    """Of the files that are text."""
    column_names: tuple[str, ...] | None = None
    """Of CSV and TSV files without a header; None means that their first line is the header."""
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
    notes += _split_columns(leader, columns) if len(source.tables) == 1 else []
    tables = _usable_tables(source, columns, request, notes, problems)
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


def _split_columns(table: Table, columns: ChosenColumns) -> list[str]:
    """Tell of a column that says of each row which split it belongs to; its file is read as a single split."""
    known = {alias for aliases in ALIASES.values() for alias in aliases}
    found = []
    for name in table.columns.keys() - set(columns.names):
        values = {str(cell).strip().lower() for cell in table.columns[name][:SAMPLE_ROWS]}
        if len(values) > 1 and values <= known:
            found.append(
                f"{table.path}: column {shown(name)} says {listed(sorted(values))}, and is not used: all rows are "
                "train, and the other splits are cut from them. For its splits, make a file of each"
            )
    return found


def _is_id(key: str, names: Sequence[str]) -> bool:
    return key.isdigit() and int(key) < len(names)


def _usable_tables(
    source: Source, columns: ChosenColumns, request: DataRequest, notes: list[str], problems: list[str]
) -> dict[str, Table]:
    """The tables that have the chosen columns, without the rows that are to be left out."""
    tables = {}
    for name, table in source.tables.items():
        is_test = name == "test" and columns.label in source.tables.get("train", table).columns
        if is_test and (why := _has_no_labels(table, columns.label, request.strict_labels)):
            notes.append(f"{table.path}: {why}, so the test split is not scored on")
        elif has_columns(table, columns.names, problems):
            tables[name] = table
    # Blank texts are no error in a data set of the hub, which its user can't correct: glue/qqp's train has two.
    blank = columns.names if request.skip_blank_rows else () if source.is_local else columns.texts
    names = source.class_names.get(columns.label, ())
    problems += _unknown_labels(list(tables.values()), columns.label, request.skip_labels, names)
    for name, table in tables.items():
        if blank:
            what = "have a blank text or label" if request.skip_blank_rows else "have a blank text"
            tables[name] = _without(table, _blank_rows(table, blank), what, notes)
        if request.skip_labels:
            rows = _rows_labelled(tables[name], columns.label, request.skip_labels, names)
            tables[name] = _without(tables[name], rows, f"have the label {', '.join(request.skip_labels)}", notes)
    problems += [f"{table.path}: has no rows" for table in tables.values() if len(table) == 0]
    return tables


def _has_no_labels(table: Table, label: str, are_strict: bool) -> str:
    """Why a test split has no labels at all, as a predicate; empty if it has some."""
    marks = () if are_strict else NO_LABEL_MARKS
    if label not in table.columns:
        empty = table.left_out.get(label) == "null"
        return f"has no label in column {shown(label)}" if empty else f"has no column {shown(label)}"
    empty = all(is_blank(cell) or str(cell).strip() in marks for cell in table.columns[label])
    return f"has no label in column {shown(label)}" if empty else ""


def _blank_rows(table: Table, columns: Sequence[str]) -> set[int]:
    rows = zip(*(table.columns[name] for name in columns), strict=True)
    return {i for i, cells in enumerate(rows) if any(map(is_blank, cells))}


def _unknown_labels(tables: Sequence[Table], column: str, labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """Say which labels that are to be left out no row has."""
    unknown = [label for label in labels if not any(_rows_labelled(table, column, [label], names) for table in tables)]
    known = {str(cell).strip() for table in tables for cell in table.columns[column][:1000]} | set(names)
    return [f"--skip-labels {label}: no row has this label; {nearest(label, known)}" for label in unknown]


def _rows_labelled(table: Table, column: str, labels: Sequence[str], names: Sequence[str]) -> set[int]:
    """The rows with one of these labels, which are written as the cells have them or as the class is named."""
    wanted = {label.strip() for label in labels}
    wanted |= {str(i) for i, name in enumerate(names) if name in wanted}
    return {i for i, cell in enumerate(table.columns[column]) if str(cell).strip().removesuffix(".0") in wanted}


def _without(table: Table, rows: set[int], why: str, notes: list[str]) -> Table:
    """A table without some of its rows."""
    if not rows:
        return table
    notes.append(f"{table.path}: {len(rows)} of {len(table)} rows {why} and were left out")
    kept = [i for i in range(len(table)) if i not in rows]
    columns = {name: column.take(kept) for name, column in table.columns.items()}
    return replace(table, columns=columns, places=table.places.take(kept))


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
        cut["validation"] = first_rows(cut["validation"], request.validation_rows, request.seed)
    note_leaks(cut, notes)
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
