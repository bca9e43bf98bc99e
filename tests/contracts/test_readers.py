"""What the reader of every file format must do. A new format needs an entry in `WRITERS` and in `TWICE`."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainable.data.formats import FORMATS, SUFFIXES, FileOptions, read_table
from trainable.data.tables import Table

Columns = dict[str, list[str]]


def delimited(delimiter: str) -> Callable[[Path, Columns], None]:
    def write(path: Path, columns: Columns) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([list(columns), *zip(*columns.values(), strict=True)])

    return write


def json_lines(path: Path, columns: Columns) -> None:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def parquet(path: Path, columns: Columns) -> None:
    pq.write_table(pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}), path)


def json_array(path: Path, columns: Columns) -> None:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_text(json.dumps(rows, indent=1), "utf-8")


def arrow(path: Path, columns: Columns) -> None:
    table = pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


WRITERS: dict[str, Callable[[Path, Columns], None]] = {
    ".parquet": parquet,
    ".csv": delimited(","),
    ".tsv": delimited("\t"),
    ".jsonl": json_lines,
    ".json": json_array,
    ".arrow": arrow,
}
TEXT = (".csv", ".tsv", ".jsonl", ".json")
BINARY = (".parquet", ".arrow")
TEXTS = ["NA", "null", "007", "1e5", 'so "they" say', "a, b\tc", "two\nlines", " é🙂 "]
GOOD: Columns = {"text": TEXTS, "y": list("01010101")}


def parquet_bytes(*names: str) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table([["x"]] * len(names), list(names)), buffer)
    return buffer.getvalue()


def arrow_bytes(*names: str) -> bytes:
    table = pa.table([["x"]] * len(names), list(names))
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)
    return buffer.getvalue()


# Flaws: the content of a file that has one, and the place and the predicate that are told.
Flaw = tuple[bytes, str]
RAGGED: dict[str, Flaw] = {
    ".csv": (
        b"a,b\n1,2\n3\n",
        ", line 3: has 1 column where the header has 2; each row must have every column, and a text with a line end in "
        "it must stand in quotes",
    ),
    ".tsv": (
        b"a\tb\n1\t2\n3\t4\t5\n",
        ", line 3: has 3 columns where the header has 2; a text with a tab in it must stand in quotes, and all texts "
        "with quotes too",
    ),
}
TWICE: dict[str, Flaw] = {
    ".csv": (b"a,a\n1,2\n", ", line 1: column 'a' stands twice"),
    ".tsv": (b"a\ta\n1\t2\n", ", line 1: column 'a' stands twice"),
    ".jsonl": (b'{"a": 1, "a": 2}\n', ", line 1: is not JSON: key 'a' stands twice"),
    ".json": (b'[\n{"a": 1, "a": 2}]\n', ", row 1 (line 2): is not JSON: key 'a' stands twice"),
    ".parquet": (parquet_bytes("a", "a"), ": column 'a' stands twice"),
    ".arrow": (arrow_bytes("a", "a"), ": column 'a' stands twice"),
}
FLAWS = {"a ragged row": RAGGED, "a name that stands twice": TWICE}
NAMELESS: dict[str, bytes] = {
    ".csv": b"a, \n1,2\n",
    ".tsv": b"a\t\n1\t2\n",
    ".jsonl": b'{"a": "1", " ": 2}',
    ".json": b'[{"a": "1", "": 2}]',
    ".parquet": parquet_bytes("a", " "),
    ".arrow": arrow_bytes("a", "__index_level_0__"),
}

every_format = pytest.mark.parametrize("suffix", list(FORMATS))
every_text_format = pytest.mark.parametrize("suffix", TEXT)


def written(folder: Path, suffix: str, columns: Columns = GOOD) -> Path:
    path = folder / f"train{suffix}"
    WRITERS[suffix](path, columns)
    return path


def read(path: Path) -> Table:
    problems: list[str] = []
    table = read_table(path, problems)
    assert problems == []
    assert table is not None
    return table


def told(path: Path) -> list[str]:
    """What is told of a file that is refused, without its name."""
    problems: list[str] = []
    assert read_table(path, problems) is None
    assert problems
    assert all(problem.startswith(str(path)) for problem in problems)
    return [problem.removeprefix(str(path)) for problem in problems]


def test_every_format_is_tested() -> None:
    assert WRITERS.keys() == FORMATS.keys()
    assert tuple(FORMATS) == SUFFIXES
    assert TWICE.keys() == NAMELESS.keys() == FORMATS.keys()


def test_importing_the_readers_imports_nothing_heavy() -> None:
    code = "import sys, trainable.data.formats; assert not {'pyarrow', 'pandas', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@every_format
def test_what_one_format_reads_the_others_read_too(suffix: str, tmp_path: Path) -> None:
    table = read(written(tmp_path, suffix))
    for other in FORMATS:
        assert read(written(tmp_path, other)).columns == table.columns == GOOD
    assert len(table) == len(table.places) == 8
    assert all(type(cell) is str for column in table.columns.values() for cell in column)


@every_format
def test_many_rows_in_any_format(suffix: str, tmp_path: Path) -> None:
    """More than the readers hold at once."""
    rng = random.Random(1)
    columns = {"a": [f"{i} {rng.random()}" for i in range(40_000)], "b": [str(i % 3) for i in range(40_000)]}
    assert read(written(tmp_path, suffix, columns)).columns == columns


@every_format
def test_places_name_each_row_once(suffix: str, tmp_path: Path) -> None:
    places = list(read(written(tmp_path, suffix)).places)
    assert len(set(places)) == len(places)
    assert all(place.split()[0] == ("row" if suffix in (*BINARY, ".json") else "line") for place in places)
    numbers = [int(place.split()[1]) for place in places]
    assert numbers == sorted(numbers)
    assert numbers[0] == (2 if suffix in (".csv", ".tsv") else 1)


@pytest.mark.parametrize(
    ("name", "suffix"), [(name, suffix) for name, flaws in FLAWS.items() for suffix in flaws], ids=str
)
def test_a_flaw_is_told_with_its_place(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"train{suffix}"
    content, problem = FLAWS[name][suffix]
    path.write_bytes(content)
    assert told(path) == [problem]


@every_format
def test_a_column_without_a_name_is_left_out_and_said(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"train{suffix}"
    path.write_bytes(NAMELESS[suffix])
    table = read(path)
    assert list(table.columns) == ["a"]
    assert table.notes == (f"{path}: column 2 has no name and is left out",)


@every_format
@pytest.mark.parametrize("end", [".gz", ".zst"])
def test_a_compressed_file_is_read_as_what_it_holds(suffix: str, end: str, tmp_path: Path) -> None:
    plain = written(tmp_path, suffix)
    path = tmp_path / f"train{suffix}{end}"
    with pa.CompressedOutputStream(str(path), {".gz": "gzip", ".zst": "zstd"}[end]) as file:
        file.write(plain.read_bytes())
    table = read(path)
    assert (table.columns, table.places) == (GOOD, read(plain).places)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (problem,) = told(path)
    assert problem.startswith(": is damaged or not in")
    path.write_bytes(plain.read_bytes())
    assert told(path)[0].startswith(": is damaged or not in")


@every_format
def test_a_file_without_a_byte(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"train{suffix}"
    path.write_bytes(b"")
    assert told(path) == [": is empty"]


@every_format
def test_a_file_without_rows(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"train{suffix}"
    if suffix in (".jsonl", ".json"):
        path.write_text("\n\n" if suffix == ".jsonl" else " [\n] ")
        assert told(path) == [": has no rows"]
    else:
        assert told(written(tmp_path, suffix, {"a": [], "b": []})) == [": has a header but no rows"]


@every_text_format
def test_a_nul_in_a_text_file(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix)
    whole = path.read_bytes()
    path.write_bytes(whole + b"a\0b")
    line = whole.count(b"\n") + 1
    assert told(path) == [f", line {line}: holds a NUL character"]


@every_format
def test_bytes_that_are_not_utf8(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix, {"a": ["x", "y", "caf#"], "b": ["0", "1", "0"]})
    if suffix in BINARY:
        cells = pa.array([b"x", b"y", b"caf\xe9"]).view(pa.string())
        table = pa.table({"a": cells, "b": ["0", "1", "0"]})
        if suffix == ".parquet":
            pq.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
    else:
        path.write_bytes(path.read_bytes().replace(b"#", b"\xe9"))
    (problem,) = told(path)
    binary = dict.fromkeys(BINARY, "row 3: column 'a'")
    place = {**binary, ".jsonl": "line 3:", ".json": "line 11:"}.get(suffix, "line 4:")
    assert problem.startswith(f", {place} is not UTF-8 (byte 0xe9)")


@every_text_format
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(suffix: str, encoding: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix)
    path.write_bytes(path.read_text("utf-8").encode(encoding))
    hint = f"save it as UTF-8, or say which encoding it has: --encoding {encoding}"
    assert told(path) == [f": is {encoding.upper()}, not UTF-8; {hint}"]
    table = read_table(path, [], FileOptions(encoding))
    assert table is not None
    assert table.columns == GOOD


@every_format
def test_a_file_of_another_format(suffix: str, tmp_path: Path) -> None:
    other = ".csv" if suffix == ".parquet" else ".parquet"
    path = tmp_path / f"train{suffix}"
    path.write_bytes(written(tmp_path, other).read_bytes())
    right = {
        ".parquet": ": ends in .parquet but is not a parquet file",
        ".arrow": ": ends in .arrow but is a parquet file",
    }
    assert told(path) == [right.get(suffix, f": ends in {suffix} but is a parquet file")]


@every_format
def test_paths_that_are_no_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"train{suffix}"
    assert told(path) == [": no such file"]
    os.mkfifo(path)
    assert told(path) == [": is a pipe, a socket or a device, not a file"]
    path.unlink()
    path.mkdir()
    assert told(path) == [": is a folder, not a file"]


@every_format
def test_a_file_that_was_cut_or_changed_raises_nothing(suffix: str, tmp_path: Path) -> None:
    whole = written(tmp_path, suffix).read_bytes()
    path = tmp_path / f"train{suffix}"
    rng = random.Random(3)
    for _ in range(60):
        spoiled = bytearray(whole)
        spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
        path.write_bytes(spoiled[: rng.choice([len(spoiled), rng.randrange(1, len(spoiled))])])
        problems: list[str] = []
        table = read_table(path, problems)
        assert (table is None) == bool(problems)
