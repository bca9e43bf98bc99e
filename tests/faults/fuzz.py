"""Spoils valid inputs byte by byte, and asks readers of its own whether what was read is what stands there."""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from trainable.data.formats import read_table
from trainable.data.load import load_data
from trainable.data.request import DataRequest
from trainable.errors import UserError
from tune.spec.flags import parse
from tune.spec.sources import Given, given_from_file, merge
from tune.spec.sweep_spec import SweepSpec, build_spec, spec_as_yaml_values
from tune.spec.yaml_file import read_yaml, write_yaml

TEXTS = ["NA", "null", 'so "they" say', "été, 日本", "two\nlines", "🙂", " a ", "1e5", "nan", "x" * 30, "=1", "a\rb"]
LABELS = ["1", "0"] * 6
CSV = "text,label\r\n" + "".join(
    '"{}",{}\r\n'.format(t.replace('"', '""'), n) for t, n in zip(TEXTS, LABELS, strict=True)
)
PLAIN = "text,label\n" + "".join(f"row number {i},{i % 2}\n" for i in range(12))
JSONL = "".join(
    json.dumps({"text": t, "label": int(n), "score": 0.5, "tags": [1, {"a": None}]}, ensure_ascii=i % 2 == 0) + "\n"
    for i, (t, n) in enumerate(zip(TEXTS, LABELS, strict=True))
)
SPEC = """\
# a comment
model: bert-base-uncased
dataset: glue/mrpc
text_columns: [sentence1, sentence2]
label_column: "label"
num_trials: 30
seed: 42
max_length: 128
validation_fraction: 0.1
reduction_factor: 2.5
max_concurrent: null
space: &s
  learning_rate: log:1e-5..2e-4
  batch_size: [16, 32]
  epochs: 2..4
  dropout: none
points:
- {learning_rate: 5e-5, epochs: 3}
- {dropout: 0.1, batch_size: 16}
metric: f1
"""
POINTS = '[{"learning_rate": 5e-5, "epochs": 3},\n {"dropout": null, "batch_size": 16, "max_grad_norm": 1.0}]\n'
ARGV = (
    "--model\nm\n--dataset\nd\n--space\nlearning_rate=log:1e-5..2e-4\n--space\nepochs=2..4\n--space=batch_size=8,16\n"
    "--num-trials\n30\n--seed=7\n--text-columns\na,b\n--set\nvalidation_fraction=0.1\n--out\nruns/x\n--metric\nloss"
)


def _parquet(compression: str, kind: str = "2.6") -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"text": TEXTS, "label": [int(n) for n in LABELS], "score": [0.5, None] * 6, "tags": [[1]] * 12})
    pq.write_table(table, buffer, compression=compression, version=kind, row_group_size=7, write_page_checksum=True)
    return buffer.getvalue()


SEEDS: dict[str, list[bytes]] = {
    "csv": [CSV.encode(), PLAIN.encode(), b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r").encode()],
    "tsv": [CSV.replace(",", "\t").encode(), PLAIN.replace(",", "\t").encode()],
    "jsonl": [JSONL.encode(), b"\xef\xbb\xbf" + JSONL.replace("\n", "\r\n").encode()],
    "parquet": [_parquet("none"), _parquet("zstd"), _parquet("snappy", "1.0")],
    "yaml": [SPEC.encode()],
    "points": [POINTS.encode()],
    "argv": [ARGV.encode()],
}
PIECES = [
    b'"', b'""', b",", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xe9", b"\xef\xbb\xbf", b"\xed\xa0\x80", b" ",
    b"NA", b"{", b"}", b"[", b"]", b":", b"\\ud800", b"\\u0000", b"1e999", b"NaN", b"-", b"9" * 5000, b"[" * 3000,
    b"null", b"true", b"&s ", b"*s", b"- *s\n", b"<<: *s\n", b"!!bool x", b"!!int ''", b"!!float ''", b"!!timestamp x",
    b"!!python/name:os.system ", b"!!binary x", b"0x1F", b"010", b"1:30", b"9:9:9.5", b"2001-99-99", b"? ", b"---\n",
    b"..", b"=", b"log:", b"--", b"'", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1c", b"~", b"!!set {a}", b"inf", b".nan", b"0",
    b"1_0", b"-h", b"%", b"#",
]  # fmt: skip


def spoiled(rng: random.Random, whole: bytes) -> bytes:
    """`whole` with one to four changes."""
    data = bytearray(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        at, until = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        until = min(until, at + rng.choice([1, 2, 8, 64]))
        match rng.randrange(7):
            case 0 if data:
                data[min(at, len(data) - 1)] = rng.randrange(256)
            case 1 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 2:
                del data[at:until]
            case 3:
                data[at:at] = data[at:until]
            case 4:
                del data[at:]
            case _:
                data[at:at] = rng.choice(PIECES)
    return bytes(data)


# The readers to compare with: None where the file must be refused.


def reference_csv(data: bytes, delimiter: str) -> dict[str, list[Any]] | None:
    """A table by a machine of four states."""
    text = _unicode(data)
    if text is None:
        return None
    rows: list[list[str]] = []
    row: list[str] = []
    cell, state, i = "", "start", 0
    while i <= len(text):
        c = text[i] if i < len(text) else ""
        i += 1
        ends_line = c in ("\n", "\r", "")
        if state == "quoted":
            if c == "":
                return None
            if c == '"':
                state = "after"
            else:
                cell += c
        elif state == "after" and c == '"':
            cell, state = cell + c, "quoted"
        elif c == delimiter or ends_line:
            if not (ends_line and not row and state == "start"):
                row.append(cell)
            cell, state = "", "start" if c == delimiter else "line"
            if ends_line:
                if row:
                    rows.append(row)
                row, state = [], "start"
        elif state == "after":
            return None
        elif state == "start" and c == '"':
            state = "quoted"
        else:
            cell, state = cell + c, "plain"
    if len(rows) < 2 or any(len(r) != len(rows[0]) for r in rows) or not _good_names(rows[0]):
        return None
    return dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True))


def reference_letters(data: bytes) -> dict[str, list[Any]] | None:
    """A table whose lines are parted at tabs, and whose quotes are letters."""
    rows = [line.split("\t") for line in re.split("\r\n|\r|\n", _unicode(data) or "") if line]
    if len(rows) < 2 or any(len(r) != len(rows[0]) for r in rows) or not _good_names(rows[0]):
        return None
    return dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True))


def reference_jsonl(data: bytes) -> dict[str, list[Any]] | None:
    """A table by json, line by line."""
    text = _unicode(data)
    if text is None:
        return None
    rows: list[dict[str, Any]] = []
    for line in text.split("\n"):
        if line.strip(" \t\r"):
            try:
                pairs = json.loads(line, object_pairs_hook=lambda p: ("object", p))
            except (ValueError, RecursionError):
                return None
            if not _is_object(pairs) or not _is_strict(pairs):
                return None
            rows.append(dict(pairs[1]))
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return None
    return {name: [r.get(name) for r in rows] for name in names} if rows else None


def _is_object(value: Any) -> bool:
    return isinstance(value, tuple) and value[0] == "object"


def _is_strict(value: Any) -> bool:
    if _is_object(value):
        return len(dict(value[1])) == len(value[1]) and all(_is_strict(v) for _, v in value[1])
    if isinstance(value, list):
        return all(map(_is_strict, value))
    return not isinstance(value, float) or math.isfinite(value)


def _unicode(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.removeprefix("\ufeff")


def _good_names(names: list[str]) -> bool:
    return all(name.strip() for name in names) and len(set(names)) == len(names)


# The checks: each raises AssertionError where a law is broken, and returns whether the input was taken.


def check_table(path: Path, data: bytes) -> bool:
    """A table is read as it stands, or refused with problems that name the file."""
    path.write_bytes(data)
    problems: list[str] = []
    table = read_table(path, problems)
    assert (table is None) == bool(problems)
    assert all(problem.startswith(str(path)) for problem in problems), problems
    kind = path.suffix[1:]
    if kind == "parquet":
        wanted = None if table is None else _parquet_cells(path, list(table.columns))
    else:
        wanted = reference_jsonl(data) if kind == "jsonl" else reference_csv(data, "," if kind == "csv" else "\t")
        if kind == "tsv" and table is not None and b'"' in data and table.columns != wanted:
            wanted = reference_letters(data)  # quotes may be letters
        header = any("was taken for the header" in problem for problem in problems)
        other_layout = (table is not None and table.notes) or (wanted is not None and len(wanted) < 2)
        if kind == "jsonl" or not (header or other_layout):
            assert (table is None) == (wanted is None), f"read or refused where the reference does not: {problems}"
    if table is not None and not table.notes:
        assert wanted is not None
        read = {name: list(cells) for name, cells in table.columns.items()}
        assert list(read) == [name for name in wanted if name not in table.left_out]
        for name, cells in read.items():
            assert len(cells) == len(wanted[name]) == len(table)
            for cell, other in zip(cells, wanted[name], strict=True):
                nested = isinstance(other, (list, tuple)) and repr(cell).startswith(("an array", "an object"))
                assert nested or repr(cell) == repr(other)
    with contextlib.suppress(UserError):
        loaded = load_data(DataRequest(str(path.parent)))
        assert table is not None
        texts = sorted(text for split in loaded.splits.values() for text in split.texts[0])
        assert texts == sorted(table.columns[loaded.text_columns[0]])
    return table is not None


def _parquet_cells(path: Path, names: list[str]) -> dict[str, list[Any]]:
    """These columns, each read whole by itself; a column that is left out may be damaged."""
    file = pq.ParquetFile(path)
    return {name: file.read(columns=[name]).column(0).to_pylist() for name in names}


def check_yaml(path: Path, data: bytes) -> bool:
    """A spec means what yaml.safe_load finds in it, or is refused with problems that name the file or the field."""
    path.write_bytes(data)
    problems: list[str] = []
    given = given_from_file(path, problems)
    spec = build_spec(merge(given, Given({}, {})), problems)
    if problems:
        names = (path.name, "--model is missing", "--dataset is missing", "`num_trials >= number of points`", "num_")
        assert all(any(name in problem for name in names) for problem in problems), problems
        return False
    values = yaml.safe_load(data.decode("utf-8-sig"))
    _agrees(spec, {key: value for key, value in values.items() if key not in ("resolved", "preset")})
    _comes_back(spec, path)
    return True


def _agrees(spec: SweepSpec, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if key in SweepSpec.model_fields and key not in ("space", "points") and value is not None:
            got = getattr(spec, key)
            if isinstance(got, (int, float)) and not isinstance(got, bool):
                assert float(got) == float(value)
            elif isinstance(got, tuple):
                assert list(got) == (value if isinstance(value, list) else [v.strip() for v in value.split(",")])
            else:
                assert str(got) == str(value)
    for got, point in zip(spec.points, values.get("points") or (), strict=True):
        _same_point(got.named(), point)


def _same_point(got: Any, point: dict[str, Any]) -> None:
    for name, value in point.items():
        none = value is None or str(value).strip().lower() in ("none", "null")
        assert got[name] == (None if none else float(value))


def _comes_back(spec: SweepSpec, path: Path) -> None:
    """What is written as spec.yaml is read back equal."""
    path.write_text(write_yaml(spec_as_yaml_values(spec)), "utf-8", newline="")
    problems: list[str] = []
    values = read_yaml(path, problems)
    assert problems == []
    assert build_spec(Given(values or {}, {}), problems) == spec
    assert problems == []


def check_points(path: Path, data: bytes) -> bool:
    """Points are what json finds in them, or are refused with problems that name the file."""
    path.write_bytes(data)
    problems: list[str] = []
    spec = build_spec(Given({"model": "m", "dataset": "d", "points": str(path)}, {}), problems)
    if problems:
        assert all(str(path) in problem for problem in problems), problems
        return False
    points = json.loads(data.decode("utf-8-sig"))
    assert len(points) == len(spec.points)
    for got, point in zip(spec.points, points, strict=True):
        _same_point(got.named(), point)
    return True


def check_argv(path: Path, data: bytes) -> bool:
    """A command line is refused, or gives a spec that comes back from spec.yaml."""
    words = data.decode("utf-8", "surrogateescape").split("\n")
    problems: list[str] = []
    if any(word.startswith("-h") or word == "--help" for word in words):
        return False
    request = parse(words, problems)
    assert all(isinstance(problem, str) and problem for problem in problems)
    if not problems:
        _comes_back(request.spec, path)
        request.out.is_dir()
    return not problems


CHECKS: dict[str, Callable[[Path, bytes], bool]] = {
    "csv": check_table, "tsv": check_table, "jsonl": check_table, "parquet": check_table, "yaml": check_yaml,
    "points": check_points, "argv": check_argv,
}  # fmt: skip


def failure(kind: str, folder: Path, data: bytes) -> str:
    """What is wrong with how these bytes are treated; empty where nothing is."""
    try:
        CHECKS[kind](folder / f"train.{kind}", data)
    except Exception as error:  # that no other exception escapes is what is tested
        return f"{type(error).__name__}: {error}"[:2000]
    return ""


def smallest(kind: str, folder: Path, data: bytes) -> bytes:
    """Bytes that fail as well and get right if any part of them is taken away, or nearly so."""
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            less = data[:at] + data[at + size :]
            if failure(kind, folder, less):
                data = less
            else:
                at += size
        size //= 2
    return data


def run(kind: str, folder: Path, seed: int, cases: int) -> int:
    """Try that many spoiled inputs; returns how many were taken. Raises AssertionError with seed and smallest bytes."""
    rng = random.Random(f"{kind} {seed}")
    taken = 0
    for _ in range(cases):
        data = spoiled(rng, rng.choice(SEEDS[kind]))
        try:
            taken += CHECKS[kind](folder / f"train.{kind}", data)
        except Exception as error:
            least = smallest(kind, folder, data)
            raise AssertionError(
                f"FUZZ_SEED={seed}, {kind}: {type(error).__name__}: {error}\nsmallest: {least!r}\n"
                f"which gives {failure(kind, folder, least)}"
            ) from error
    return taken
