"""Bad inputs by name, by the thousand and by the hundred MB: read right, or refused with exit code 2, file and line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from tests.faults import fuzz
from tests.tune import test_bad_input as known
from tests.tune.test_bad_input import (
    GOOD,
    JSON_ROW,
    TRAIN,
    filled,
    good_flags,
    parquet,
    places,
    refused,
    says,
    write,
    zipped,
)  # fmt: skip
from trainable.data import parquet as parquet_reader
from trainable.data.columns import ColumnBuilder
from trainable.data.formats import read_table
from trainable.data.labels import MAX_CLASSES
from trainable.errors import UserError
from tune.run_dir.documents import RESOLVED
from tune.run_dir.layout import RunDir
from tune.spec.sources import Given
from tune.spec.sweep_spec import OPTIONAL, SweepSpec
from tune.spec.yaml_file import MAX_ALIASES, MAX_DEPTH, MAX_FILE_BYTES, read_yaml, write_yaml

__all__ = ["places"]  # the fixture

Content = str | bytes | Callable[[Path], object] | None


class Bad(NamedTuple):
    """What is put over the good data, and what is told: one entry for each problem, fragments in order."""

    name: str
    told: list[str]
    files: dict[str, Content]
    flags: str = ""


def train(name: str, suffix: str, content: Content, *told: str, flags: str = "") -> Bad:
    return Bad(f"{suffix} {name}", list(told), {"train.csv": None, f"train.{suffix}": content}, flags)


def validation(name: str, file: str, content: Content, *told: str) -> Bad:
    return Bad(f"{file} {name}", list(told), {"validation.csv": None, file: content})


def spec(name: str, content: Content, *told: str) -> Bad:
    return Bad(f"spec {name}", list(told), {"../s.yaml": content}, "{tmp}/s.yaml")


def points(name: str, content: Content, *told: str) -> Bad:
    return Bad(f"points {name}", list(told), {"../p.json": content}, "--points {tmp}/p.json")


def space(name: str, value: str, *told: str) -> Bad:
    return Bad(f"space {name}", list(told), {}, f"--space {value}")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def device(name: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(f"/dev/{name}")


def sparse(size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


def packed(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def spoiled_page() -> bytes:
    """A parquet file with a checksum for each page, and one letter of a text changed."""
    whole = packed(
        pa.table({"text": ["some good", "some bad"], "label": [1, 0]}),
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
        write_statistics=False,
    )
    assert whole.count(b"some good") == 1
    return whole.replace(b"some good", b"some mood")


def many_rows() -> bytes:
    """One text and one label, 60 million times: some KB that would take GBs."""
    buffer = io.BytesIO()
    label = pa.array([1], pa.int64()).take(pa.array([0] * 1_000_000))
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), ["word"])})
    table = table.append_column("label", label)
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        for _ in range(60):
            writer.write_table(table)
    return buffer.getvalue()


def one_long_text(count: int = 2000) -> bytes:
    """A text of 1 MB that stands in every row, once in the file: what the file declares is small."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), ["word " * 200_000])
    table = pa.table({"text": text.cast(pa.string()) if count < 10 else text, "label": [0, 1] * (count // 2)})
    return packed(table, compression="zstd")


def billion_laughs(levels: int) -> str:
    lines = ["a: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


LAST = TRAIN.count("\n") + 1
MANY = "text,label\n" + "".join(f"a b {i},{i}\n" for i in range(MAX_CLASSES + 2))
BLOCK = "text,label\n" + "a longer text to fill more than a block,1\n" * 30_000
DEEP = {"{": '{"a":' * 50_000, "[": "[" * 50_000}
DATA = [
    train("UTF-16 from the other end", "csv", TRAIN.encode("utf-16-be"), "train.csv: is UTF-16-BE, not UTF-8"),
    train("UTF-16 with its mark", "csv", b"\xfe\xff" + TRAIN.encode("utf-16-be"), "train.csv: is UTF-16, not"),
    train("UTF-16 without a mark", "tsv", TRAIN.encode("utf-16-le"), "train.tsv: is UTF-16-LE, not UTF-8; save it"),
    train("UTF-16", "jsonl", JSON_ROW.encode("utf-16"), "train.jsonl: is UTF-16, not UTF-8"),
    train("UTF-32", "csv", TRAIN.encode("utf-32"), "train.csv: is UTF-32, not UTF-8"),
    train("nothing but NULs", "csv", b"\0" * 500, "train.csv, line 1: holds a NUL character"),
    train("NUL", "jsonl", JSON_ROW + '{"text": "a\0", "label": 1}', "train.jsonl, line 3: holds a NUL character"),
    train("NUL", "tsv", TRAIN.replace(",", "\t") + "a\0\t1", f"train.tsv, line {LAST}: holds a NUL character"),
    train("NUL after a block", "csv", BLOCK + "a\0,1\n", "train.csv, line 30002: holds a NUL character"),
    train(
        "half a character at the end", "csv", TRAIN.encode() + b"a\xe2\x82", f"line {LAST}: is not UTF-8 (byte 0xe2)"
    ),
    train("an overlong character", "csv", TRAIN.encode() + b"\xc0\xaf,1\n", f"line {LAST}: is not UTF-8 (byte 0xc0)"),
    train("a surrogate's bytes", "csv", TRAIN.encode() + b"\xed\xa0\x80,1", f"line {LAST}: is not UTF-8 (byte 0xed)"),
    train(
        "bad UTF-8", "jsonl", JSON_ROW.encode() + b'{"text": "\xff"}', "train.jsonl, line 3: is not UTF-8 (byte 0xff"
    ),
    train("bad UTF-8 after CR", "csv", TRAIN.replace("\n", "\r").encode() + b"\xe9,1", f"line {LAST}: is not UTF-8"),
    train(
        "bad UTF-8 after CRLF", "csv", TRAIN.replace("\n", "\r\n").encode() + b"\xe9,1", f"line {LAST}: is not UTF-8"
    ),
    train("bad UTF-8 after a block", "csv", BLOCK.encode() + b"\xe9,1\n", "train.csv, line 30002: is not UTF-8 (byte"),
    train("ragged after CR", "csv", TRAIN.replace("\n", "\r") + "a,1,2\r", f"line {LAST}: has 3 columns"),
    train("ragged after mixed ends", "csv", TRAIN + "a,1\r\nb,0\rc\n", f"line {LAST + 2}: has 1 column where"),
    train("a quote that is not closed", "csv", TRAIN + '"a,1\n', f"line {LAST}: unexpected end of data"),
    train("a header that is not closed", "csv", '"text,label\na,1\n', "train.csv, line 1: unexpected end of data"),
    train("a word after a quote", "csv", TRAIN + '"a"b,1\r"c",0\n', f"line {LAST}: ',' expected after"),
    train("one cell too many each", "csv", "text,label\na,1,x\nb,0,y\n", "lines 2, 3: have 3 columns where the header"),
    train("doubled header", "tsv", "text\tlabel\tlabel\na\t1\t1\n", "train.tsv, line 1: column 'label' stands twice"),
    train(
        "one row",
        "csv",
        "text,label\na b,1\n",
        "all labels are '1'; a classifier needs two",
        *["label '0' does not occur in train"] * 4,
        flags="--space batch_size=1",
    ),
    train("header only", "tsv", "text\tlabel\n", "train.tsv: has a header but no rows"),
    train("blank lines only", "jsonl", "\n \n\t\n", "train.jsonl: has no rows"),
    train("too many columns", "csv", ",".join(map(str, range(10_001))), "line 1: has 10001 columns; 10000 at most"),
    train("too many labels", "csv", MANY, "train.csv: more than 100000 different labels; is the label column"),
    train("a line without end", "csv", "text,label\n" + "a" * (33 << 20), "train.csv, line 2: is longer than 32 MiB"),
    train(
        "a cell without end",
        "csv",
        'text,label\na,1\n"' + "a\n" * (17 << 20),
        "line 3: a cell is longer than 32 MiB; a",
    ),
    train(
        "a number without end", "jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}", "line 1: is not JSON: Exceeds"
    ),
    train(
        "a number that is infinite",
        "jsonl",
        JSON_ROW + '{"text": "a", "label": 1e999}',
        "line 3: … 1e999' is too large",
    ),
    train("-Infinity", "jsonl", JSON_ROW + '{"text": "a", "label": -Infinity}', "line 3: … -Infinity is no JSON value"),
    train("a comma too many", "jsonl", JSON_ROW + '{"text": "a", "label": 1,}', "train.jsonl, line 3: is not JSON"),
    train("two objects on a line", "jsonl", JSON_ROW + JSON_ROW.replace("\n", " "), "line 3: is not JSON: Extra data"),
    train(
        "single quotes", "jsonl", JSON_ROW + "{'text': 'a', 'label': 1}", "line 3: is not JSON: Expecting property name"
    ),
    train("deep objects", "jsonl", JSON_ROW + '{"text": ' + DEEP["{"], "train.jsonl, line 3: is nested too deeply"),
    train("deep arrays in a cell", "jsonl", '{"text": ' + DEEP["["], "train.jsonl: is nested too deeply"),
    train(
        "an array for a text",
        "jsonl",
        JSON_ROW + '{"text": ["a"], "label": 1}',
        "train.jsonl: … holds lists (['a'], ...), not text",
        flags="--text-columns text",
    ),
    train(
        "an object for a label",
        "jsonl",
        JSON_ROW + '{"text": "a", "label": {}}',
        "line 3: label an object is no integer",
    ),
    train("null for a label", "jsonl", JSON_ROW + '{"text": "a", "label": null}', "line 3: label 'label' is missing"),
    train(
        "half a character's column",
        "jsonl",
        '{"\\ud800": "a b", "label": 1}',
        "train.jsonl: … half a surrogate pair",
    ),
    train("magic only", "parquet", b"PAR1", "train.parquet: is damaged"),
    train("magic twice", "parquet", b"PAR1\0\0\0\0PAR1", "train.parquet: is damaged"),
    train("a footer longer than the file", "parquet", b"PAR1" + b"\xff" * 4 + b"PAR1", "train.parquet: is damaged"),
    train("no rows", "parquet", parquet(text=pa.array([], pa.string()), label=pa.array([], pa.int64())), "but no rows"),
    train("no columns", "parquet", packed(pa.table({})), "train.parquet: has no rows"),
    train(
        "doubled column",
        "parquet",
        packed(pa.table([["a"], ["b"], [1]], ["t", "t", "label"])),
        "column 't' stands twice",
    ),
    train("blank column", "parquet", parquet(**{" ": ["a"], "label": [1]}), "train.parquet: which columns are the"),
    train(
        "NaN labels",
        "parquet",
        parquet(text=["a", "b"], label=[float("nan")] * 2),
        "row 1: label 'label' is missing",
        "row 2: label",
    ),
    train(
        "labels of lists",
        "parquet",
        parquet(text=["a b"] * 2, label=[[1], [1, 0]]),
        "label 'label' holds lists such as [1, 0]: multi-label",
        flags="--label-column label",
    ),
    train(
        "a letter changed", "parquet", spoiled_page(), "train.parquet: is damaged: … CRC checksum verification failed"
    ),
    train("60 million rows in some KB", "parquet", many_rows(), "bytes would take … or more of memory, which is above"),
    train(
        "a text of 1 MB in each row", "parquet", one_long_text(), "bytes would take … or more of memory, which is above"
    ),
    train("zip", "parquet", zipped(TRAIN), "train.parquet: ends in .parquet but is not a parquet file"),
    train("gzip", "jsonl", gzip.compress(JSON_ROW.encode()), "train.jsonl: ends in .jsonl but is a gzip archive"),
    train("bzip2", "csv", bz2.compress(TRAIN.encode()), "train.csv: ends in .csv but is a bzip2 archive"),
    train("xz", "csv", lzma.compress(TRAIN.encode()), "train.csv: ends in .csv but is an xz archive"),
    train("folder", "csv", Path.mkdir, "train.csv: is a folder, not a file"),
    train("pipe", "csv", os.mkfifo, "train.csv: is a pipe, a socket or a device, not a file"),
    train("device without end", "jsonl", device("zero"), "train.jsonl: is a pipe, a socket or a device"),
    train("device without content", "parquet", device("null"), "train.parquet: is a pipe, a socket or a device"),
    train("link in a circle", "csv", loop, "train.csv: can't be read: Too many levels of symbolic links"),
    train("link to nothing", "tsv", dangling, "train.tsv: is a link to nothing"),
    train(
        "unknown ending",
        "txt",
        TRAIN,
        "train.txt: can't read .txt; if commas separate its cells, let its name end in .csv",
    ),
    train("half an archive of it", "csv.gz", gzip.compress(TRAIN.encode())[:-20], "train.csv.gz: is damaged or not in"),
    validation("folder", "validation.csv", Path.mkdir, "validation.csv: is a folder, not a file"),
    validation("pipe", "validation.jsonl", os.mkfifo, "validation.jsonl: is a pipe, a socket or a device"),
    validation("link to nothing", "validation.csv", dangling, "validation.csv: is a link to nothing"),
    validation("link in a circle", "validation.csv", loop, "validation.csv: can't be read: Too many levels"),
    validation("unknown ending", "validation.log", "a b", "validation.log: can't read .log; known: .parquet, .csv"),
    validation(
        "other columns", "validation.jsonl", '{"text": "a"}', "validation.jsonl: no column 'label'; known: text"
    ),
    validation(
        "other labels", "validation.jsonl", '{"text": "a", "label": "so"}', "line 1: label 'so' does not occur in"
    ),
    validation(
        "a label of 10 MB", "validation.csv", f"text,label\na,{'9' * 10_000_000}\n", "(10000002 characters) does not"
    ),
]
LAUGHS = billion_laughs(9)
SPECS = [
    spec("billion laughs", LAUGHS, "s.yaml, line 5: is not YAML: holds more than 20,000 values"),
    spec("many aliases", "a: &a 1\nb: [" + "*a, " * 101 + "]", f"line 2: … has more than {MAX_ALIASES} aliases"),
    spec("an alias inside itself", "a: &a [*a]", "line 1: is not YAML: an alias stands inside of what it means"),
    spec("an alias of nothing", "a: *b", "s.yaml, line 1: is not YAML: found undefined alias 'b'"),
    spec("deep", "a: " + "[" * 30 + "]" * 30, f"s.yaml, line 1: is not YAML: is nested more than {MAX_DEPTH} deep"),
    spec("deep by lines", "".join(" " * i + "a:\n" for i in range(30)), "line 20: … nested more than 20 deep"),
    spec("without bottom", "a: " + "[" * 100_000, "s.yaml, line 1: is not YAML: is nested more than 20 deep"),
    spec("100 MB", sparse(100_000_000), f"s.yaml: is larger than {MAX_FILE_BYTES:,} bytes"),
    spec("1 MB and a byte", "#" * 1_000_001, "s.yaml: is larger than 1,000,000 bytes"),
    spec("many values", "a: [" + "1," * 25_000 + "]", "s.yaml, line 1: is not YAML: holds more than 20,000 values"),
    spec("pipe", os.mkfifo, "s.yaml: is a pipe, a socket or a device, not a file"),
    spec("device without end", device("zero"), "s.yaml: is a pipe, a socket or a device, not a file"),
    spec("link in a circle", loop, "s.yaml: can't be read: Too many levels of symbolic links"),
    spec("link to nothing", dangling, "s.yaml: is a link to nothing"),
    spec("UTF-16", "seed: 1\n".encode("utf-16"), "s.yaml: is UTF-16, not UTF-8; save it as UTF-8"),
    spec("UTF-16 without a mark", "seed: 1\n".encode("utf-16-be"), "s.yaml: is UTF-16-BE, not UTF-8; save it"),
    spec("bytes", bytes(range(128, 256)), "s.yaml, line 1: is not UTF-8 (byte 0x80)"),
    spec("bad UTF-8 below", b"seed: 1\nname: \xff\n", "s.yaml, line 2: is not UTF-8 (byte 0xff)"),
    spec("tab", "seed: 1\nspace:\n\tepochs: 2\n", "s.yaml, line 3: is not YAML: found character '\\t'"),
    spec("python object", "seed: !!python/object/apply:os.system [ls]", "line 1: … could not determine a constructor"),
    spec("unknown tag", "seed: 1\nname: !secret a\n", "line 2: … a constructor for the tag '!secret'"),
    spec("wrong bool", "seed: !!bool maybe", "s.yaml, line 1: is not YAML: can't read 'maybe'"),
    spec("wrong int", "seed: 1\nmax_length: !!int ''", "s.yaml, line 2: is not YAML: can't read ''"),
    spec("wrong float", "seed: !!float ''", "s.yaml, line 1: is not YAML: can't read ''"),
    spec("wrong timestamp", "seed: !!timestamp today", "s.yaml, line 1: is not YAML: can't read 'today'"),
    spec("wrong binary", "seed: !!binary é", "s.yaml, line 1: is not YAML: failed to convert base64"),
    spec(
        "a number of sixties that is infinite", f"seed: {'9:' * 300}9.5", "s.yaml, line 1: is not YAML: can't read '9:9"
    ),
    spec("octal", "seed: 010", "s.yaml, line 1: is not YAML: 010 is 8 in YAML; write 8"),
    spec("sixties", "num_trials: 1:30", "s.yaml, line 1: is not YAML: 1:30 is 90 in YAML; write 90"),
    spec("sixties with a point", "seed: 1:30.5", "s.yaml, line 1: is not YAML: 1:30.5 is 90.5 in YAML; quote it"),
    spec("hexadecimal", "positive_label: 0x1F", "s.yaml, line 1: is not YAML: 0x1F is 31 in YAML; write 31"),
    spec("a hexadecimal number without end", f"seed: 0x{'f' * 5000}", "line 1: is not YAML: Exceeds the limit"),
    spec("a key without end", f"? 0x{'f' * 5000}\n: 1", "s.yaml, line 1: is not YAML: Exceeds the limit"),
    spec("a merge of no mapping", "<<: 3", "s.yaml, line 1: is not YAML: expected a mapping or list of mappings"),
    spec("a long wrong value", f"metric: {'a' * 100_000}", "s.yaml: metric must be one of … (100002 characters)"),
    spec("a wrong preset", "preset: [mrpc]", "s.yaml: no preset ['mrpc']; did you mean 'mrpc'?"),
    spec(
        "a set and a binary",
        "name: !!set {a}\nseed: !!binary aGk=",
        "name must be text",
        "seed must be an integer >= 0, but",
    ),
    points("pipe", os.mkfifo, "p.json: is a pipe, a socket or a device, not a file"),
    points("device without end", device("zero"), "p.json: is a pipe, a socket or a device, not a file"),
    points("folder", Path.mkdir, "--points: {tmp}/p.json: is a folder, not a file"),
    points("100 MB", sparse(100_000_000), "p.json: is larger than 1,000,000 bytes"),
    points("bad UTF-8", b'[\n{"epochs": "\xff"}]', "p.json, line 2: is not UTF-8 (byte 0xff)"),
    points("UTF-16", "[]".encode("utf-16-le"), "p.json"),
    points("empty", "", "p.json is not JSON: Expecting value"),
    points(
        "deep values", f'[{{"epochs": {"[" * 500}{"]" * 500}}}]', "configuration 1: `epochs` must be an integer >= 1"
    ),
    points("deep objects", '[{"epochs": ' + DEEP["{"], "p.json is not JSON: maximum recursion depth"),
    points("a number without end", '[{"epochs": ' + "9" * 5000 + "}]", "p.json is not JSON: Exceeds the limit"),
    points("an infinite number", '[{"learning_rate": 1e999}]', "`learning_rate` must be a number > 0, but got inf"),
    points("texts, nulls and lists", '[{"epochs": 2}, null]', "p.json: must be a list of configurations"),
    points("1,000 wrong", json.dumps([{"epochs": 0}] * 1000), *["`epochs` must be"] * 10, "p.json: 990 more problems"),
    space("a choice without end", "epochs=" + "1," * 50_000, "can't read '1,1,1, … (100002 characters)"),
    space("a name without end", "e" * 50_000 + "=2", "(50002 characters) is no field of a trial's configuration"),
    space("an end too large", "epochs=1.." + "9" * 5000, "`epochs` takes integers, but got 1.0..inf"),
    space("a NUL", "epochs=2\0", "can't read '2\\x00'; write"),
    Bad("out with a NUL", ["--out must be a folder, but got 'a\\x00b'"], {}, "--out a\0b"),
    Bad(
        "spec with a NUL",
        ["a\\x00b: can't be read: embedded null byte", "a\\x00b: name must be text without NUL"],
        {},
        "a\0b",
    ),
]


def put(folder: Path, made: dict[str, Content]) -> None:
    write(folder, {name: c for name, c in made.items() if c is None or isinstance(c, (str, bytes))})
    for name, content in made.items():
        if callable(content):
            content(folder / name)


@pytest.mark.parametrize("case", [*DATA, *SPECS], ids=lambda case: case.name[:60])
def test_refused_with_exactly_what_is_wrong(
    case: Bad, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    put(Path(places["data"]), {**GOOD, **case.files})
    before = sorted(Path(places["tmp"]).rglob("*"))
    flags = [filled(word, places) for word in case.flags.split(" ") if word]
    problems = refused([*good_flags(places), *flags], capsys)
    told = [filled(each, places) for each in case.told]
    assert len(problems) == len(told), "\n".join(problems)[:3000]
    for problem, each in zip(problems, told, strict=True):
        assert len(problem) < 3000, "a value is shown cut"
        assert any(says(problem, other) for other in told), problem
        assert any(says(other, each) for other in problems), f"{each}\nis not told by\n" + "\n".join(problems)[:3000]
    assert sorted(Path(places["tmp"]).rglob("*")) == before


def test_there_are_enough_of_them() -> None:
    ours = [*DATA, *SPECS]
    theirs = [*known.DATA, *known.SPECS, *known.FLAGS]
    contents = {repr((case.files, case.flags)) for case in [*ours, *theirs]}
    assert len(contents) == len(ours) + len(theirs), "two cases are the same"
    assert len({case.name for case in ours}) == len(ours) >= 60


WAYS = {
    "null": "", "true": "true", "a list": "[[]]", "a mapping": "{a: {b: c}}", "a list of mappings": "[{a: 1}]",
    "a date": "2001-01-01", "a time": "2001-01-01 10:00:00", "NaN": ".nan", "infinity": "-.inf", "negative": "-7",
    "empty": "''", "blank": "' '", "huge": "9" * 300, "bytes": "!!binary /w==", "a set": "!!set {a}", "an alias": "*x",
    "pairs": "!!pairs [a: 1]", "an ordered mapping": "!!omap [a: 1]", "a NUL": '"a\\0"',
}  # fmt: skip
RIGHT = {(name, way) for name in ("positive_label", "skip_labels") for way in ("negative", "huge", "a NUL")}
SWITCHES = ("strict_labels", "strict_data", "skip_blank_rows", "repeat_configurations", "no_examples", "until_stable")
RIGHT |= {(name, "true") for name in SWITCHES}


@pytest.mark.parametrize("way", WAYS)
def test_every_field_wrong_in_one_way(way: str, places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write(Path(places["data"]), GOOD)
    names = [name for name in SweepSpec.model_fields if name != "space"]
    lines = [f"seed: &x [[2.5]]\n{'' if way == 'an alias' else '# '}space: *x\n"]
    lines += [f"{name}: {WAYS[way]}\n" for name in names if name != "seed"]
    Path(places["tmp"], "s.yaml").write_text("".join(lines))
    problems = refused([f"{places['tmp']}/s.yaml", "--out", places["out"]], capsys)
    none = (*OPTIONAL, "points", "model", "dataset")
    for name in names:
        right = (name, way) in RIGHT or (way == "null" and name in none)
        told = sum(problem.startswith(tuple(f"s.yaml: {name}{end}" for end in " :,")) for problem in problems)
        missing = way == "null" and name in ("model", "dataset")
        assert told == (0 if right else 1), f"{name}: {problems}"
        assert any(problem.startswith(f"--{name} is missing") for problem in problems) == missing
    assert not Path(places["out"]).exists()


# What looks odd and is right

READ: list[tuple[str, str, str | bytes, dict[str, list[Any]]]] = [
    ("texts that others take for nothing", "csv", "a,b\nNA,null\nNaN,\n", {"a": ["NA", "NaN"], "b": ["null", ""]}),
    (
        "texts that others take for numbers",
        "csv",
        "a,b\n007,1e5\n1.0,0x1\n",
        {"a": ["007", "1.0"], "b": ["1e5", "0x1"]},
    ),
    ("CR alone", "csv", "a,b\r1,2\r3,4", {"a": ["1", "3"], "b": ["2", "4"]}),
    ("mixed ends", "csv", "a,b\r\n1,2\r3,4\n5,6\r\n\r\n", {"a": ["1", "3", "5"], "b": ["2", "4", "6"]}),
    ("newlines in quotes", "csv", 'a,b\n"1\r\n2\r3\n",x\n', {"a": ["1\r\n2\r3\n"], "b": ["x"]}),
    ("doubled quotes", "csv", 'a,b\n"""q""",""\n', {"a": ['"q"'], "b": [""]}),
    ("quotes inside", "csv", 'a,b\nso "they" say,x"\n', {"a": ['so "they" say'], "b": ['x"']}),
    ("delimiters in quotes", "csv", 'a,b\n"1,2",";"\n', {"a": ["1,2"], "b": [";"]}),
    ("delimiters in quotes", "tsv", 'a\tb\n"1\t2"\t","\n', {"a": ["1\t2"], "b": [","]}),
    ("blanks around", "csv", "a,b\n 1 ,\t2\n", {"a": [" 1 "], "b": ["\t2"]}),
    ("a mark of UTF-8", "jsonl", b'\xef\xbb\xbf{"a": "1"}\r\n', {"a": ["1"]}),
    ("a second mark is text", "csv", b"\xef\xbb\xbf\xef\xbb\xbfa,b\n1,2\n", {"\ufeffa": ["1"], "b": ["2"]}),
    (
        "separators of lines that are none",
        "csv",
        "a,b\n1\u2028\x85\x0b\x0c\x1c,2\n",
        {"a": ["1\u2028\x85\x0b\x0c\x1c"], "b": ["2"]},
    ),
    ("separators of lines in JSON", "jsonl", '{"a": "\u2028\x85"}\n', {"a": ["\u2028\x85"]}),
    ("escapes", "jsonl", '{"a": "\\ud83d\\ude42\\n\\u0000"}\n', {"a": ["🙂\n\0"]}),
    ("kinds", "jsonl", '{"a": 1, "b": 1.0, "c": true, "d": null}\n', {"a": [1], "b": [1.0], "c": [True], "d": [None]}),
    ("kinds that change", "jsonl", '{"a": 1}\n{"a": "1"}\n{"a": true}\n{"a": 1.0}', {"a": [1, "1", True, 1.0]}),
    ("large integers", "jsonl", f'{{"a": {2**53 + 1}}}\n{{"a": {10**400}}}', {"a": [2**53 + 1, 10**400]}),
    ("keys in another order", "jsonl", '{"a": 1, "b": 2}\n{"b": 3, "a": 4}', {"a": [1, 4], "b": [2, 3]}),
    ("null among integers", "parquet", parquet(a=[1, None], b=["NA", None]), {"a": [1, None], "b": ["NA", None]}),
    (
        "a dictionary of texts",
        "parquet",
        parquet(a=pa.array(["x", "y", "x"]).dictionary_encode()),
        {"a": ["x", "y", "x"]},
    ),
    ("a dictionary of numbers", "parquet", parquet(a=pa.array([5, 7, 5]).dictionary_encode()), {"a": [5, 7, 5]}),
    ("a NUL", "parquet", parquet(a=["x\0y"]), {"a": ["x\0y"]}),
    ("large unsigned integers", "parquet", parquet(a=pa.array([2**64 - 1], pa.uint64())), {"a": [2**64 - 1]}),
    (
        "many small groups",
        "parquet",
        packed(pa.table({"a": [f"{i}" for i in range(99)]}), row_group_size=2),
        {"a": [f"{i}" for i in range(99)]},
    ),
    (
        "a text in each row, few rows",
        "parquet",
        one_long_text(4),
        {"text": ["word " * 200_000] * 4, "label": [0, 1] * 2},
    ),
    ("a cell of 10 MB", "csv", f"a,b\n{'wörd🙂 ' * 900_000},2\n", {"a": ["wörd🙂 " * 900_000], "b": ["2"]}),
    ("a cell of 10 MB", "jsonl", json.dumps({"a": "wörd🙂 " * 900_000}), {"a": ["wörd🙂 " * 900_000]}),
    ("a cell of 10 MB", "parquet", parquet(a=["wörd🙂 " * 900_000, "b"]), {"a": ["wörd🙂 " * 900_000, "b"]}),
]


@pytest.mark.parametrize(
    ("name", "suffix", "content", "cells"), READ, ids=lambda v: v[:40] if isinstance(v, str) else ""
)
def test_read_right(name: str, suffix: str, content: str | bytes, cells: dict[str, list[Any]], tmp_path: Path) -> None:
    path = tmp_path / f"train.{suffix}"
    write(tmp_path, {path.name: content})
    problems: list[str] = []
    table = read_table(path, problems)
    assert problems == []
    assert table is not None
    # Not `==` between texts of 10 MB: pytest would take minutes to show a difference.
    assert list(table.columns) == list(cells)
    for column, wanted in cells.items():
        got = list(table.columns[column])
        assert [type(cell) for cell in got] == [type(cell) for cell in wanted]
        assert (got == wanted) is True


def test_an_unreadable_file(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        folder.chmod(0o755)
        path = folder / "train.csv"
        path.write_text(TRAIN)
        path.chmod(0)
        root = os.geteuid() == 0  # who can read everything
        if root:
            os.seteuid(65534)
        problems: list[str] = []
        try:
            assert read_table(path, problems) is None
        finally:
            if root:
                os.seteuid(0)
        assert problems == [f"{path}: can't be read: Permission denied"]
    finally:
        shutil.rmtree(folder)


def test_parquet_cut_off_anywhere(tmp_path: Path) -> None:
    whole = parquet(text=["good", "bad", "NA"] * 3, label=[1, 0, 1] * 3)
    path = tmp_path / "train.parquet"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        problems: list[str] = []
        assert read_table(path, problems) is None
        assert len(problems) == 1
        assert problems[0].startswith(f"{path}: ")


def test_many_strange_labels_take_no_time(tmp_path: Path) -> None:
    """Each of them is compared with all that are known, but only those that are shown."""
    rows = [f"a b {i},{kind}{i}" for kind in "xy" for i in range(20_000)]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(rows[:20_000] * 2))
    (tmp_path / "validation.csv").write_text("text,label\n" + "\n".join(rows[20_000:]))
    code = (
        "import sys; from trainable.data.load import *\n"
        "try: load_data(DataRequest(sys.argv[1]))\n"
        "except UserError as error: print(len(error.problems), len(str(error)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    count, length = map(int, done.stdout.split())
    assert count >= 11
    assert length < 20_000


def test_every_character_comes_back_from_spec_yaml(tmp_path: Path) -> None:
    """PyYAML writes U+0085 in a way that it reads back as blanks."""
    path = tmp_path / "spec.yaml"
    texts = [f"a{chr(code)}b c{chr(code)}" for code in (*range(1, 0x300), 0x2028, 0x2029, 0xFEFF, 0x1F642)]
    values = {"label_names": texts, "name": "d\x85", "\x85": 1, "resolved": dict.fromkeys(RESOLVED, "x")}
    path.write_bytes(write_yaml(values).encode())
    assert RunDir(tmp_path).read_spec() == values
    assert yaml.safe_load(yaml.safe_dump(values, allow_unicode=True)) != values, "or this is mended where it broke"


def test_what_yaml_merges_is_merged(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    problems: list[str] = []
    assert read_yaml(path, problems) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}
    assert problems == []


@pytest.mark.parametrize("content", ["a: " + "[" * 10_000, "a: 2001-99-99", "a: !!bool x", "a: !!int ''", "\0"])
def test_a_run_directory_with_a_strange_spec(content: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(content)
    with pytest.raises(UserError, match="can't be read"):
        RunDir(tmp_path).read_spec()


# What would happen without the limits


def test_without_its_limits_yaml_takes_the_bomb(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(LAUGHS)
    problems: list[str] = []
    assert read_yaml(path, problems) is None
    level: Any = yaml.safe_load(LAUGHS)["k8"]
    size = 1
    while isinstance(level, list):
        size, level = size * len(level), level[0]
    assert size == 9**9, "a message that shows this value would take GBs"


def test_without_its_limit_parquet_takes_the_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(one_long_text(50))
    problems: list[str] = []
    monkeypatch.setattr(parquet_reader, "SPARE_BYTES", 10**7)
    assert read_table(path, problems) is None
    assert len(problems) == 1
    monkeypatch.setattr(parquet_reader, "SPARE_BYTES", 10**12)
    table = read_table(path, problems)
    assert table is not None
    assert path.stat().st_size < 100_000 < 40_000_000 < sum(len(text) for text in table.columns["text"])


def test_without_checksums_a_changed_letter_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(spoiled_page())
    assert pq.ParquetFile(path).read()["text"].to_pylist() == ["some mood", "some bad"]


def test_a_pipe_that_is_opened_is_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-Sc", "open('pipe')"], cwd=tmp_path, timeout=1, check=False)


# Spoiled by chance

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(10**9))


@pytest.mark.parametrize("kind", fuzz.SEEDS)
def test_spoiled_inputs(kind: str, tmp_path: Path) -> None:
    print(f"FUZZ_SEED={SEED}")
    taken = fuzz.run(kind, tmp_path, SEED, 30)  # raises where a reader and its oracle differ
    assert taken < 30, "nothing was spoiled"


@pytest.mark.faults
@pytest.mark.parametrize("kind", fuzz.SEEDS)
def test_more_spoiled_inputs(kind: str, tmp_path: Path) -> None:
    print(f"FUZZ_SEED={SEED}")
    taken = fuzz.run(kind, tmp_path, SEED + 1, 400)
    assert 0 < taken < 400, "inputs of both kinds were tried"


def test_whole_inputs_are_taken(tmp_path: Path) -> None:
    for kind, wholes in fuzz.SEEDS.items():
        for whole in wholes:
            assert fuzz.CHECKS[kind](tmp_path / f"train.{kind}", whole)


@pytest.mark.parametrize("kind", ["csv", "yaml"])
def test_the_oracle_notices_a_wrong_reader(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a reader that takes the text NA for nothing, or a spec whose seeds are one off."""
    if kind == "csv":
        monkeypatch.setattr(ColumnBuilder, "add", _spoil(ColumnBuilder.add))
    else:
        monkeypatch.setattr(fuzz, "build_spec", _one_seed_off(fuzz.build_spec))
    with pytest.raises(AssertionError, match=f"FUZZ_SEED=5, {kind}") as caught:
        fuzz.run(kind, tmp_path, 5, 200)
    assert "smallest: b'" in str(caught.value)


def _one_seed_off(build: Callable[..., SweepSpec]) -> Callable[..., SweepSpec]:
    def wrong(given: Given, problems: list[str]) -> SweepSpec:
        spec = build(given, problems)
        return spec.model_copy(update={"seed": spec.seed + 1}) if "seed" in given.values else spec

    return wrong


def _spoil(add: Callable[..., None]) -> Callable[..., None]:
    return lambda rows, number, cells: add(rows, number, ["" if cell == "NA" else cell for cell in cells])


# Large files

# VmHWM and not ru_maxrss, which a process takes over from the one that started it.
MEASURE = """
import re, sys
from trainable.data.load import load_data
from trainable.data.request import DataRequest
data = load_data(DataRequest(sys.argv[1]))
print(int(re.search('VmHWM: *([0-9]+) kB', open('/proc/self/status').read().replace('\\t', ''))[1]) * 1024)
"""


def lines_of(suffix: str, rows: int, words: int) -> Callable[[Path], None]:
    """Writes that many rows of texts, no two alike, each with a character of four bytes."""

    def make(path: Path) -> None:
        rng = random.Random(0)
        pool = ["".join(rng.choices("abcdefghijklmnop", k=7)) for _ in range(1000)]
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write("text,label\n" if suffix == "csv" else "")
            for i in range(rows):
                at = i % 900
                text = f"{i} 🙂 {' '.join(pool[at : at + words])}"
                file.write(f"{text},{i % 3}\n" if suffix == "csv" else f'{{"text": "{text}", "label": {i % 3}}}\n')

    return make


def parquet_of(rows: int, words: int, **options: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        lines = path.with_suffix(".txt")
        lines_of("csv", rows, words)(lines)
        pq.write_table(pa.csv.read_csv(lines), path, **options)
        lines.unlink()

    return make


def large_cells(path: Path) -> None:
    texts = [f"{i} " + "wörd🙂 " * 900_000 for i in range(12)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "label": [0, 1] * 6}), path, compression="none")
    else:
        path.write_text("text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(texts)), "utf-8")


LARGE = {
    "train.csv": lines_of("csv", 1_300_000, 9),
    "train.jsonl": lines_of("jsonl", 1_000_000, 9),
    "train.parquet": parquet_of(1_300_000, 9, compression="none"),
    "one group/train.parquet": parquet_of(1_300_000, 9, compression="none", row_group_size=2_000_000),
    "short/train.csv": lines_of("csv", 2_900_000, 3),
    "cells/train.csv": large_cells,
    "cells/train.parquet": large_cells,
}


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LARGE)
def test_memory_stays_below_twice_the_file_and_1_gb(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    LARGE[name](path)
    size = path.stat().st_size
    assert size > 100_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path.parent)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1])
    print(f"{name}: {size / 1e6:.0f} MB read in {peak / 1e6:.0f} MB of memory")
    assert peak < 2 * size + 10**9


@pytest.mark.faults
def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """A process that refuses the files takes no more memory than one that reads a small file, or little more."""
    peaks = {}
    refuse = "except Exception as error: assert 'of memory' in str(error)\nelse: raise SystemExit('was read')\nprint("
    code = MEASURE.replace("data = load_data", "try: load_data").replace("print(", refuse)
    for name, content in {"rows": many_rows(), "text": one_long_text(100_000), "small": one_long_text(4)}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.parquet").write_bytes(content)
        assert len(content) < 2_000_000
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == (name != "small"), done.stderr
        peaks[name] = int(done.stdout.split()[-1]) if done.stdout else 0
    assert max(peaks.values()) < 10**9, peaks
