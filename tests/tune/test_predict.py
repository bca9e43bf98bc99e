"""`python -m tune.predict`: new texts get the labels that `pipeline` gives them, in files of every kind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from transformers import pipeline

import tune.predict
from benchmarks.workload import data_folder
from tests.conftest import write_pairs
from tests.tune.test_end_to_end import command
from tests.tune.test_reproduce import inputs_of
from tests.tune.test_shown import report_of
from trainable.config import TrialConfig
from trainable.data.load import load_data
from trainable.data.request import DataRequest
from trainable.data.row_streams import STREAMED, row_stream
from trainable.errors import UserError
from trainable.train.run import FineTuningRun
from tune.cluster.plan import Plan
from tune.predict import PREDICTED, Predictor, main, predict_file
from tune.prepare.identity import spec_document
from tune.prepare.inputs import BUILTIN_DATASETS
from tune.prepare.launch import make_job
from tune.report.files import write_best
from tune.run_dir.layout import RunDir

FIRST, SECOND = "the cat in the garden saw the show is good", "never saw it sold shares instead"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished sweep over pairs."""
    folder = tmp_path_factory.mktemp("predict")
    data = write_pairs(folder / "pairs", {"train": 96, "validation": 48, "test": 48})
    flags = ("--num-trials", 1, "--space", "epochs=1", "--precision", "fp32", "--max-length", 48)
    done = command("tune.search", "--dataset", data, "--model", tiny_model, "--out", "run", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


ROWS = [
    {"id": 7, "sentence1": FIRST, "sentence2": SECOND, "note": 'a "quoted", cell'},
    {"id": 8, "sentence1": "zwölf\nZeilen", "sentence2": "", "note": None},
    {"id": 9, "sentence1": "word " * 3000, "sentence2": SECOND, "note": "= a\tb"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    with row_stream(path, "--file") as stream:
        return [row for _, row in stream.rows]


@pytest.mark.parametrize("source", STREAMED)
@pytest.mark.parametrize("target", STREAMED)
def test_every_kind_of_file_keeps_its_columns_and_gets_the_answers(
    run: Path, tmp_path: Path, source: str, target: str
) -> None:
    file, output = write(tmp_path / f"in{source}", ROWS), tmp_path / f"out{target}"
    assert predict_file(run, file, output) == 3
    labelled = read(output)
    assert list(labelled[0]) == ["id", "sentence1", "sentence2", "note", PREDICTED, "probability 0", "probability 1"]
    for row, before in zip(labelled, read(file), strict=True):
        for name, value in before.items():
            assert row[name] == value or str(row[name]) == str(value or ""), name
        chances = {name: float(row[f"probability {name}"]) for name in ("0", "1")}
        assert sum(chances.values()) == pytest.approx(1)
        assert row[PREDICTED] == max(chances, key=lambda name: chances[name])
    assert [path.name for path in tmp_path.iterdir() if path not in (file, output)] == []


def test_the_answers_are_those_of_the_pipeline_and_of_any_other_cut_into_pieces(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = run.parent / "pairs" / "test.csv"
    predict_file(run, file, tmp_path / "whole.jsonl")
    monkeypatch.setattr(tune.predict, "PIECE_ROWS", 7)
    predict_file(run, file, tmp_path / "pieces.jsonl")
    classify = pipeline("text-classification", str(run / "best"), top_k=None, device="cpu")
    whole, cut = read(tmp_path / "whole.jsonl"), read(tmp_path / "pieces.jsonl")
    assert len(whole) == 48
    for row, again in zip(whole, cut, strict=True):
        told = {
            each["label"]: each["score"] for each in classify({"text": row["sentence1"], "text_pair": row["sentence2"]})
        }
        assert row[PREDICTED] == again[PREDICTED] == max(told, key=lambda name: told[name])
        for name, score in told.items():
            assert row[f"probability {name}"] == pytest.approx(score, abs=1e-5)
            assert again[f"probability {name}"] == pytest.approx(score, abs=1e-5)


def test_a_file_is_read_no_further_than_it_is_labelled(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune.predict, "PIECE_ROWS", 2)
    file = write(tmp_path / "in.jsonl", ROWS[:2] * 3)
    file.write_text(file.read_text() + "{broken\n" + file.read_text())
    seen: list[int] = []
    of_model = Predictor.probabilities

    def counted(self: Predictor, columns: Any) -> Any:
        seen.append(len(columns[0]))
        return of_model(self, columns)

    monkeypatch.setattr(Predictor, "probabilities", counted)
    output = tmp_path / "out.csv"
    output.write_text("as before")
    with pytest.raises(UserError, match=r"in.jsonl, line 7: is not JSON"):
        predict_file(run, file, output)
    assert seen == [2, 2, 2]
    assert output.read_text() == "as before"
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.csv"}


def test_texts_of_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--text", FIRST, "--pair", SECOND, "--text", "word " * 3000, "--pair", "b"]) == 0
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert printed.err == ""
    assert len(answers) == 2
    for answer in answers:
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert Predictor(run).predict([], []) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--text", "a"], "this model was trained on pairs: give sentence1 as --text and sentence2 as --pair"),
        (["--text", "a", "--pair", "b", "--pair", "c"], "1 text, but 2 second ones"),
        (["--file", "no.csv", "--output", "o.csv"], "--file no.csv: no such file"),
        (["--file", "in.csv", "--output", "o.txt"], "--output o.txt: must end in one of .csv, .tsv, .jsonl, .parquet"),
        (["--file", "in.csv", "--output", "in.csv"], "--output in.csv: is the file that is read"),
        (["--file", "in.csv", "--output", "no/o.csv"], "--output no/o.csv: there is no folder"),
        (["--file", "other.csv", "--output", "o.csv"], "no column 'sentence1'; did you mean 'sentence'?"),
        (["--file", "done.csv", "--output", "o.csv"], "has predicted_label already"),
        (
            ["--file", "in.csv", "--output", "o.csv", "--text-columns", "id"],
            "the model was trained on 2 columns, not 1",
        ),
        (["--file", "missing.jsonl", "--output", "o.csv"], "missing.jsonl, line 2: sentence2 is missing"),
        (["--file", "number.jsonl", "--output", "o.csv"], "number.jsonl, line 1: sentence2 is 5; it must be a text"),
        (["--file", "ragged.csv", "--output", "o.csv"], "ragged.csv, line 3: has 3 columns where the header has 2"),
        (["--file", "twice.csv", "--output", "o.csv"], "twice.csv: two columns are called 'a'"),
        (["--file", "empty.csv", "--output", "o.csv"], "empty.csv: is empty"),
        (["--file", "header.csv", "--output", "o.csv"], "header.csv: has no rows"),
        (["--file", "no.parquet", "--output", "o.csv"], "no.parquet: is no parquet file"),
        (["--file", "more.jsonl", "--output", "o.csv"], ".csv has the columns of the first row; another has extra"),
        (["--file", "latin.csv", "--output", "o.csv"], "latin.csv"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(Path("in.csv"), ROWS[:1])
    Path("other.csv").write_text("sentence,sentence2\na,b\n")
    Path("done.csv").write_text("sentence1,sentence2,predicted_label\na,b,1\n")
    Path("missing.jsonl").write_text('{"sentence1": "a", "sentence2": "b"}\n{"sentence1": "a"}\n')
    Path("number.jsonl").write_text('{"sentence1": "a", "sentence2": 5}\n')
    Path("ragged.csv").write_text("sentence1,sentence2\na,b\na,b,c\n")
    Path("twice.csv").write_text("a,a\n1,2\n")
    Path("empty.csv").write_text("")
    Path("header.csv").write_text("sentence1,sentence2\n")
    Path("no.parquet").write_text("PAR")
    Path("more.jsonl").write_text(
        '{"sentence1": "a", "sentence2": "b"}\n{"sentence1": "a", "sentence2": "b", "extra": 1}\n'
    )
    Path("latin.csv").write_bytes("sentence1,sentence2\nZwölf,b\n".encode("latin-1"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([str(run), *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_encoding_is_read_where_it_is_named(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "latin.csv"
    file.write_bytes("sentence1,sentence2\nZwölf,b\n".encode("latin-1"))
    assert predict_file(run, file, tmp_path / "out.csv", encoding="latin-1") == 1
    assert read(tmp_path / "out.csv")[0]["sentence1"] == "Zwölf"


def test_flags_that_do_not_go_together(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--file", "a.csv"],
        ["--text", "a", "--output", "b.csv"],
        ["--text", "a", "--file", "b.csv"],
        [],
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(run), *arguments])
        assert ended.value.code == 2
    assert "--file needs --output" in capsys.readouterr().err


def test_a_folder_without_a_result_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--text", "a"]) == 2
    assert "holds no sweep" in capsys.readouterr().err


@pytest.mark.slow  # real weights: a short training, then 1,000 rows through the pipeline
def test_a_thousand_pairs_get_the_labels_and_the_probabilities_of_the_pipeline(tmp_path: Path) -> None:
    """BENCH_DATA names a folder of sentence pairs such as MRPC's; without it the demo's corpus is used."""
    data = data_folder()
    data = data if data in BUILTIN_DATASETS else str(Path(data).absolute())
    inputs = inputs_of(Path("builtin:minilm"), Path(data), train_rows=160, validation_rows=64, max_length=128)
    run_dir = RunDir(tmp_path / "run")
    run_dir.root.mkdir()
    run_dir.write_spec(spec_document(inputs, "a-sweep", "fp32"))
    trained = FineTuningRun(make_job(inputs, Plan(1, 1.0, 0.0), run_dir, "a-sweep"))
    trained.reset(TrialConfig(learning_rate=1e-4, epochs=1), seed=1)
    trained.next_epoch()
    trained.write_best(tmp_path / "model")
    report = report_of("name").model_copy(update={"sweep_id": "a-sweep"})
    write_best(run_dir, report, tmp_path / "model", tmp_path / "no predictions")
    loaded = load_data(DataRequest(str(BUILTIN_DATASETS.get(data, data))))
    pairs = [pair for split in loaded.splits.values() for pair in zip(*split.texts, strict=True)][:1000]
    assert len(pairs) == 1000
    rows = [dict(zip(loaded.text_columns, pair, strict=True)) for pair in pairs]
    predict_file(tmp_path / "run", write(tmp_path / "in.csv", rows), tmp_path / "out.jsonl")
    classify = pipeline(
        "text-classification", str(tmp_path / "run" / "best"), top_k=None, device="cpu", truncation=True
    )
    largest, told_apart = 0.0, set()
    answers = classify([{"text": first, "text_pair": second} for first, second in pairs], batch_size=32)
    for row, answer in zip(read(tmp_path / "out.jsonl"), answers, strict=True):
        told = {each["label"]: each["score"] for each in answer}
        assert row[PREDICTED] == max(told, key=lambda name: told[name])
        largest = max(largest, *(abs(row[f"probability {name}"] - score) for name, score in told.items()))
        told_apart.add(row[f"probability {loaded.label_names[0]}"])
    print(f"largest difference of probabilities: {largest:.2g}")
    assert largest < 1e-5
    assert len(told_apart) > 900, "a model that says the same of every row would agree, too"
