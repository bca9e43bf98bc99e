"""What every reader of labels must do. A task type that brings a reader of its own adds it to `SAMPLES`."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainable.data.columns import Column, Places
from trainable.data.labels import SINGLE_LABEL, Classes, LabelColumn, LabelReader, LabelWishes
from trainable.data.load import load_data, load_file
from trainable.data.request import DataRequest
from trainable.data.splits import Label
from trainable.data.tables import Table
from trainable.data.tokens import load_tokenizer, tokenize
from trainable.errors import UserError


class TagReader:
    """A reader that this test makes up, of rows that have several classes: "new|large"."""

    def read(self, table: Table, column: str, notes: list[str], problems: list[str]) -> LabelColumn:
        keys = []
        for place, cell in zip(table.places, table.columns[column], strict=True):
            good = isinstance(cell, str) and cell.strip()
            if not good:
                problems.append(f"{table.path}, {place}: label {column!r} is missing")
            keys.append("|".join(sorted(set(cell.split("|")))) if good else "")
        return LabelColumn(table, keys)

    def are_secret(self, test: LabelColumn, train: LabelColumn) -> bool:
        return False

    def classes(
        self,
        train: LabelColumn,
        known_names: tuple[str, ...] | None,
        wishes: LabelWishes,
        notes: list[str],
        problems: list[str],
    ) -> Classes | None:
        names = tuple(sorted({tag for key in train.keys if key for tag in key.split("|")}))
        return Classes(names, names, "does not occur in train") if names else None

    def encode(self, column: LabelColumn, classes: Classes, problems: list[str]) -> tuple[Label, ...]:
        encoded = []
        for place, key in zip(column.table.places, column.keys, strict=True):
            tags = key.split("|") if key else []
            unknown = sorted(set(tags) - set(classes.keys))
            problems += [f"{column.table.path}, {place}: label {tag!r} {classes.unknown}" for tag in unknown]
            encoded.append(tuple(int(name in tags) for name in classes.keys))
        return tuple(encoded)


@dataclass(frozen=True)
class Sample:
    """A reader, and cells that it can read."""

    reader: LabelReader
    cells: Sequence[Any]
    """Good cells; some occur more than once."""
    names: tuple[str, ...]
    """Their classes in the order of their ids."""
    first: Label
    """The encoded label of the first cell."""
    strange: Any
    """A cell of a class that none of the others has."""


SAMPLES = {
    "text": Sample(SINGLE_LABEL, ["b", "a", "b", "NA"] * 5, ("NA", "a", "b"), 2, "zz"),
    "integers": Sample(SINGLE_LABEL, [10, 9, 10, 2] * 5, ("2", "9", "10"), 2, 77),
    "true and false": Sample(SINGLE_LABEL, [True, False] * 10, ("false", "true"), 1, "maybe"),
    "several classes": Sample(TagReader(), ["b|a", "a", "c"] * 6, ("a", "b", "c"), (1, 1, 0), "a|zz"),
}

every_reader = pytest.mark.parametrize("sample", SAMPLES.values(), ids=list(SAMPLES))


def table_of(cells: Sequence[Any], name: str = "train.x") -> Table:
    column = Column([list(cells)])
    return Table(Path(name), {"label": column}, Places("line", array("Q", range(2, len(cells) + 2))))


def read(sample: Sample, cells: Sequence[Any]) -> LabelColumn:
    problems: list[str] = []
    column = sample.reader.read(table_of(cells), "label", [], problems)
    assert problems == []
    return column


def classes_of(sample: Sample, cells: Sequence[Any]) -> Classes:
    problems: list[str] = []
    classes = sample.reader.classes(read(sample, cells), None, LabelWishes(), [], problems)
    assert problems == []
    assert classes is not None
    return classes


@every_reader
def test_equal_cells_have_equal_keys(sample: Sample) -> None:
    keys = read(sample, sample.cells).keys
    assert len(keys) == len(sample.cells)
    assert all(isinstance(key, str) and key for key in keys)
    for one, key in zip(sample.cells, keys, strict=True):
        assert {other for cell, other in zip(sample.cells, keys, strict=True) if cell == one} == {key}


@every_reader
def test_classes_do_not_depend_on_the_order_of_rows(sample: Sample) -> None:
    for seed in range(5):
        shuffled = random.Random(seed).sample(list(sample.cells), len(sample.cells))
        assert classes_of(sample, shuffled).names == sample.names


@every_reader
def test_each_row_is_encoded_by_itself(sample: Sample) -> None:
    classes = classes_of(sample, sample.cells)
    problems: list[str] = []
    labels = sample.reader.encode(read(sample, sample.cells), classes, problems)
    assert problems == []
    assert len(labels) == len(sample.cells)
    assert labels[0] == sample.first
    for cell, label in zip(sample.cells, labels, strict=True):
        assert sample.reader.encode(read(sample, [cell]), classes, problems) == (label,)


@every_reader
def test_an_unknown_class_is_told_with_its_place(sample: Sample) -> None:
    classes = classes_of(sample, sample.cells)
    problems: list[str] = []
    column = sample.reader.read(table_of([sample.strange], "test.x"), "label", [], problems)
    sample.reader.encode(column, classes, problems)
    (problem,) = problems
    assert problem.startswith("test.x, line 2: label ")
    assert classes.unknown in problem


@every_reader
@pytest.mark.parametrize("cell", [None, "", "  "])
def test_a_cell_without_a_label_is_told_with_its_place(sample: Sample, cell: Any) -> None:
    problems: list[str] = []
    column = sample.reader.read(table_of([*sample.cells, cell]), "label", [], problems)
    assert column.keys[-1] == ""
    assert len(problems) == 1
    assert problems[0].startswith(f"train.x, line {len(sample.cells) + 2}: label")
    sample.reader.encode(column, classes_of(sample, sample.cells), problems)
    assert len(problems) == 1, "the same cell is not told twice"


@every_reader
def test_labels_that_are_all_missing_give_no_classes(sample: Sample) -> None:
    problems: list[str] = []
    column = sample.reader.read(table_of([None, None]), "label", [], problems)
    assert problems
    assert sample.reader.classes(column, None, LabelWishes(), [], problems) is None


def write_rows(path: Path, cells: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps({"text": f"{path.stem} {i}", "label": c}) + "\n" for i, c in enumerate(cells)))


@every_reader
def test_the_loader_takes_any_reader(sample: Sample, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [*sample.cells] * 4)
    data = load_data(DataRequest(str(tmp_path), train_rows=30), sample.reader)
    assert data.label_names == sample.names
    assert load_data(DataRequest(str(tmp_path), train_rows=30), sample.reader) == data
    assert len(data.splits["train"]) == 30
    assert {type(label) for split in data.splits.values() for label in split.labels} == {type(sample.first)}
    other = load_data(DataRequest(str(tmp_path), train_rows=30, seed=1), sample.reader)
    assert other.fingerprint != data.fingerprint

    problems: list[str] = []
    rows = load_file(tmp_path / "train.jsonl", data, problems, sample.reader)
    assert rows is not None
    assert rows.labels[0] == sample.first
    tokens = tokenize(rows.texts, rows.labels, load_tokenizer(str(tiny_model)), 16)
    assert tokens.labels.tolist()[0] == (sample.first if isinstance(sample.first, int) else list(sample.first))

    write_rows(tmp_path / "validation.jsonl", [sample.strange])
    with pytest.raises(UserError) as caught:
        load_data(DataRequest(str(tmp_path)), sample.reader)
    assert str(caught.value).startswith(f"{tmp_path / 'validation.jsonl'}, line 1: label")
