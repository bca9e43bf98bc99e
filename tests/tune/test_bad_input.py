"""Bad input is refused: everything that is wrong is told, nothing else is, and nothing was begun."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainable.metrics import METRICS
from tune.samplers import SAMPLERS
from tune.search import main
from tune.stopping_rules import STOPPING_RULES

TRAIN = "text,label\n" + "".join(
    f"{word} number {i},{label}\n" for i in range(6) for word, label in (("good", 1), ("bad", 0))
)
OTHER = "text,label\nfine this is,1\npoor that was,0\nfine that was,1\npoor this is,0\n"
GOOD = {"train.csv": TRAIN, "validation.csv": OTHER, "test.csv": OTHER.replace("is", "seems")}
JSON_ROW = '{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n'


def parquet(**columns: object) -> bytes:
    """A parquet file of these columns."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def zipped(text: str) -> bytes:
    """A zip archive with the text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("train.csv", text)
    return buffer.getvalue()


class Case(NamedTuple):
    """What is put over the good data and flags, and what is told: one entry for each problem, fragments in order."""

    name: str
    told: list[str]
    files: dict[str, str | bytes | None] = {}  # noqa: RUF012 - never changed
    flags: str = ""


def csv(name: str, text: str | bytes, *told: str) -> Case:
    return Case(f"csv {name}", list(told), {"train.csv": text})


def other(name: str, suffix: str, content: str | bytes, *told: str) -> Case:
    return Case(f"{suffix} {name}", list(told), {"train.csv": None, f"train.{suffix}": content})


def spec(name: str, yaml: str | bytes, *told: str) -> Case:
    return Case(f"spec {name}", list(told), {"../s.yaml": yaml}, "{tmp}/s.yaml")


def flag(flags: str, *told: str, **files: str | bytes) -> Case:
    return Case(f"flag {flags}", list(told), {f"../{name}.json": content for name, content in files.items()}, flags)


P10_ROWS = parquet(text=["good", "bad"] * 5, label=[1, 0] * 5)
DATA = [
    csv("ragged", TRAIN + "one,two,3\n", "train.csv, line 14: has 3 columns where the header has 2"),
    csv("too few columns, twice", TRAIN + "one\n\ntwo\n", "train.csv, lines 14, 16: have 1 column where"),
    csv("after a quoted newline", TRAIN + '"two\nlines",1\na,b,c\n', "train.csv, line 16: has 3 columns"),
    csv("unbalanced quote", TRAIN + '"never closed,1\nmore,0\n', "train.csv, line 14: unexpected end of data"),
    csv("quote inside a cell", TRAIN + '"so" they say,1\n', 'train.csv, line 14: … expected after … doubled ("")'),
    csv("doubled header", "text,text,label\na,b,1\nc,d,0\n", "train.csv, line 1: column 'text' stands twice"),
    csv("only blank header names", " ,\na,1\nc,0\n", "train.csv: which column is the label? … there are none"),
    csv(
        "no header",
        TRAIN.partition("\n")[2],
        "train.csv, line 1: was taken for the header, but … --column-names text,label",
    ),
    csv("NUL", TRAIN + "nul\0,1\n", "train.csv, line 14: holds a NUL character"),
    csv("bad UTF-8", TRAIN.encode() + b"caf\xe9,1\n", "train.csv, line 14: is not UTF-8 (byte 0xe9)"),
    csv("UTF-16", TRAIN.encode("utf-16"), "train.csv: is UTF-16, not UTF-8"),
    csv("header only", "text,label\n", "train.csv: has a header but no rows"),
    csv("empty", "", "train.csv: is empty"),
    csv("byte order mark only", b"\xef\xbb\xbf", "train.csv: has no rows"),
    csv("blank label", TRAIN + "fine,\nfine, \n", "line 14: label 'label' is blank", "line 15: label 'label' is blank"),
    Case(
        "one class",
        ["train.csv: all labels are '1'; a classifier needs two classes"],
        {"train.csv": "text,label\na b,1\nc d,1\n", "validation.csv": None, "test.csv": None},
    ),
    csv("blank text", TRAIN + ",1\n  ,0\n", "line 14: column 'text' is empty", "line 15: column 'text' is blank"),
    csv("all texts blank", "text,label\n,1\n ,0\n", "line 2: column 'text' is empty", "line 3: column 'text' is blank"),
    csv(
        "a class for each row", "text,label\n" + "".join(f"a b,{i}\n" for i in range(30)), "train.csv: 30 classes in 30"
    ),
    csv("colons", "text:label\na:1\nb:0\n", "train.csv: which columns are the texts? … there are text:label"),
    csv("zip", zipped(TRAIN), "train.csv: ends in .csv but is a zip archive"),
    csv("gzip", gzip.compress(TRAIN.encode()), "train.csv: ends in .csv but is a gzip archive"),
    csv("parquet", P10_ROWS, "train.csv: ends in .csv but is a parquet file"),
    csv("too few rows for the batch", "text,label\na b,1\nc d,0\n", "(batch_size=4 in the space, rows=2)"),
    other("ragged", "tsv", TRAIN.replace(",", "\t") + "a\tb\t1\n", "train.tsv, line 14: has 3 columns"),
    other("colons", "tsv", TRAIN.replace(",", ":"), "train.tsv: which column is the label?"),
    other(
        "not an object",
        "jsonl",
        JSON_ROW + "[1]\nnull\n7\n",
        "line 3: holds an array",
        "line 4: holds null",
        "line 5: holds a number, not an object",
    ),
    other(
        "doubled key",
        "jsonl",
        JSON_ROW + '{"text": "a", "text": "b", "label": 1}',
        "train.jsonl, line 3: is not JSON: key 'text' stands twice",
    ),
    other(
        "missing and extra key",
        "jsonl",
        "\n" + JSON_ROW + '{"text": "a", "lable": 1}',
        "train.jsonl, line 4: label 'label' is missing",
    ),
    other("NaN", "jsonl", JSON_ROW + '{"text": "a", "label": NaN}', "train.jsonl, line 3: is not JSON: NaN is no JSON"),
    other(
        "lines of arrays",
        "jsonl",
        '["a", 1]\n["b", 0]',
        "line 1: holds an array, not an object",
        "line 2: holds an array",
    ),
    other("deep nesting", "jsonl", JSON_ROW + "[" * 100_000, "train.jsonl, line 3: is nested too deeply"),
    other(
        "mixed label types",
        "jsonl",
        JSON_ROW + '{"text": "a", "label": "one"}\n{"text": "a", "label": true}',
        "line 3: label 'one' is text, but that of line 1 is an integer",
        "line 4: label True is true or false, but",
    ),
    other(
        "null text",
        "jsonl",
        JSON_ROW + '{"text": null, "label": 1}',
        "train.jsonl, line 3: column 'text' holds None, not",
    ),
    other(
        "half a character",
        "jsonl",
        JSON_ROW + '{"text": "\\ud800", "label": 1}',
        "line 3: column 'text' holds half a surr",
    ),
    other(
        "half a character's label",
        "jsonl",
        '{"text": "a", "label": "0"}\n{"text": "b", "label": "1"}\n{"text": "b", "label": "\\ud800"}',
        "line 3: label '\\ud800' holds half a surr",
    ),
    other("truncated", "parquet", P10_ROWS[:-9], "train.parquet: is damaged"),
    other("not parquet", "parquet", TRAIN, "train.parquet: ends in .parquet but is not a parquet file"),
    other(
        "null cells",
        "parquet",
        parquet(text=["a", "b", None], label=[1, 0, None]),
        "row 3: label 'label' is missing",
        "row 3: column 'text' holds None, not text",
    ),
    other(
        "fractional labels",
        "parquet",
        parquet(text=["a", "b"], label=[0.0, 1.5]),
        "train.parquet: label 'label' holds numbers such as 1.5: that looks like regression",
    ),
    other(
        "text of bytes that are not UTF-8",
        "parquet",
        parquet(text=pa.array([b"a", b"\xe9"]).cast(pa.binary()).view(pa.string()), label=[1, 0]),
        "train.parquet, row 2: column 'text' is not UTF-8 (byte 0xe9)",
    ),
    Case(
        "column of lists",
        ["validation.csv", "train.parquet: column 'text' holds lists (['a'], ...), not text"],
        {
            "train.csv": None,
            "train.parquet": parquet(text=[["a"], ["b"]], label=[1, 0]),
            "validation.csv": "text,label\na,\n",
        },
        "--text-columns text",
    ),
    Case(
        "label unseen in train",
        ["validation.csv, line 6: label '2' does not occur in train; known: 0, 1"],
        {"validation.csv": OTHER + "odd,2\n"},
    ),
    Case(
        "label unseen after a blank one",
        ["line 2: label 'label' is blank", "line 3: label 'x' does not occur in train"],
        {"validation.csv": "text,label\na,\nb,x\nc,1\n"},
    ),
    Case(
        "no train",
        ["no file train (.parquet, .csv, … it holds test.csv, validation.csv; name one with --train FILE"],
        {"train.csv": None},
    ),
    Case(
        "two train files",
        ["train.csv and train.jsonl may both be the train split; say which with --train FILE"],
        {"train.jsonl": JSON_ROW},
    ),
    Case("no dataset folder", ["--dataset {tmp}/nowhere: no such file or folder"], {}, "--dataset {tmp}/nowhere"),
    Case("dataset of an unknown user", ["--dataset ~nobody-here/x: no such file"], {}, "--dataset ~nobody-here/x"),
    Case("dataset with a name too long", ["no such file or folder"], {}, "--dataset /" + "a" * 300),
    Case(
        "unknown builtin data",
        ["--dataset builtin:newswires: known: builtin:newswire"],
        {},
        "--dataset builtin:newswires",
    ),
    Case(
        "too few rows to cut",
        ["2 training rows are too few to cut a test split from"],
        {"train.csv": "text,label\na b,1\nc d,0\n", "test.csv": None},
        "--space batch_size=1",
    ),
    Case(
        "missing split",
        ["no file for --set validation_split=dev; known: test, train"],
        {},
        "--set validation_split=dev",
    ),
    Case("missing class", ["positive_label: no class 'yes'; known: 0, 1"], {}, "--set positive_label=yes"),
    Case(
        "missing columns",
        [
            "train.csv: no column 'txt'; did you mean 'text'?",
            "train.csv: no column 'lable'; did you mean 'label'?",
            "validation.csv: no column 'txt'",
            "validation.csv: no column 'lable'",
            "test.csv: no column 'txt'",
            "test.csv: no column 'lable'",
        ],
        {},
        "--text-columns txt --label-column lable",
    ),
    Case(
        "column missing in one file",
        ["validation.csv: no column 'label'; known: class, text", "train.csv, line 14: column 'text' is empty"],
        {"validation.csv": OTHER.replace("label", "class"), "train.csv": TRAIN + ",1\n"},
    ),
    Case(
        "label among the texts",
        ["--text-columns takes one or two columns other than the label's, but got text,label (label: label)"],
        {},
        "--text-columns text,label",
    ),
    Case(
        "several files",
        [
            "train.csv, line 14: has 1 column where",
            "validation.csv, line 6: label 'label' is blank",
            "test.csv, line 6: column 'text' is empty",
        ],
        {"train.csv": TRAIN + "x\n", "validation.csv": OTHER + "x,\n", "test.csv": OTHER + ",1\n"},
    ),
    Case(
        "binary F1 of three classes",
        ["f1 binary needs two classes, but the data has 3; use macro"],
        {"train.csv": TRAIN + "so so,2\n"},
        "--set f1=binary",
    ),
    Case(
        "train rows lose a class",
        ["--train-rows 3 leaves no row of class '2'; use more rows"],
        {"train.csv": TRAIN + "so so,2\n"},
        "--train-rows 3",
    ),
]

# As errors list them. The tables grow by a file each, and no test has to follow.
NAMES = {
    name: ", ".join(table)
    for name, table in (("metric", METRICS), ("sampler", SAMPLERS), ("scheduler", STOPPING_RULES))
}
NUMBERS = {  # a value out of range for each, and the rule
    "num_trials": (0, "an integer >= 1"),
    "seed": (-1, "an integer >= 0"),
    "max_length": (3, "an integer >= 4"),
    "reduction_factor": (1, "a number > 1"),
    "state_interval_s": (-0.5, "a number >= 0"),
    "cpus_per_trial": (0, "a number >= 0.0001"),
    "gpus_per_trial": (-1, "auto, 0 or a number >= 0.0001"),
    "max_concurrent": (0, "an integer >= 1"),
    "train_rows": (1, "an integer >= 2"),
    "validation_fraction": (0.6, "a number > 0 and <= 0.5"),
    "test_fraction": (0, "a number > 0 and <= 0.5"),
    "num_cpus": (0, "an integer >= 1"),
    "num_gpus": (-1, "an integer >= 0"),
}


def numbers(name: str, value: str, shown: str) -> Case:
    """The same value for every number."""
    rules = {field: rule for field, (_, rule) in NUMBERS.items()}
    told = [f"s.yaml: {field} must be {rule}, but got {shown}" for field, rule in rules.items()]
    return spec(f"every number is {name}", "".join(f"{field}: {value}\n" for field in rules), *told)


SPECS = [
    numbers("text", "many", "'many'"),
    numbers("a list", "[3]", "[3]"),
    numbers("a mapping", "{a: 1}", "{'a': 1}"),
    numbers("true", "true", "True"),
    numbers("not a number", ".nan", "nan"),
    numbers("text that is not a number", "nan", "'nan'"),
    numbers("without end", ".inf", "inf"),
    numbers("too large", "9" * 400, "9" * 400),
    numbers("a date", "2001-01-01", "datetime.date(2001, 1, 1)"),
    spec(
        "every number is out of range",
        "".join(f"{field}: {value!r}\n" for field, (value, _) in NUMBERS.items()),
        *[f"s.yaml: {field} must be {rule}, but got {value!r}" for field, (value, rule) in NUMBERS.items()],
    ),
    spec("missing", b"", "s.yaml: must hold `field: value` lines, but is empty"),
    Case("spec no such file", ["none.yaml: no such file"], {}, "{tmp}/none.yaml"),
    Case("spec is a folder", ["data: is a folder, not a file"], {}, "{data}"),
    spec("not a mapping", "- model\n", "s.yaml: must hold `field: value` lines, but holds a list"),
    spec("doubled key", "seed: 1\nmetric: f1\nseed: 2\n", "s.yaml, line 3: is not YAML: key 'seed' stands twice"),
    spec(
        "doubled key inside", "space:\n  epochs: 1\n  epochs: 2\n", "s.yaml, line 3: is not YAML: key 'epochs' stands"
    ),
    spec("broken", "model: [a\nmetric: f1\n", "s.yaml, line 2: is not YAML"),
    spec("two documents", "seed: 1\n---\nseed: 2\n", "s.yaml, line 2: is not YAML"),
    spec("control character", "name: a\x01b\n", "s.yaml, line 1: is not YAML: unacceptable character"),
    spec("not UTF-8", b"name: caf\xe9\n", "s.yaml, line 1: is not UTF-8 (byte 0xe9)"),
    spec("forced tag", "!!map [[a, b]]\n", "s.yaml, line 1: is not YAML"),
    spec("unhashable key", "[a, b]: c\n? [c]\n: d\n", "s.yaml, line 1: is not YAML: found unhashable key"),
    spec("no date", "name: 2001-99-99\n", "s.yaml, line 1: is not YAML: month must be in 1..12"),
    spec(
        "unknown fields",
        "num_trails: 3\nbatch_size: 8\n1: 2\n",
        "s.yaml: num_trails: no such field; did you mean 'num_trials'?",
        "s.yaml: batch_size: no such field",
        "s.yaml: 1: no such field",
    ),
    spec("unknown preset", "preset: mprc\n", "s.yaml: no preset 'mprc'; did you mean 'mrpc'?"),
    spec(
        "every number is a list",
        "num_trials: [3]\nseed: {a: 1}\nmax_length: [true]\ncpus_per_trial: [1]\n",
        *[f"s.yaml: {name} must be " for name in ("num_trials", "seed", "max_length", "cpus_per_trial")],
    ),
    spec(
        "numbers that are none",
        "num_trials: 2.5\nseed: true\nmax_length: .inf\ncpus_per_trial: .nan\nreduction_factor: 2001-01-01\n",
        "num_trials must be an integer >= 1, but got 2.5",
        "seed must be an integer >= 0, but got True",
        "max_length must be an integer >= 4, but got inf",
        "cpus_per_trial must be a number >= 0.0001, but got nan",
        "reduction_factor must be a number > 1, but got datetime.date(2001, 1, 1)",
    ),
    spec(
        "numbers without end",
        f"num_trials: {'9' * 400}\nseed: {'9' * 5000}\n",
        "s.yaml, line 2: is not YAML: Exceeds the limit",
    ),
    spec("a number without end", f"num_trials: {'9' * 400}\n", "num_trials must be an integer >= 1, but got 9"),
    spec(
        "no value",
        "num_trials:\nmetric: ~\nname:\n",
        "num_trials must be an integer >= 1, but got None",
        f"metric must be one of {NAMES['metric']}",
        "name must be text, but got None",
    ),
    spec(
        "texts that are none",
        "name: [a]\ntrain_split: 1\nlabel_column: yes\npositive_label: 1.5\naddress: ''\ntest_split: [a]\n",
        "name must be text, but got ['a']",
        "train_split must be text, but got 1",
        "label_column must be text, but got True",
        "positive_label must be a class, but got 1.5",
        "address must be text, but got ''",
        "test_split must be text, but got ['a']",
    ),
    spec(
        "choices",
        "metric: f2\nmode: off\nf1: micro\nscheduler: 3\nsampler: [tpe]\nprecision: fp8\n",
        "metric must be one of … but got 'f2'",
        "mode must be one of max, min, but got False",
        "f1 must be one of auto, binary, macro, but got 'micro'",
        f"scheduler must be one of {NAMES['scheduler']}, but got 3",
        f"sampler must be one of {NAMES['sampler']}, but got ['tpe']",
        "precision must be one of auto, bf16, fp16, fp32, but got 'fp8'",
    ),
    spec("NUL in a name", 'name: "a\\0b"\n', "s.yaml: name must be text without NUL and in UTF-8, but got 'a\\x00b'"),
    spec(
        "columns",
        "text_columns: [a, b, c]\n",
        "s.yaml: text_columns must be one column or two (a,b), but got ['a', 'b', 'c']",
    ),
    spec("blank column", "text_columns: 'a,'\n", "s.yaml: text_columns must be one column or two (a,b), but got 'a,'"),
    spec(
        "column twice",
        "text_columns: [a, a]\n",
        "s.yaml: text_columns must be one column or two (a,b), but got ['a', 'a']",
    ),
    spec("space is a list", "space: [epochs]\n", "s.yaml: space must be `field: domain` lines, but got ['epochs']"),
    spec(
        "spaces",
        "space:\n  lr: 1\n  epochs: [2, x]\n  dropout: 1-2\n  weight_decay: []\n  learning_rate: true\n",
        "s.yaml: space.lr: 'lr' is no field",
        "s.yaml: space.epochs: can't read [2, 'x']; write",
        "space.dropout: can't read '1-2'",
        "space.weight_decay: can't read []",
        "space.learning_rate: can't read True",
    ),
    spec("points", "points: 5\n", "s.yaml: points: must be a list of configurations"),
    spec(
        "points with wrong values",
        "points:\n- {epochs: 0, lr: 1}\n- {epochs: [2]}\n",
        "s.yaml: points, configuration 1: `epochs` must be an integer >= 1, but got 0",
        "configuration 1: 'lr' is no field",
        "configuration 2: `epochs` must be an integer >= 1, but got [2]",
    ),
    spec(
        "a cluster's size",
        "address: auto\nnum_cpus: 2\nnum_gpus: 1\n",
        "num_cpus is what a private local Ray offers",
        "num_gpus is what a private local Ray offers",
    ),
]

FLAGS = [
    flag("--num-trails 5", "unknown flag --num-trails; did you mean '--num-trials'?"),
    flag("--num-trails=5", "unknown flag --num-trails; did you mean '--num-trials'?"),
    flag("-seed 5", "unknown flag -seed; did you mean '--seed'?"),
    flag("--learning-rate 1e-5", "unknown flag --learning-rate; did you mean --space learning_rate=1e-5?"),
    flag("--epochs=3", "unknown flag --epochs; did you mean --space epochs=3?"),
    flag("--lr 1e-5", "unknown flag --lr; did you mean --space learning_rate=1e-5?"),
    flag(
        "--sed 5 --seed --metric f2",
        "unknown flag --sed; did you mean '--seed'?",
        "--seed needs a value",
        f"--metric must be one of {NAMES['metric']}, but got 'f2'",
    ),
    flag("--seed", "--seed needs a value"),
    flag("--seed=", "--seed must be an integer >= 0, but got ''"),
    flag("--num-trials 0", "--num-trials must be an integer >= 1, but got '0'"),
    flag(
        "--num-trials x --seed 1.5",
        "--num-trials must be an integer >= 1, but got 'x'",
        "--seed must be an integer >= 0, but got '1.5'",
    ),
    flag("--mode min", "--mode min would look for the worst f1; use max"),
    flag("--mode max --metric loss", "--mode max would look for the worst loss; use min"),
    flag("--preset mprc", "--preset: no preset 'mprc'; did you mean 'mrpc'?"),
    flag("--preset demo {tmp}/s.yaml", "give SPEC.yaml or --preset, not both", "s.yaml: no such file"),
    flag(
        "--scheduler hyperband --sampler grid --precision fp8",
        f"--scheduler must be one of {NAMES['scheduler']}, but got 'hyperband'",
        f"--sampler must be one of {NAMES['sampler']}, but got 'grid'",
        "--precision must be one of auto, bf16, fp16, fp32, but got 'fp8'",
    ),
    flag("--cpus-per-trial 999", "no room for even one trial: it asks for 999 cores"),
    flag("--cpus-per-trial 1e-320", "--cpus-per-trial must be a number >= 0.0001"),
    flag(
        "--gpus-per-trial 1.5 --set num_gpus=4",
        "--gpus-per-trial must be at most 1, but got 1.5: a trial trains on one GPU",
    ),
    flag(
        "--space batch_size=32",
        "`batch_size <= training rows` must hold, but got (batch_size=32 in the space, rows=12)",
    ),
    flag("--space batch_size=1..1234567", "(batch_size=1234567 in the space, rows=12)"),
    flag("--space batch_size=8..inf", "--space batch_size=8..inf: `batch_size` takes integers, but got 8.0..inf"),
    flag("--space batch_size=4..1.5e1000", "--space batch_size=4..1.5e1000: `batch_size` takes integers"),
    flag(f"--space batch_size={'9' * 400}", "can't read '999"),
    flag("--space learning_rate=log:1e-4..1e-5", "`low < high` must hold, but got (low=0.0001, high=1e-05)"),
    flag("--space learning_rate=1e-5..nan", "`low < high` must hold"),
    flag("--space learning_rate=1e-5..inf", "`learning_rate` must be a number > 0, but got inf"),
    flag("--space learning_rate=log:0..1", "`low > 0` must hold for a logarithmic range, but got (low=0, high=1)"),
    flag(
        "--space learning_rte=1e-5",
        "'learning_rte' is no field of a trial's configuration; did you mean 'learning_rate'?",
    ),
    flag("--space epochs=2.5..3.5", "`epochs` takes integers, but got 2.5..3.5"),
    flag("--space epochs=0..3", "`epochs` must be an integer >= 1, but got 0"),
    flag("--space epochs=2,2.0", "a choice stands twice in 2,2.0"),
    flag("--space epochs=2-5", "--space epochs=2-5: can't read '2-5'; write log:1e-5..1e-4"),
    flag("--space epochs=log:2", "can't read 'log:2'"),
    flag("--space epochs=", "can't read ''"),
    flag("--space epochs=1..2..3", "can't read '1..2..3'"),
    flag("--space epochs=none", "`epochs` must be an integer >= 1, but got None"),
    flag("--space dropout=0..1", "`dropout` must be a number >= 0 and < 1 or none, but got 1"),
    flag("--space epochs --space =2", "--space epochs: write NAME=SPEC", "--space =2: '' is no field"),
    flag("--set space=x --space epochs=2", "--set space=x: use --space NAME=SPEC"),
    flag("--set seed", "--set seed: write key=value"),
    flag("--set sed=1", "--set sed: no such field; did you mean 'seed'?"),
    flag("--set num_trials=none --set scheduler=none", "--set num_trials must be an integer >= 1, but got 'none'"),
    flag("--points {tmp}/p.json", "--points: {tmp}/p.json: no such file"),
    flag("--points {tmp}/p.json", "--points: {tmp}/p.json is not JSON", p="[{"),
    flag(
        "--points {tmp}/p.json",
        "--points: {tmp}/p.json is not JSON: key 'epochs' stands twice",
        p='[{"epochs": 2, "epochs": 3}]',
    ),
    flag("--points {tmp}/p.json", "p.json: must be a list of configurations", p='{"epochs": 2}'),
    flag("--points {tmp}/p.json", "p.json: must be a list of configurations", p="[]"),
    flag("--points {tmp}/p.json", "--points: {tmp}/p.json is not JSON", p="[" * 100_000),
    flag(
        "--points {tmp}/p.json",
        "p.json, configuration 1: 'batchsize' is no field of a trial's configuration; did you mean 'batch_size'?",
        "p.json, configuration 2: `learning_rate` must be a number > 0, but got nan",
        "configuration 3: `epochs` must be",
        p='[{"batchsize": 8}, {"learning_rate": NaN}, {"epochs": 1' + "0" * 400 + "}]",
    ),
    flag(
        "--points {tmp}/p.json --num-trials 1",
        "`num_trials >= number of points` must hold, but got (num_trials=1, points=2)",
        p='[{"epochs": 2}, {"epochs": 3}]',
    ),
    flag(
        "--points {tmp}/p.json",
        "(batch_size=16 in configuration 2, rows=12)",
        p='[{"batch_size": 8}, {"batch_size": 16}]',
    ),
    flag("--points ~nobody-here/p.json", "--points: ~nobody-here/p.json: no such file"),
    flag("--out {data}/train.csv", "--out {data}/train.csv: is a file, not a folder"),
    flag("--out {data}/train.csv/new", "--out {data}/train.csv/new: {data}/train.csv is a file, not a folder"),
    flag("--out {data}", "--out {data}: holds files but no sweep; give a new folder"),
    flag("--out ~nobody-here/x", "--out must be a folder, but got '~nobody-here/x'"),
    flag("--out {tmp}/" + "a" * 300, ": File name too long"),
    flag("--out=", "--out must be a folder, but got ''"),
    flag("--model= --dataset=", "--model must be text, but got ''", "--dataset must be text, but got ''"),
    flag("--model builtin:bert", "--model builtin:bert: known: builtin:minilm"),
    flag("--model {tmp}/nowhere", "--model {tmp}/nowhere: no such folder"),
    flag("--model {data}/train.csv", "--model {data}/train.csv: is a file, not a folder"),
    flag(
        "--model {data}",
        "--model {data}: is no model's folder, it has no config.json",
        "has no weights",
        "has no tokenizer",
    ),
    flag("--model /" + "a" * 300, "no such folder"),
    flag("--model a//b!", "--model a//b!: is neither a local folder nor a name"),
    flag("stray.yaml more.yaml", "stray.yaml: no such file", "unexpected argument 'more.yaml'"),
]


@pytest.fixture
def places(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return {
        "tmp": str(tmp_path),
        "data": str(tmp_path / "data"),
        "out": str(tmp_path / "out"),
        "model": str(tiny_model),
    }


def write(folder: Path, files: dict[str, str | bytes | None]) -> None:
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The problems that a command line is refused with."""
    capsys.readouterr()
    code = main(flags)
    said = capsys.readouterr()
    assert code == 2, said
    assert "Traceback" not in said.err
    assert said.out == ""
    text, last = said.err.removesuffix("\n").rsplit("\n", 1)
    assert last == "Nothing was started. See --help."
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    head, *rest = re.split(r"^  \d+\. ", text, flags=re.MULTILINE)
    if not rest:
        return [text]
    assert head == f"{len(rest)} problems:\n"
    return [problem.removesuffix("\n") for problem in rest]


def filled(text: str, places: dict[str, str]) -> str:
    """`text` with {tmp} and the like as they are called in this test."""
    return re.sub(r"{(tmp|data|out|model)}", lambda match: places[match[1]], text)


def says(problem: str, told: str) -> bool:
    """Whether the fragments of `told` stand in a problem, in this order."""
    return re.search(".*".join(map(re.escape, told.split(" … "))), problem, re.DOTALL) is not None


def good_flags(places: dict[str, str]) -> list[str]:
    return ["--dataset", places["data"], "--model", places["model"], "--out", places["out"], "--space", "batch_size=4"]


@pytest.mark.parametrize("case", [*DATA, *SPECS, *FLAGS], ids=lambda case: case.name[:60])
def test_refused_with_exactly_what_is_wrong(
    case: Case, places: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)  # whether this user has a token is not of interest here
    write(Path(places["data"]), GOOD | case.files)
    before = sorted(Path(places["tmp"]).rglob("*"))
    flags = [filled(word, places) for word in case.flags.split(" ") if word]
    problems = refused([*good_flags(places), *flags], capsys)
    told = [filled(each, places) for each in case.told]
    assert len(problems) == len(told), "\n".join(problems)
    for problem in problems:
        assert any(says(problem, each) for each in told), problem
    for each in told:
        assert any(says(problem, each) for problem in problems), f"{each}\nis not told by\n" + "\n".join(problems)
    assert sorted(Path(places["tmp"]).rglob("*")) == before


# The model's folder


def copy_of(model: Path, to: Path) -> Path:
    shutil.copytree(model, to)
    return to


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def shard(folder: Path, names: dict[str, str]) -> None:
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def drop(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


MODELS = {
    "no config": (lambda f: drop(f, "config.json"), ["is no model's folder, it has no config.json"]),
    "no weights": (lambda f: drop(f, "model.safetensors"), ["has no weights (model.safetensors)"]),
    "no tokenizer": (lambda f: drop(f, "tokenizer.json", "vocab.txt"), ["has no tokenizer (tokenizer.json, vocab.txt"]),
    "damaged tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), ["its tokenizer can't be loaded: "]),
    "nothing whole": (
        lambda f: (drop(f, "tokenizer.json", "vocab.txt"), cut(f / "config.json"), cut(f / "model.safetensors")),
        ["config.json is no JSON", "model.safetensors is damaged or cut off", "has no tokenizer"],
    ),
    "truncated weights": (lambda f: cut(f / "model.safetensors"), ["model.safetensors is damaged or cut off"]),
    "weights left at a pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        ["model.safetensors is a pointer of git LFS"],
    ),
    "weights whose header is a list": (
        lambda f: (f / "model.safetensors").write_bytes((4).to_bytes(8, "little") + b"[1] "),
        ["model.safetensors is damaged or cut off"],
    ),
    "torch weights that are none": (
        lambda f: (drop(f, "model.safetensors"), (f / "pytorch_model.bin").write_text("version 1")),
        ["has only pickled weights (pytorch_model.bin), which may run code and are never opened here"],
    ),
    "a part is cut off": (
        lambda f: (shard(f, {"a": "one.safetensors"}), cut(f / "one.safetensors")),
        ["one.safetensors is damaged or cut off"],
    ),
    "a part is missing": (
        lambda f: shard(f, {"a": "one.safetensors", "b": "two.safetensors"}),
        ["model.safetensors.index.json names two.safetensors, which is not there"],
    ),
    "a list of parts that is none": (
        lambda f: (shard(f, {}), (f / "model.safetensors.index.json").write_text("[]")),
        ["model.safetensors.index.json is damaged or cut off"],
    ),
    "unknown type": (
        lambda f: (f / "config.json").write_text('{"model_type": "birt"}'),
        ["model type 'birt' can't classify sequences; did you mean 'bert'?"],
    ),
    "no type": (
        lambda f: (f / "config.json").write_text("{}"),
        ["model type None can't classify sequences; config.json names no model_type"],
    ),
    "a type that is a list": (
        lambda f: (f / "config.json").write_text('{"model_type": ["bert"]}'),
        ["model type ['bert']"],
    ),
    "a config that is a list": (lambda f: (f / "config.json").write_text("[]"), ["config.json holds no JSON object"]),
    "a config without bottom": (lambda f: (f / "config.json").write_text("[" * 100_000), ["config.json is no JSON"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_that_is_no_model(name: str, places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    spoil, told = MODELS[name]
    write(Path(places["data"]), GOOD)
    folder = copy_of(Path(places["model"]), Path(places["tmp"], "model"))
    spoil(folder)
    problems = refused([*good_flags(places), "--model", str(folder)], capsys)
    assert len(problems) == len(told), problems
    for problem, each in zip(problems, told, strict=True):
        assert problem.startswith(f"--model {folder}: {each}")
    assert not Path(places["out"]).exists()


# The run directory


def begun(places: dict[str, str], *flags: str) -> None:
    """The run directory as a sweep with these flags has it once it is begun."""
    from tests.tune.checked import checked

    prepared = checked([*good_flags(places), *flags])
    prepared.run_dir.root.mkdir()
    prepared.write_spec("fp32")


def test_out_holds_another_sweep(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write(Path(places["data"]), GOOD)
    begun(places)
    before = Path(places["out"], "spec.yaml").read_bytes()
    out = f"--out {places['out']}: holds another sweep"

    def difference(*flags: str) -> str:
        (problem,) = [p for p in refused([*good_flags(places), *flags], capsys) if p.startswith("--out")]
        assert problem.startswith(f"{out} (")
        return problem[len(out) + 2 :].partition("); give another --out, or --fresh to start over")[0]

    assert difference("--metric", "accuracy") == "metric: f1 there, accuracy here"
    assert difference("--seed", "7", "--sampler", "random") == "sampler: tpe there, random here; seed: 42 there, 7 here"
    assert difference("--train-rows", "8") == "train_rows: None there, 8 here"
    assert difference("--space", "epochs=3").startswith("space: {'learning_rate': 'log:1e-05..0.0003'")
    other_model = copy_of(Path(places["model"]), Path(places["tmp"], "other"))
    (other_model / "vocab.txt").write_text((other_model / "vocab.txt").read_text() + "more\n")
    both = f"another model: {places['model']} there, {other_model} here"
    assert difference("--model", str(other_model)) == both
    # The other problems do not hide it; what follows from a wrong field is not told.
    assert difference("--model", str(other_model), "--mode", "low") == both
    assert difference("--metric", "accuracy", "--cpus-per-trial", "999") == "metric: f1 there, accuracy here"
    assert Path(places["out"], "spec.yaml").read_bytes() == before
    assert len(list(Path(places["out"]).iterdir())) == 1


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"a: [", b"\xff\xfe", b"model: x\n", b"resolved: {}\n", b"resolved: 3\n"]
)
def test_out_holds_a_damaged_sweep(content: bytes, places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write(Path(places["data"]), GOOD)
    Path(places["out"]).mkdir()
    Path(places["out"], "spec.yaml").write_bytes(content)
    (problem,) = refused(good_flags(places), capsys)
    assert places["out"] in problem
    assert Path(places["out"], "spec.yaml").read_bytes() == content


# Everything at once


def test_problems_of_five_kinds_in_one_go(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write(Path(places["data"]), GOOD | {"train.csv": TRAIN + "no label,\n", "test.csv": "text;label\n"})
    (Path(places["tmp"]) / "model").mkdir()
    flags = [
        "--num-trails",
        "5",
        "--space",
        "epochs=5..2",
        "--cpus-per-trial",
        "999",
        "--model",
        f"{places['tmp']}/model",
    ]
    problems = refused([*good_flags(places), *flags], capsys)
    data, model = places["data"], f"{places['tmp']}/model"
    assert [problem for problem in problems if "no room" not in problem] == [
        "unknown flag --num-trails; did you mean '--num-trials'?",
        "--space epochs=5..2: `low < high` must hold, but got (low=5, high=2)",
        f"{data}/test.csv: has a header but no rows",
        f"{data}/train.csv, line 14: label 'label' is blank; --skip-blank-rows leaves such rows out",
        f"--model {model}: is no model's folder, it has no config.json",
        f"--model {model}: has no weights (model.safetensors)",
        f"--model {model}: has no tokenizer (tokenizer.json, vocab.txt, vocab.json, ...)",
    ]
    assert sum("no room for even one trial: it asks for 999 cores" in problem for problem in problems) == 1
    assert not Path(places["out"]).exists()


def test_the_exact_words(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write(Path(places["data"]), GOOD | {"validation.csv": OTHER + "odd,11\n"})
    assert main([*good_flags(places), "--metric", "f2", "--space", "batch_size=64", "--space", "droput=0.1"]) == 2
    assert capsys.readouterr().err == (
        "3 problems:\n"
        f"  1. --metric must be one of {NAMES['metric']}, but got 'f2'\n"
        "  2. --space droput=0.1: 'droput' is no field of a trial's configuration; did you mean 'dropout'?\n"
        f"  3. {places['data']}/validation.csv, line 6: label '11' does not occur in train; did you mean '1'?\n"
        "Nothing was started. See --help.\n"
    )
    write(Path(places["data"]), GOOD)
    assert main([*good_flags(places), "--space", "batch_size=64"]) == 2
    assert capsys.readouterr().err == (
        "`batch_size <= training rows` must hold, but got (batch_size=64 in the space, rows=12); add rows, or "
        "narrow the space: --space batch_size=N\n"
        "Nothing was started. See --help.\n"
    )


def test_more_than_ten_problems_of_a_file_are_counted(
    places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for extra in (1, 2):
        write(Path(places["data"]), GOOD | {"train.csv": TRAIN + "x,\n" * (10 + extra)})
        problems = refused(good_flags(places), capsys)
        assert len(problems) == 11
        assert problems[-1] == f"{places['data']}/train.csv: {extra} more problem{'s' * (extra > 1)}"


# What looks odd and is right

ACCEPTED: dict[str, dict[str, str | bytes | None]] = {
    "as it is": {},
    "a byte order mark": {"train.csv": b"\xef\xbb\xbf" + TRAIN.encode()},
    "lines that end as on Windows": {"train.csv": TRAIN.replace("\n", "\r\n")},
    "blank lines and none at the end": {"train.csv": TRAIN.replace("\n", "\n\n").rstrip()},
    "words that others read as nothing": {"train.csv": TRAIN + "NA,1\nnull,0\nnan,1\nNone,0\n"},
    "labels of words": {name: text.replace(",1\n", ",yes\n").replace(",0\n", ",no\n") for name, text in GOOD.items()},
    "quoted newlines": {"train.csv": TRAIN + '"one\n""two""\n",1\n'},
    "no validation, no test": {"validation.csv": None, "test.csv": None},
    "semicolons": {"train.csv": TRAIN.replace(",", ";")},
    "commas in a file of tabs": {"train.csv": None, "train.tsv": TRAIN},
    "a column without a name": {"train.csv": TRAIN.replace("\n", ",\n")},
    "an array in lines of JSON": {"train.csv": None, "train.jsonl": "[" + ",".join(JSON_ROW.splitlines() * 3) + "]"},
    "parquet beside CSV": {"train.csv": None, "train.parquet": P10_ROWS},
    "lines of JSON beside CSV": {"train.csv": None, "train.jsonl": JSON_ROW * 3},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str, places: dict[str, str]) -> None:
    from tests.tune.checked import checked

    write(Path(places["data"]), GOOD | ACCEPTED[name])
    problems: list[str] = []
    inputs = checked(good_flags(places), problems).inputs
    assert problems == []
    assert len(inputs.data.label_names) == 2
    assert ("no test split to use" in str(inputs.data.notes)) == (name == "no validation, no test")
    assert not Path(places["out"]).exists()
