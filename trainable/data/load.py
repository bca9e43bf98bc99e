"""From a data set's name to checked texts and class ids: columns found, labels frozen, missing splits cut."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainable.data.files import SUFFIXES, FileProblems, Table, is_unicode, read_table, table_from_arrow
from trainable.data.labels import SINGLE_LABEL, Classes, LabelReader, classes_in
from trainable.data.splits import SPLITS, Split, cut_missing, first_rows, note_leaks
from trainable.errors import UserError, listed, nearest, shown

LABEL_NAMES = ("label", "labels", "label_ids", "class", "target", "category", "y")
NO_TEXT_NAMES = ("idx", "id", "index", "guid", "uid")


@dataclass(frozen=True)
class DataRequest:
    """Which data, and how to read it.

    dataset: a local folder or a hub name (`glue/mrpc`, `namespace/name`, `namespace/name/config`)
    text_columns, label_column: None means guess
    split_names: what the data set calls train, validation and test
    validation_fraction, test_fraction: share of train that is cut off where that split is missing, in (0, 0.5]
    train_rows: use this many training rows after a seeded shuffle; None means all
    positive_label: the class that binary F1 counts, None means the last one in order
    """

    dataset: str
    text_columns: tuple[str, ...] | None = None
    label_column: str | None = None
    split_names: tuple[str, ...] = SPLITS
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    train_rows: int | None = None
    positive_label: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class TextData:
    """A data set that was checked whole.

    label_names: class names by id; splits: train, validation, test; notes: what the user should know of it
    """

    text_columns: tuple[str, ...]
    label_column: str
    label_names: tuple[str, ...]
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()
    fingerprint: str = ""


def load_data(request: DataRequest, reader: LabelReader = SINGLE_LABEL) -> TextData:
    """Read and check everything. Raises UserError with every problem of every file at once."""
    problems: list[str] = []
    notes: list[str] = []
    tables, class_names = _open(request, problems)
    columns = _find_columns(request, tables, problems) if tables else None
    if columns is None:
        raise UserError(problems)
    text_columns, label_column = columns
    wanted = (*text_columns, label_column)
    tables = {name: table for name, table in tables.items() if _has_columns(table, wanted, problems)}
    if not is_folder(request.dataset):
        tables = {name: _without_blanks(table, text_columns, notes) for name, table in tables.items()}
        problems += [f"{table.path}: has no rows" for table in tables.values() if len(table) == 0]
    labels = {name: reader.read(table, label_column, problems) for name, table in tables.items()}
    texts = {name: _texts(table, text_columns, problems) for name, table in tables.items()}
    if "train" not in tables:
        raise UserError(problems)
    if "test" in labels and reader.are_secret(labels["test"], labels["train"]):
        notes.append("the labels of the test split are hidden (-1)")
        del labels["test"], texts["test"]
    of_classes: list[str] = []  # told after what is wrong with single rows
    classes = reader.classes(labels["train"], class_names, request.positive_label, of_classes)
    if classes is None:
        raise UserError(problems + of_classes)
    ids = {name: reader.encode(column, classes, problems) for name, column in labels.items()}
    problems += of_classes
    if problems:
        raise UserError(problems)
    names = classes.names
    splits = {name: Split(texts[name], ids[name]) for name in ids}
    fractions = {"validation": request.validation_fraction, "test": request.test_fraction}
    try:
        splits = cut_missing(splits, fractions, request.seed, notes)
    except ValueError as error:
        raise UserError([f"{request.dataset}: {error}"]) from None
    if request.train_rows is not None and request.train_rows < len(splits["train"]):
        before = classes_in(splits["train"].labels)
        splits["train"] = first_rows(splits["train"], request.train_rows, request.seed)
        lost = [repr(names[i]) for i in sorted(before - classes_in(splits["train"].labels))]
        if lost:
            raise UserError(
                [f"--train-rows {request.train_rows} leaves no row of class {', '.join(lost)}; use more rows"]
            )
    note_leaks(splits, notes)
    data = TextData(text_columns, label_column, names, splits, tuple(notes))
    return replace(data, fingerprint=_fingerprint(data))


def load_file(path: Path, data: TextData, problems: list[str], reader: LabelReader = SINGLE_LABEL) -> Split | None:
    """Read one more labelled file in the columns and classes of `data`."""
    table = read_table(path, problems)
    if table is None or not _has_columns(table, (*data.text_columns, data.label_column), problems):
        return None
    texts = _texts(table, data.text_columns, problems)
    column = reader.read(table, data.label_column, problems)
    classes = Classes(data.label_names, data.label_names, "is none of the model's classes")
    labels = reader.encode(column, classes, problems)
    return None if problems else Split(texts, labels)


# Where the rows come from


def _open(request: DataRequest, problems: list[str]) -> tuple[dict[str, Table], tuple[str, ...] | None]:
    """Tables by split, and the class names where the hub knows them."""
    # os.path's functions say no where pathlib's raise: ~ of an unknown user, a name that is too long.
    folder = Path(os.path.expanduser(request.dataset))
    if is_folder(request.dataset):
        try:
            return _open_folder(folder, request, problems), None
        except OSError as error:
            problems.append(f"--dataset {folder}: can't be read: {error.strerror or error}")
            return {}, None
    return _open_hub(request, problems)


def is_folder(dataset: str) -> bool:
    """Whether a data set's name means a folder; any other name means the hub."""
    return os.path.exists(os.path.expanduser(dataset)) or dataset.startswith(("/", "./", "../", "~"))


def _open_folder(folder: Path, request: DataRequest, problems: list[str]) -> dict[str, Table]:
    if not os.path.isdir(folder):
        there = "is a file; give the folder that holds train"
        what = there if os.path.exists(folder) else "no such folder; it holds train"
        problems.append(f"--dataset {folder}: {what}, validation and test as {', '.join(SUFFIXES)}")
        return {}
    tables = {}
    here = sorted(p.name for p in folder.iterdir())
    for split, wanted in zip(SPLITS, request.split_names, strict=True):
        # A link to nothing is there too: its split must not be taken for one that is missing.
        paths = [folder / f"{wanted}{suffix}" for suffix in SUFFIXES if os.path.lexists(folder / f"{wanted}{suffix}")]
        unread = [n for n in here if not paths and _is_meant(n, wanted) and not os.path.isdir(folder / n)]
        if len(paths) > 1:
            problems.append(f"{folder}: {' and '.join(p.name for p in paths)} are both there; keep one")
        elif paths:
            table = read_table(paths[0], problems)
            if table is not None:
                tables[split] = table
        elif unread:
            problems.append(f"{folder}: {', '.join(unread[:8])} can't be read as {wanted}; {_WANTED.format(wanted)}")
        elif split == "train" or wanted != split:
            problems.append(f"{folder}: {_WANTED.format(wanted)}; it holds {', '.join(here[:8]) or 'nothing'}")
    return tables


_WANTED = "no file {}.parquet, .csv, .tsv or .jsonl"


def _is_meant(name: str, split: str) -> bool:
    """Whether a file that is not read looks like a split: test.txt, Test.csv, test.csv.gz."""
    return name.partition(".")[0].lower() == split.lower()


def hub_name(dataset: str) -> tuple[str, str | None]:
    """Repository and configuration of a hub data set's name: `glue/mrpc` is `mrpc` of `nyu-mll/glue`."""
    parts = dataset.split("/")
    if parts[0] == "glue" and len(parts) == 2:
        return "nyu-mll/glue", parts[1]
    if len(parts) == 3:
        return f"{parts[0]}/{parts[1]}", parts[2]
    return dataset, None


def _open_hub(request: DataRequest, problems: list[str]) -> tuple[dict[str, Table], tuple[str, ...] | None]:
    from trainable.hub.download import HubError, class_names, load_hub_dataset

    repository, config = hub_name(request.dataset)
    try:
        loaded = load_hub_dataset(repository, config)
    except HubError as error:
        problems.append(f"--dataset {request.dataset}: {error}")
        return {}, None
    tables = {}
    for split, wanted in zip(SPLITS, request.split_names, strict=True):
        if wanted in loaded:
            path = Path(f"{request.dataset} ({wanted})")
            found = FileProblems(path)
            table = table_from_arrow(loaded[wanted], path, found)
            if not len(loaded[wanted]):
                found.add(None, "has no rows")
            problems += found.take()
            if table is not None and not found.take():
                tables[split] = table
        elif split == "train" or wanted != split:
            problems.append(f"{request.dataset}: no split {shown(wanted)}; {nearest(wanted, loaded)}")
    if "train" not in tables:
        return {}, None
    label = request.label_column or _guess_label(list(tables["train"].columns))
    names = class_names(loaded[request.split_names[0]]).get(label or "")
    return tables, tuple(names) if names else None


def _without_blanks(table: Table, columns: Sequence[str], notes: list[str]) -> Table:
    """A hub data set's rows that have all their texts: its user can't mend the others (glue/qqp's train has two)."""
    rows = zip(*(table.columns[name] for name in columns), strict=True)
    kept = [i for i, cells in enumerate(rows) if all(cell is not None and str(cell).strip() for cell in cells)]
    if len(kept) == len(table):
        return table
    notes.append(f"{table.path}: {len(table) - len(kept)} of {len(table)} rows have a blank text and were left out")
    columns_kept = {name: column.take(kept) for name, column in table.columns.items()}
    return Table(table.path, columns_kept, table.places.take(kept))


# Which columns


def _guess_label(columns: Sequence[str]) -> str | None:
    named = [name for name in columns if name.lower() in LABEL_NAMES]
    return named[0] if len(named) == 1 else None


def _find_columns(
    request: DataRequest, tables: Mapping[str, Table], problems: list[str]
) -> tuple[tuple[str, ...], str] | None:
    leader = next(iter(tables.values()))  # train, or the first split that could be read
    columns = list(leader.columns)
    label = request.label_column or _guess_label(columns)
    if label is None:
        problems.append(f"{leader.path}: which column is the label? Name it with --label-column; {_listed(columns)}")
    text = request.text_columns
    if text is None and label in columns:
        text = _guess_text({name: cells for name, cells in leader.columns.items() if name != label})
        if text is None:
            problems.append(
                f"{leader.path}: which columns are the texts? Name one or two with --text-columns; {_listed(columns)}"
            )
            return None
    if label is None or text is None:
        _has_columns(leader, [*(text or ()), *([label] if label else [])], problems)
        return None
    if not 1 <= len(text) <= 2 or len(set(text)) != len(text) or label in text:
        problems.append(
            f"--text-columns takes one or two columns other than the label's, but got {','.join(text)} (label: {label})"
        )
        return None
    return text, label


def _listed(columns: Sequence[str]) -> str:
    return f"there are {listed(columns)}" if columns else "there are none"


def _guess_text(columns: Mapping[str, Sequence[Any]]) -> tuple[str, ...] | None:
    """The one or two columns of words; else those that would be but for cells without text, which are told later."""
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


def _has_columns(table: Table, wanted: Sequence[str], problems: list[str]) -> bool:
    missing = [name for name in wanted if name not in table.columns]
    for name in missing:
        if name in table.left_out:
            problems.append(f"{table.path}: column {shown(name)} holds {table.left_out[name]}, not text or integers")
        else:
            problems.append(f"{table.path}: no column {shown(name)}; {nearest(name, table.columns)}")
    return not missing


# Texts and labels


def _texts(table: Table, columns: Sequence[str], problems: list[str]) -> tuple[Sequence[str], ...]:
    found = FileProblems(table.path)
    for name in columns:
        for place, cell in zip(table.places, table.columns[name], strict=True):
            if not isinstance(cell, str):
                found.add(place, f"column {shown(name)} holds {shown(cell)}, not text")
            elif not cell.strip():
                found.add(place, f"column {shown(name)} is {'blank' if cell else 'empty'}")
            elif not is_unicode(cell):
                found.add(place, f"column {shown(name)} holds half a surrogate pair")
    problems += found.take()
    return tuple(table.columns[name] for name in columns)


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
