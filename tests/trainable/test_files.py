"""Laws of reading tables: what is written is read back, cell by cell, with the line where it stands."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainable.data.file_checks import MAX_PROBLEMS_PER_FILE, FileProblems
from trainable.data.formats import KNOWN, SUFFIXES, read_table
from trainable.data.tables import Table

PIECES = (
    "NA", "null", "nan", "None", "", " ", "\t", ",", '"', '""', "'", "\n", "\r\n", "\r", "1e5", "007", "1.0", "true",
    "été", "日本", "\u2028", "\x85", "\x1c", "\ufeff", "🙂", "\\", "\\n", ";", "|", "#", "=1+1", "word",
)  # fmt: skip


def made_up(rng: random.Random, rows: int) -> dict[str, list[str]]:
    """Columns of nasty texts; no row is wholly blank, which would be skipped."""
    columns = {name: ["".join(rng.choices(PIECES, k=rng.randrange(5))) for _ in range(rows)] for name in ("a b", "ü")}
    return {**columns, "label": [rng.choice(["x", "0", "NA"]) for _ in range(rows)]}


def write_table(path: Path, columns: dict[str, list[Any]]) -> None:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".arrow":
        table = pa.table(columns)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8", newline="")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8", newline="")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([list(columns), *zip(*columns.values(), strict=True)])


def read(path: Path) -> Table:
    problems: list[str] = []
    table = read_table(path, problems)
    assert problems == []
    assert table is not None
    return table


def problems_of(path: Path) -> list[str]:
    problems: list[str] = []
    assert read_table(path, problems) is None
    assert problems
    return [problem.removeprefix(f"{path}") for problem in problems]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_back(suffix: str, seed: int, tmp_path: Path) -> None:
    columns = made_up(random.Random(seed), 40)
    path = tmp_path / f"train{suffix}"
    write_table(path, columns)
    table = read(path)
    assert table.columns == columns
    assert len(table) == 40
    assert len(set(table.places)) == 40


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".arrow"])
def test_typed_cells_keep_their_types(suffix: str, tmp_path: Path) -> None:
    columns = {"text": ["a", "b", None], "i": [1, -2, 2**53 + 1], "f": [1.0, 2.5, None], "b": [True, False, None]}
    path = tmp_path / f"train{suffix}"
    write_table(path, columns)
    assert repr({name: list(cells) for name, cells in read(path).columns.items()}) == repr(columns)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_places_are_the_lines_of_an_editor(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"train{suffix}"
    path.write_text(
        '\ntext,label\n\na,1\n"two\nlines",2\n\n"three\r\nmore\nlines",3\nb,4\n'.replace(
            ",", "," if suffix == ".csv" else "\t"
        )
    )
    table = read(path)
    lines = path.read_text().split("\n")
    assert table.places == ["line 4", "line 5", "line 8", "line 11"]
    for place, text in zip(table.places, table.columns["text"], strict=True):
        assert lines[int(place.split()[1]) - 1].lstrip('"').startswith(text.splitlines()[0])


def test_places_of_json_lines_and_parquet_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('\n{"a": "\u2028"}\n\n{"a": "x"}\r\n', "utf-8")
    assert read(path).places == ["line 2", "line 4"]
    write_table(tmp_path / "train.parquet", {"a": ["x", "y"]})
    assert read(tmp_path / "train.parquet").places == ["row 1", "row 2"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_byte_order_mark_is_no_text(suffix: str, tmp_path: Path) -> None:
    columns = made_up(random.Random(3), 5)
    path = tmp_path / f"train{suffix}"
    write_table(path, columns)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path).columns == columns


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_bytes_are_read_or_refused(suffix: str, tmp_path: Path) -> None:
    """Damage never escapes as another exception, and a refused file is named in every problem."""
    rng = random.Random(0)
    path = tmp_path / f"train{suffix}"
    write_table(path, made_up(rng, 12))
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])])
        problems: list[str] = []
        table = read_table(path, problems)
        assert (table is None) == bool(problems)
        assert all(problem.startswith(str(path)) for problem in problems)
        if table is not None:
            assert all(len(cells) == len(table) for cells in table.columns.values())


def test_every_ragged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("a,b\n1\n2,2\n3,3,3\n")
    quotes = "must stand in quotes"
    assert problems_of(path) == [
        f", line 4: has 3 columns where the header has 2; a text with a comma in it {quotes}",
        ", line 2: has 1 column where the header has 2; each row must have every column, and a text with a line end in "
        f"it {quotes}",
    ]
    path.write_text("a,b\n1,2\n" + "3,3,3\n4,4,4,4\n" * 10)
    assert problems_of(path) == [
        f", lines 3, 4, 5, 6, 7, 8, 9, 10 and 12 more: have 3 or 4 columns where the header has 2; a text with a comma "
        f"in it {quotes}"
    ]


@pytest.mark.parametrize("array", [False, True])
def test_a_key_that_some_rows_lack_is_a_column_with_gaps(array: bool, tmp_path: Path) -> None:
    rows = ['{"a": 1, "b": 2}', '{"a": 3}', '{"b": 4, "a": 5}', '{"a": 6, "b": 7, "c": 8}']
    path = tmp_path / "train.json"
    path.write_text(f"[{','.join(rows)}]" if array else "\n".join(rows))
    assert read(path).columns == {"a": [1, 3, 5, 6], "b": [2, None, 4, 7], "c": [None, None, None, 8]}


def test_keys_that_come_late_in_a_long_file(tmp_path: Path) -> None:
    """The rows before were packed already."""
    path = tmp_path / "train.jsonl"
    path.write_text('{"a": 1}\n' * 40_000 + '{"b": "x"}\n')
    columns = read(path).columns
    assert columns == {"a": [1] * 40_000 + [None], "b": [None] * 40_000 + ["x"]}


def test_a_line_that_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"a": 1}\n[]\n')
    assert problems_of(path) == [", line 2: holds an array, not an object; .jsonl has one object a line"]


def test_parquet_columns_of_other_types_are_named(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(
        pa.table({"a": ["x"], "list": [["y"]], "nothing": pa.nulls(1), "numbers": [[0.5]], "object": [{"inner": 1}]}),
        path,
    )
    table = read(path)
    assert table.columns == {"a": ["x"], "list": [["y"]]}
    assert set(table.left_out) == {"nothing", "numbers", "object"}
    assert table.left_out["object"] == "an object with the fields inner"
    assert table.left_out["nothing"] == "null"


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_kind_of_text_in_parquet_is_text(kind: pa.DataType, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"a": pa.array(["x", "NA", None], pa.string()).cast(kind)}), path)
    assert read(path).columns == {"a": ["x", "NA", None]}


def test_text_in_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    cells = pa.array([b"a", b"caf\xe9", b"b", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"a": cells}), path)
    assert problems_of(path) == [
        ", row 2: column 'a' is not UTF-8 (byte 0xe9)",
        ", row 4: column 'a' is not UTF-8 (byte 0xff)",
    ]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "train").write_text("a")
    assert problems_of(tmp_path / "folder.csv") == [": is a folder, not a file"]
    assert problems_of(tmp_path / "none.csv") == [": no such file"]
    assert problems_of(tmp_path / "a.txt") == [f": can't read .txt; known: {KNOWN}"]
    assert problems_of(tmp_path / "train") == [f": can't read a file without an ending; known: {KNOWN}"]


def test_a_cell_may_be_large(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    text = "word " * 100_000
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["text", "label"], [text, "1"]])
    path.write_text(buffer.getvalue(), newline="")
    assert read(path).columns["text"] == [text]


@pytest.mark.parametrize("count", [0, 1, MAX_PROBLEMS_PER_FILE, MAX_PROBLEMS_PER_FILE + 1, 1000])
def test_problems_are_shown_or_counted(count: int) -> None:
    found = FileProblems("x.csv")
    for i in range(count):
        found.add(f"line {i}", "is odd")
    taken = found.take()
    assert taken[:MAX_PROBLEMS_PER_FILE] == [f"x.csv, line {i}: is odd" for i in range(min(count, 10))]
    more = count - MAX_PROBLEMS_PER_FILE
    assert taken[MAX_PROBLEMS_PER_FILE:] == ([f"x.csv: {more} more problem{'s' * (more > 1)}"] if more > 0 else [])
