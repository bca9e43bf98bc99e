"""What people type and call: other tools' flags, paths with a mistake, a run directory alone, tables from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import tune.search
from tests.tune.test_bad_input import refused
from trainable.errors import UserError
from trainable.metrics import METRICS
from tune.report.sweep_result import SweepResult
from tune.run_dir.layout import stored_spec
from tune.spec.field_types import flag_name
from tune.spec.flags import make_parser, parse
from tune.spec.sweep_spec import SweepSpec, trials_of_all_configurations


def told(*words: str) -> list[str]:
    problems: list[str] = []
    parse(words, problems)
    return problems


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--per_device_train_batch_size", "16"], "did you mean --space batch_size=16?"),
        (["--num_train_epochs=3"], "did you mean --space epochs=3?"),
        (["--lr", "1e-5"], "did you mean --space learning_rate=1e-5?"),
        (["--epochs", "3"], "did you mean --space epochs=3?"),
        (["--warmup-ratio", "0.1"], "did you mean --space warmup_fraction=0.1?"),
        (["--resume"], "the same command with the same --out goes on by itself"),
        (["--direction", "maximize"], "did you mean --mode?"),
        (["--max_seq_length", "64"], "did you mean --max-length?"),
        (["--model_name_or_path", "m"], "did you mean --model?"),
        (["--num-trails", "3"], "did you mean '--num-trials'?"),
    ],
)
def test_a_flag_of_another_tool_is_answered_with_ours(words: list[str], hint: str) -> None:
    assert told(*words) == [f"unknown flag {words[0].partition('=')[0]}; {hint}"]


def test_the_length_is_a_flag() -> None:
    problems: list[str] = []
    assert parse(["--max-length", "64"], problems).spec.max_length == 64
    assert problems == []


def test_the_version_and_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--version"], [])
    assert capsys.readouterr().out.startswith("finetune-search ")
    text = make_parser().format_help()
    common, data, examples = (text.index(word) for word in ("the common ones", "the data:", "examples:"))
    assert common < text.index("--model M") < text.index("--plan") < data < examples
    assert text[examples:].count("python -m tune.search") == 3
    for name in SweepSpec.model_fields:
        assert flag_name(name) in text or name in text


# Paths


def test_a_mistyped_path_is_told_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "imdb").mkdir(parents=True)
    problems = refused(["--dataset", f"{tmp_path}/data/imbd", "--model", f"{tmp_path}/models/x"], capsys)
    assert problems == [
        f"--dataset {tmp_path}/data/imbd: no such file or folder; did you mean {tmp_path}/data/imdb?",
        f"--model {tmp_path}/models/x: no such folder; {tmp_path} holds data",
    ]


def test_a_name_of_the_hub_that_may_be_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "imdb").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (problem, *_) = refused(["--dataset", "data/imbd", "--model", "builtin:minilm"], capsys)
    assert problem.endswith("No such path is here, either; did you mean data/imdb?")


def test_a_file_of_the_working_directory_that_is_mistyped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\na film,1\n")
    (tmp_path / "banking77").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, meant in (("reviws.csv", "reviews.csv"), ("bankin77", "banking77")):
        (problem,) = refused(["--dataset", name, "--model", "builtin:minilm"], capsys)
        assert problem.startswith(f"--dataset {name}: ")
        assert problem.endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("imdb", "imdb"), ("data/imdb", "imdb"), ("data/imdb/", "imdb"), ("./imdb.json.gz", "imdb"), ("a.csv", "a"),
        ("imdb/train.csv", "imdb"), ("imdb/Training.parquet", "imdb"), ("train.tsv", "train"), ("glue/mrpc", "mrpc"),
        ("imdb/data", "imdb"), ("data", "data"), ("..", "sweep"), ("v1.5", "v1.5"),
    ],
)  # fmt: skip
def test_a_sweep_is_called_like_its_data(dataset: str, name: str) -> None:
    problems: list[str] = []
    assert parse(["--dataset", dataset, "--model", "m"], problems).spec.name == name
    assert problems == []


def test_relative_paths_in_a_spec_are_the_specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("d", "m"):
        (tmp_path / "job" / folder).mkdir(parents=True)
    (tmp_path / "job" / "p.json").write_text('[{"epochs": 2}]')
    spec = {"model": "m", "dataset": "d", "points": "p.json", "validation": "./v.csv"}
    (tmp_path / "job" / "s.yaml").write_text(yaml.safe_dump(spec))
    monkeypatch.chdir(tmp_path)
    problems: list[str] = []
    read = parse(["job/s.yaml"], problems).spec
    assert problems == []
    assert (read.model, read.dataset, read.validation) == ("job/m", "job/d", "job/v.csv")
    assert [point.named() for point in read.points] == [{"epochs": 2}]


def test_a_name_that_is_no_path_beside_the_spec_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("model: bert-base-uncased\ndataset: glue/mrpc\n")
    read = parse([str(tmp_path / "s.yaml")], []).spec
    assert (read.model, read.dataset) == ("bert-base-uncased", "glue/mrpc")


def test_out_alone_goes_on_with_the_sweep_that_is_there(tmp_path: Path) -> None:
    stored = {"name": "mine", "model": "/m", "dataset": "/d", "num_trials": 5, "seed": 3, "resolved": {"f1": "macro"}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(stored))
    problems: list[str] = []
    request = parse(["--out", str(tmp_path), "--num-trials", "9"], problems, stored_spec)
    assert problems == []
    assert (request.spec.name, request.spec.dataset, request.spec.seed, request.spec.num_trials) == ("mine", "/d", 3, 9)
    parse(["--out", str(tmp_path), "--fresh"], problems, stored_spec)
    (told,) = problems
    assert told.endswith(f"own: python -m tune.search {tmp_path}/spec.yaml --out {tmp_path} --fresh"), "not the demo's"
    again = parse([f"{tmp_path}/spec.yaml", "--out", str(tmp_path), "--fresh"], problems, stored_spec)
    assert (again.spec.name, again.fresh, len(problems)) == ("mine", True, 1)
    assert parse(["--out", str(tmp_path / "none")], [], stored_spec).spec.name == "demo"


# Few configurations


@pytest.mark.parametrize(
    ("space", "few"),
    [
        ({"learning_rate": [1e-5, 1e-4], "epochs": "1..3", "batch_size": 8}, 6),
        ({"learning_rate": "log:1e-5..1e-4", "epochs": 1, "batch_size": 8}, None),
        ({"learning_rate": 1e-5, "epochs": 1, "batch_size": 8}, None),
    ],
)
def test_a_space_of_few_configurations_ends_the_sweep(space: dict[str, Any], few: int | None) -> None:
    words = [f"--space={name}={','.join(map(str, v)) if isinstance(v, list) else v}" for name, v in space.items()]
    problems: list[str] = []
    spec = parse(["--model", "m", "--dataset", "d", *words, "--num-trials", "20"], problems).spec
    assert problems == []
    assert trials_of_all_configurations(spec) == few
    assert spec.num_trials == (few or 20)
    again = parse(["--model", "m", "--dataset", "d", *words, "--num-trials", "20", "--repeat-configurations"], []).spec
    assert again.num_trials == 20


# Python


def test_a_tuple_is_refused_with_how_a_range_is_written() -> None:
    with pytest.raises(UserError, match="is a tuple, which may mean a range or choices; write"):
        tune.search.run(model="m", dataset="/none", space={"learning_rate": (1e-5, 1e-4)})


def test_out_is_honoured_when_the_spec_has_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError) as caught:
        tune.search.run(model="m", dataset="/none", num_trials=0, out=tmp_path / "file")
    assert any("num_trials must be" in problem for problem in caught.value.problems)
    assert any(f"--out {tmp_path}/file" in problem for problem in caught.value.problems)


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        tune.search.run(model="builtin:minilm", dataset={"train": 3}, out=tmp_path / "run")
    assert any(problem.startswith("dataset: int is no table; give a pandas") for problem in caught.value.problems)
    assert not (tmp_path / "run-data").exists()


@pytest.mark.parametrize("kind", ["pandas", "datasets", "arrow"])
def test_tables_from_python_are_read_like_files(kind: str, tmp_path: Path) -> None:
    import pandas as pd
    import pyarrow as pa
    from datasets import Dataset, DatasetDict

    columns = {"text": [f"river lamp {i}" for i in range(12)], "label": [0, 1] * 6}
    made: Any = {"pandas": pd.DataFrame(columns), "arrow": pa.table(columns)}.get(kind)
    if kind == "datasets":
        made = DatasetDict({"train": Dataset.from_dict(columns), "dev": Dataset.from_dict(columns)})
    with pytest.raises(UserError) as caught:  # the data is read, and then too few for the batch
        tune.search.run(model="builtin:minilm", dataset=made, out=tmp_path / "run", space={"batch_size": 64})
    assert ["`batch_size <= training rows` must hold" in problem for problem in caught.value.problems] == [True]
    written = sorted(path.name for path in (tmp_path / "run-data").iterdir())
    assert written == (["dev.parquet", "train.parquet"] if kind == "datasets" else ["train.parquet"])


def test_a_results_trials_are_a_table() -> None:
    scores = dict.fromkeys(METRICS, 0.5)
    config = {"learning_rate": 1e-4, "optimizer": "adamw"}
    same = {"config": config, "epochs_run": 2, "collapsed": False, "seconds": 1.5, "seed": 2**40}
    epochs = [{"epoch": 1, "train_loss": 0.1, "scores": {**scores, "f1": 0.25}, "seconds": 1.0}]
    epochs += [{"epoch": 2, "train_loss": 0.1, "scores": {**scores, "f1": 0.75}, "seconds": 0.5}]
    done = {"number": 0, "state": "COMPLETE", "value": 0.75, "best_epoch": 2, "failure": None, "epochs": epochs, **same}
    again = {**done, "number": 1, "confirms": 0}
    failed = {"number": 2, "state": "FAIL", "value": None, "best_epoch": None, "failure": "it broke", **same}
    table = SweepResult({"trials": [done, again, failed]}, "runs/x").trials()
    assert table.index.tolist() == [0, 1, 2]
    assert table["f1"].tolist()[:2] == [0.75, 0.75]
    assert table["f1"].isna().tolist() == [False, False, True]
    assert table.loc[0, ["config.learning_rate", "config.optimizer", "best_epoch", "seed"]].tolist() == [
        1e-4, "adamw", 2, 2**40,
    ]  # fmt: skip
    assert table["confirms"].isna().tolist() == [True, False, True]
    assert table.loc[2, "failure"] == "it broke"
    assert table[table["state"] == "COMPLETE"]["value"].max() == 0.75


def test_a_result_is_the_report_and_more() -> None:
    report = {
        "best": {"trial": 1, "config": {"epochs": 2}, "validation": {"f1": 0.9}}, "test": {"f1": 0.8, "rows": 5},
        "metric": "f1", "trials": [{}, {}],
    }  # fmt: skip
    result = SweepResult(report, "runs/x")
    assert dict(result) == report
    assert (result.best, result.config, result.test) == ("runs/x/best", {"epochs": 2}, {"f1": 0.8, "rows": 5})
    assert repr(result) == "<SweepResult: f1 0.8000 on test, best of 2 trials, model in runs/x/best>"
    assert "0.9000 on validation" in repr(SweepResult({**report, "test": None}, "runs/x"))
