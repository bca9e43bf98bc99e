"""Data sets that Python hands over: written as parquet files, so that the sweep can go on and be scored later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_in_memory(dataset: object) -> bool:
    """Whether a data set is a table or a mapping of tables, and not the name of one."""
    return dataset is not None and not isinstance(dataset, str | os.PathLike)


def write_tables(dataset: Any, folder: Path, problems: list[str]) -> None:
    """Write each split as a parquet file.

    Args:
        dataset: A pandas DataFrame, a `datasets.Dataset`, a `pyarrow.Table`, or a mapping from split names to them,
            such as a `datasets.DatasetDict`.
        folder: Gets train.parquet, ...
        problems: What is wrong is appended here.
    """
    tables = dataset if isinstance(dataset, Mapping) else {"train": dataset}
    for name, table in tables.items():
        if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
            problems.append(f"dataset: split {name!r} must be a plain name, such as train or validation")
        elif not any(hasattr(table, method) for method in ("to_parquet", "to_batches")):
            problems.append(
                f"dataset: {type(table).__name__} is no table; give a pandas DataFrame, a datasets.Dataset or "
                "DatasetDict, a pyarrow.Table, or the path of a file or folder"
            )
    if problems:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.parquet"):
        stale.unlink()
    for name, table in tables.items():
        try:
            _write(table, folder / f"{name}.parquet")
        except (OSError, ValueError, TypeError) as error:  # pyarrow's errors are ValueError and TypeError
            problems.append(f"dataset: split {name} can't be written as parquet: {str(error).splitlines()[0]}")


def _write(table: Any, path: Path) -> None:
    if hasattr(table, "to_batches"):
        import pyarrow.parquet as pq

        pq.write_table(table, path)
    elif hasattr(table, "iloc"):
        table.to_parquet(path, index=False)
    else:
        table.to_parquet(str(path))
