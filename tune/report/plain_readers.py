"""How a plain script reads a file: one of these functions goes into it, after it was tried on the very file."""

from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ReadRows = Callable[[str], list[dict[str, Any]]]


def read_csv(path: str) -> list[dict[str, Any]]:  # noqa: D103 - what stands in a script is read there
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def read_tsv(path: str) -> list[dict[str, Any]]:  # noqa: D103
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def read_json(path: str) -> list[dict[str, Any]]:  # noqa: D103
    with open(path, encoding="utf-8-sig") as file:
        return list(json.load(file))


def read_jsonl(path: str) -> list[dict[str, Any]]:  # noqa: D103
    with open(path, encoding="utf-8-sig") as file:
        return [json.loads(line) for line in file if line.strip()]


def read_parquet_with_datasets(path: str) -> list[dict[str, Any]]:  # noqa: D103
    from datasets import load_dataset

    return list(load_dataset("parquet", data_files=path, split="train"))


def read_arrow_with_datasets(path: str) -> list[dict[str, Any]]:  # noqa: D103
    from datasets import Dataset

    return list(Dataset.from_file(path))


def read_hub_with_datasets(path: str) -> list[dict[str, Any]]:  # noqa: D103
    from datasets import load_dataset

    repository, config, split = path.split(":")
    return list(load_dataset(repository, config or None, split=split))


@dataclass(frozen=True)
class PlainReader:
    """One of the functions above."""

    read: ReadRows
    """Gives the rows of a file, cells by column."""
    module: str | None = None
    """The module of the standard library that it needs."""

    @property
    def lines(self) -> list[str]:
        """Its source, under the name `read_rows` and without what is for us alone."""
        head, *body = inspect.getsource(self.read).splitlines()
        return ["def read_rows(path):", *body] if head.startswith("def ") else []


PLAIN_READERS: dict[str, PlainReader] = {
    ".csv": PlainReader(read_csv, "csv"),
    ".tsv": PlainReader(read_tsv, "csv"),
    ".json": PlainReader(read_json, "json"),
    ".jsonl": PlainReader(read_jsonl, "json"),
    ".parquet": PlainReader(read_parquet_with_datasets),
    ".arrow": PlainReader(read_arrow_with_datasets),
    "hub": PlainReader(read_hub_with_datasets),
}
"""By the file's ending; "hub" reads REPOSITORY:CONFIGURATION:SPLIT."""
