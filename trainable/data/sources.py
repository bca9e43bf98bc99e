"""Open a data set, a local folder or one of the hub, as one table for each split."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainable.data.arrow_tables import table_from_arrow
from trainable.data.file_checks import FileProblems
from trainable.data.formats import SUFFIXES, read_table
from trainable.data.splits import SPLITS
from trainable.data.tables import Table
from trainable.errors import nearest, shown

_WANTED = f"no file {{}}{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


@dataclass(frozen=True)
class Source:
    """A data set that was opened, before its labels are read."""

    tables: Mapping[str, Table]
    """By split, in the order train, validation, test. A split that is missing or can't be read has none."""
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For label columns whose classes the hub names: the names by id."""
    is_local: bool = True
    """Whether it is a folder of the user's, who can correct its files."""


def open_source(dataset: str, split_names: Sequence[str], problems: list[str]) -> Source:
    """Open a data set; everything that is wrong is appended to `problems`.

    Args:
        dataset: A local folder or a hub name.
        split_names: The names of its train, validation and test splits.
        problems: Sentences are appended here.
    """
    if not is_folder(dataset):
        return _open_hub(dataset, split_names, problems)
    # os.path answers where pathlib raises: for ~ of an unknown user, and for names that are too long.
    folder = Path(os.path.expanduser(dataset))
    try:
        return Source(_open_folder(folder, split_names, problems))
    except OSError as error:
        problems.append(f"--dataset {folder}: can't be read: {error.strerror or error}")
        return Source({})


def is_folder(dataset: str) -> bool:
    """Whether a data set's name means a local folder; every other name means the hub."""
    return os.path.exists(os.path.expanduser(dataset)) or dataset.startswith(("/", "./", "../", "~"))


def _open_folder(folder: Path, split_names: Sequence[str], problems: list[str]) -> dict[str, Table]:
    if not os.path.isdir(folder):
        there = "is a file; give the folder that holds train"
        what = there if os.path.exists(folder) else "no such folder; it holds train"
        problems.append(f"--dataset {folder}: {what}, validation and test as {', '.join(SUFFIXES)}")
        return {}
    tables = {}
    here = sorted(p.name for p in folder.iterdir())
    for split, wanted in zip(SPLITS, split_names, strict=True):
        # A link to nothing counts as a file: otherwise we would cut the split from train, as if it were missing.
        paths = [folder / f"{wanted}{suffix}" for suffix in SUFFIXES if os.path.lexists(folder / f"{wanted}{suffix}")]
        unread = [n for n in here if not paths and _looks_like(n, wanted) and not os.path.isdir(folder / n)]
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


def _looks_like(name: str, split: str) -> bool:
    """Whether the user may have meant a file as this split: test.txt, Test.csv, test.csv.gz."""
    return name.partition(".")[0].lower() == split.lower()


def hub_name(dataset: str) -> tuple[str, str | None]:
    """Repository and configuration of a hub data set's name: `glue/mrpc` is `mrpc` of `nyu-mll/glue`."""
    parts = dataset.split("/")
    if parts[0] == "glue" and len(parts) == 2:
        return "nyu-mll/glue", parts[1]
    if len(parts) == 3:
        return f"{parts[0]}/{parts[1]}", parts[2]
    return dataset, None


def _open_hub(dataset: str, split_names: Sequence[str], problems: list[str]) -> Source:
    from trainable.hub.download import HubError, class_names, load_hub_dataset

    repository, config = hub_name(dataset)
    try:
        loaded = load_hub_dataset(repository, config)
    except HubError as error:
        problems.append(f"--dataset {dataset}: {error}")
        return Source({}, is_local=False)
    tables = {}
    for split, wanted in zip(SPLITS, split_names, strict=True):
        if wanted in loaded:
            path = Path(f"{dataset} ({wanted})")
            found = FileProblems(path)
            table = table_from_arrow(loaded[wanted], path, found)
            if not len(loaded[wanted]):
                found.add(None, "has no rows")
            problems += found.take()
            if table is not None and not found.take():
                tables[split] = table
        elif split == "train" or wanted != split:
            problems.append(f"{dataset}: no split {shown(wanted)}; {nearest(wanted, loaded)}")
    if "train" not in tables:
        return Source({}, is_local=False)
    return Source(tables, class_names(loaded[split_names[0]]), is_local=False)
