"""Open a data set, a file, a local folder or one of the hub, as one table for each split."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainable.data.arrow_tables import class_names, table_from_arrow
from trainable.data.class_folders import class_folders, read_class_folder
from trainable.data.file_checks import FileProblems
from trainable.data.folders import ALIASES, NO_SPLIT, Found, find_files, match_splits
from trainable.data.formats import AS_THEY_ARE, KNOWN, FileOptions, read_table, suffix_of
from trainable.data.missing_paths import local_hint, what_is_there
from trainable.data.splits import SPLITS
from trainable.data.tables import Table, joined
from trainable.errors import listed, nearest, shown

_DATASET_DICT = "dataset_dict.json"  # DatasetDict.save_to_disk writes it
_SAVED = "state.json"  # Dataset.save_to_disk writes it, one for each split


@dataclass(frozen=True)
class Source:
    """A data set that was opened, before its labels are read."""

    tables: Mapping[str, Table]
    """By split, in the order train, validation, test. A split that is missing or can't be read has none."""
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For label columns whose classes the hub or a file names: the names by id."""
    is_local: bool = True
    """Whether it is of the user's own files, which can be corrected."""
    notes: tuple[str, ...] = ()
    """Which file was taken for what, and what was left out, a sentence each."""


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a folder, and how its files are read."""

    split_names: tuple[str, ...]
    """What the user calls train, validation and test."""
    files: Mapping[str, Path]
    """The splits whose files the user names; none is looked for."""
    options: FileOptions
    """What the user says about files that are text."""


def open_source(
    dataset: str,
    split_names: Sequence[str],
    problems: list[str],
    files: Mapping[str, str] | None = None,
    options: FileOptions = AS_THEY_ARE,
) -> Source:
    """Open a data set; everything that is wrong is appended to `problems`.

    Args:
        dataset: A local folder, a file, or a hub name.
        split_names: The names of its train, validation and test splits.
        problems: Sentences are appended here.
        files: Files that are a split whatever the data set holds, by the split's name.
        options: What the user says about files that are text.
    """
    files = files or {}
    if split_names[2] == NO_SPLIT and "test" in files:
        problems.append("give --test FILE or --test-split none, not both")
    # os.path answers where pathlib raises: for ~ of an unknown user, and for names that are too long.
    named = {split: Path(os.path.expanduser(path)) for split, path in files.items()}
    if not is_folder(dataset):
        source = _open_hub(dataset, split_names, problems, named)
    else:
        wanted = Wanted(tuple(split_names), named, options)
        source = _open_local(Path(os.path.expanduser(dataset)), wanted, problems)
    tables = dict(source.tables)
    for split, path in named.items():
        table = read_table(path, problems, options)
        if table is not None:
            tables[split] = table
    notes = [note for table in tables.values() for note in table.notes]
    names = {**next((table.class_names for table in tables.values()), {}), **source.class_names}
    ordered = {split: tables[split] for split in SPLITS if split in tables}
    return Source(ordered, names, source.is_local, (*source.notes, *notes))


def is_folder(dataset: str) -> bool:
    """Whether a data set's name means a local folder or file; every other name means the hub."""
    is_path = dataset.startswith(("/", "./", "../", "~")) or bool(suffix_of(dataset))
    return is_path or os.path.exists(os.path.expanduser(dataset))


def _open_local(path: Path, wanted: Wanted, problems: list[str]) -> Source:
    try:
        if os.path.isdir(path):
            return _open_folder(path, wanted, problems)
        if not os.path.exists(path):
            there = what_is_there(path)
            problems.append(f"--dataset {path}: no such file or folder{f'; {there}' if there else ''}")
            return Source({})
    except OSError as error:
        problems.append(f"--dataset {path}: can't be read: {error.strerror or error}")
        return Source({})
    table = read_table(path, problems, wanted.options)
    return Source({} if table is None else {"train": table})


def _open_folder(folder: Path, wanted: Wanted, problems: list[str]) -> Source:
    """Open a folder as what it looks like: saved by `datasets`, files, folders of splits or classes, a clone."""
    if (folder / _DATASET_DICT).is_file() or (folder / _SAVED).is_file():
        return _open_saved(folder, wanted, problems)
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    has_files = any(suffix_of(n) or (_is_split_like(n) and not (folder / n).is_dir()) for n in os.listdir(folder))
    notes: list[str] = []
    if not has_files and inside:
        by_split = match_splits([path.name for path in inside], wanted.split_names, notes, problems, str(folder))
        by_split = {split: name for split, name in by_split.items() if split not in wanted.files}
        if problems:
            return Source({})
        if "train" in by_split or ("train" in wanted.files and by_split):
            return _open_split_folders(folder, by_split, wanted, notes, problems)
        if len(class_folders(folder)) > 1:
            table = read_class_folder(folder, problems, wanted.options.encoding)
            return Source({} if table is None else {"train": table})
        deeper = [path for path in inside if _may_hold_data(path)]
        if len(deeper) == 1:
            opened = _open_folder(deeper[0], wanted, problems)
            return Source(opened.tables, opened.class_names, notes=(*notes, *opened.notes))
        if deeper:
            several = listed([path.name for path in deeper])
            problems.append(f"--dataset {folder}: holds no data files, but {several} do; give one of these folders")
            return Source({})
    return _open_files(find_files(folder, wanted.split_names, list(wanted.files)), wanted, problems)


def _is_split_like(name: str) -> bool:
    return name.partition(".")[0].lower() in {alias for aliases in ALIASES.values() for alias in aliases}


def _may_hold_data(folder: Path) -> bool:
    """Whether a folder or one inside it holds data files or texts by class."""
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))]
    return (
        any(suffix_of(name) for name in os.listdir(folder))
        or len(class_folders(folder)) > 1
        or any(suffix_of(name) for path in inside for name in os.listdir(path))
        or any(len(class_folders(path)) > 1 for path in inside)
    )


def _open_files(found: Found, wanted: Wanted, problems: list[str]) -> Source:
    problems += found.problems
    tables = {}
    for split, paths in found.files.items():
        parts = [read_table(path, problems, wanted.options) for path in paths]
        whole = [part for part in parts if part is not None]
        if len(whole) == len(parts):
            table = joined(whole, problems)
            if table is not None:
                tables[split] = table
    return Source(tables, notes=tuple(found.notes))


def _open_split_folders(
    folder: Path, by_split: Mapping[str, str], wanted: Wanted, notes: list[str], problems: list[str]
) -> Source:
    """Open train/, test/, ...: each holds the files of one table, or a folder for each class."""
    tables: dict[str, Table] = {}
    for split, name in by_split.items():
        inside = folder / name
        paths = tuple(inside / each for each in sorted(os.listdir(inside)) if suffix_of(each))
        if paths:
            opened = _open_files(Found({split: paths}), wanted, problems)
            tables |= opened.tables
        elif len(class_folders(inside)) > 1:
            table = read_class_folder(inside, problems, wanted.options.encoding)
            if table is not None:
                tables[split] = table
        else:
            problems.append(f"{inside}: holds neither data files ({KNOWN}) nor two folders with texts, one for a class")
    return Source(tables, notes=tuple(notes))


def _open_saved(folder: Path, wanted: Wanted, problems: list[str]) -> Source:
    """Open what `save_to_disk` of a DatasetDict or of a Dataset wrote."""
    notes: list[str] = []
    found = Found()
    try:
        if (folder / _DATASET_DICT).is_file():
            names = json.loads((folder / _DATASET_DICT).read_text("utf-8"))["splits"]
            by_split = match_splits(names, wanted.split_names, notes, problems, str(folder))
            if "train" not in by_split and "train" not in wanted.files and not problems:
                problems.append(
                    f"{folder}: no split {shown(wanted.split_names[0])}; {nearest(wanted.split_names[0], names)}"
                )
            if unused := sorted(set(names) - set(by_split.values())):
                notes.append(f"{folder}: {listed(unused)} {'is' if len(unused) == 1 else 'are'} not used")
        else:
            by_split = {"train": "."}
        for split, name in by_split.items():
            if split not in wanted.files:
                state = json.loads((folder / name / _SAVED).read_text("utf-8"))
                found.files[split] = tuple(folder / name / each["filename"] for each in state["_data_files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{folder}: what save_to_disk writes is damaged or incomplete: {error}")
        return Source({})
    found.notes += notes
    return _open_files(found, wanted, problems)


def hub_name(dataset: str) -> tuple[str, str | None]:
    """Repository and configuration of a hub data set's name: `glue/mrpc` is `mrpc` of `nyu-mll/glue`."""
    parts = dataset.split("/")
    if parts[0] == "glue" and len(parts) == 2:
        return "nyu-mll/glue", parts[1]
    if len(parts) == 3:
        return f"{parts[0]}/{parts[1]}", parts[2]
    return dataset, None


def _open_hub(dataset: str, split_names: Sequence[str], problems: list[str], named: Mapping[str, Path]) -> Source:
    from trainable.hub.download import HubError, load_hub_dataset

    repository, config = hub_name(dataset)
    try:
        loaded: dict[str, Any] = load_hub_dataset(repository, config)
    except HubError as error:
        problems.append(f"--dataset {dataset}: {error}{local_hint(dataset)}")
        return Source({}, is_local=False)
    tables = {}
    notes: list[str] = []
    by_split = match_splits(loaded, split_names, notes, problems, dataset)
    for split, wanted in zip(SPLITS, split_names, strict=True):
        if split in named:
            continue
        if split in by_split:
            there = by_split[split]
            path = Path(f"{dataset} ({there})")
            found = FileProblems(path)
            table = table_from_arrow(loaded[there], path, found)
            if not len(loaded[there]):
                found.add(None, "has no rows")
            problems += found.take()
            if table is not None and not found.take():
                tables[split] = table
        elif (split == "train" or wanted != split) and not (split == "test" and wanted == NO_SPLIT):
            problems.append(f"{dataset}: no split {shown(wanted)}; {nearest(wanted, loaded)}")
    if "train" not in tables:
        return Source({}, is_local=False)
    return Source(tables, class_names(loaded[by_split["train"]].schema), is_local=False, notes=tuple(notes))
