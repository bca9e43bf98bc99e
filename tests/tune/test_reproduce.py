"""`--reproduce RUN --trial N`: the same numbers again, what is told where they differ, and the plain script."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import optuna
import pytest
import torch
from optuna.trial import TrialState

from tests.conftest import write_pairs
from tests.tune.test_searcher import issue
from trainable.config import TrialConfig
from trainable.epoch_scores import WorkerFacts
from trainable.errors import UserError
from trainable.train.devices import device_name
from trainable.train.run import FineTuningRun
from tune.cluster.plan import Plan
from tune.prepare.identity import spec_document
from tune.prepare.inputs import Inputs, find_model, find_tokenizer, load_spec_data, make_inputs
from tune.prepare.launch import make_job
from tune.report.plain_script import plain_script
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.search import main
from tune.spec.sources import Given
from tune.spec.sweep_spec import build_spec
from tune.sweep import reproduce as module
from tune.sweep.reproduce import reproduce
from tune.sweep.trial_book import TrialBook

POINT = {"learning_rate": 2e-3, "batch_size": 8, "epochs": 3, "warmup_fraction": 0.1, "dropout": 0.0}
# Other kernels and another order of sums than in our loop: what rounding makes of the losses in three epochs.
SCRIPT_TOLERANCE = 1e-3


def inputs_of(model: Path, data: Path, **fields: Any) -> Inputs:
    problems: list[str] = []
    values = {"model": str(model), "dataset": str(data), "num_trials": 2, "confirm": "none", "points": [POINT]}
    spec = build_spec(Given({**values, "max_length": 48, **fields}), problems)
    loaded, folder = load_spec_data(spec, problems), find_model(spec.model, problems)
    assert folder is not None
    tokenizer = find_tokenizer(folder.path, problems)
    assert problems == []
    assert loaded is not None
    assert tokenizer is not None
    return make_inputs(spec, loaded, folder, tokenizer)


def train_one(inputs: Inputs, folder: Path) -> Path:
    """A run directory with one trial, trained as a worker trains it; its sweep is not finished."""
    folder.mkdir()
    run_dir = RunDir(folder)
    run_dir.write_spec(spec_document(inputs, "the-sweep", "fp32"))
    book = TrialBook(inputs.spec, run_dir)
    assignment = issue(book)
    run = FineTuningRun(make_job(inputs, Plan(1, 1.0, 0.0), run_dir, "the-sweep"))
    run.reset(assignment.config, assignment.seed)
    facts = WorkerFacts(module._hostname(), 1, 0.1, 0, device_name(run.device), 1, torch.__version__)
    book.record_epochs(assignment.number, [replace(run.next_epoch(), worker=facts) for _ in range(3)])
    book.finish(assignment.number, TrialState.PRUNED)
    issue(book)  # this one has no score yet
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    data = write_pairs(folder / "pairs", {"train": 96, "validation": 48, "test": 48})
    return train_one(inputs_of(tiny_model, data), folder / "run")


def change_study(run: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change attributes of the first trial, which Optuna refuses to do of a trial that has ended."""
    attributes = dict(optuna.load_study(study_name=None, storage=f"sqlite:///{run / 'study.db'}").trials[0].user_attrs)
    with contextlib.closing(sqlite3.connect(run / "study.db")) as connection, connection:
        for key, value in change(attributes).items():
            changed = connection.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE key = ?", (json.dumps(value), key)
            )
            assert changed.rowcount == 1


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def run_script(script: Path) -> list[dict[str, float]]:
    """Run a script where this project can't be imported; what it prints of each epoch."""
    alone = "import runpy, sys; sys.modules['tune'] = sys.modules['trainable'] = None; runpy.run_path(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", alone, script], cwd=script.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    found = [re.findall(r"(loss|accuracy|F1) ([\d.]+)", line) for line in lines]
    assert [line.partition(":")[0] for line in lines] == [f"epoch {i}" for i in range(1, len(lines) + 1)]
    return [{name.lower(): float(value) for name, value in pairs} for pairs in found]


def epochs_of(run: Path) -> list[Mapping[str, float]]:
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run / 'study.db'}")
    return [study.trials[0].user_attrs[f"epoch {i}"] for i in (1, 2, 3)]


def test_a_trial_gives_the_same_numbers_and_a_script_that_trains_the_same(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert reproduce(run, 0, tmp_path / "train.py", said.append) == 0
    assert "trial 0: learning_rate=0.002 batch_size=8 epochs=3" in said[0]
    assert [line.partition(":")[0] for line in said[1:4]] == ["epoch 1", "epoch 2", "epoch 3"]
    assert all(line.endswith("  equal") for line in said[1:4])
    assert said[4:] == ["the same numbers: trial 0 was reproduced exactly", f"script: {tmp_path / 'train.py'}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py"], "the sweep's own files are read"
    text = (tmp_path / "train.py").read_text()
    assert "csv.DictReader" in text
    assert not re.search(r"import (tune|trainable)|from (tune|trainable|finetune)", text)
    scores = run_script(tmp_path / "train.py")
    assert len(scores) == 3
    for ours, theirs in zip(epochs_of(run), scores, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], abs=SCRIPT_TOLERANCE)
        assert theirs["accuracy"] == pytest.approx(ours["accuracy"], abs=1 / 48 + 1e-6)
        assert theirs["f1"] == pytest.approx(ours["f1"], abs=0.03)
    assert (tmp_path / "trial-0-model" / "model.safetensors").is_file()


def test_numbers_that_differ_are_told_with_the_reasons(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(attributes: dict[str, Any]) -> dict[str, Any]:
        wrong = {**attributes["epoch 2"], "loss": attributes["epoch 2"]["loss"] + 0.25}
        elsewhere = {"hostname": "far-away", "device": "NVIDIA H100", "torch": "1.0.0"}
        return {"epoch 2": wrong, "epoch 3": {**attributes["epoch 3"], **elsewhere}}

    change_study(copied, change)
    assert main(["--reproduce", str(copied), "--trial", "0"]) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[2].endswith("differs: loss by 0.25")
    assert lines[3].endswith("  equal")
    verdict = lines.index("not the same numbers: 1 of 3 scores differ")
    reasons = "\n".join(lines[verdict + 1 :])
    assert re.search(r"torch 1.0.0 there, \d", reasons)
    assert "device: NVIDIA H100 there, CPU (" in reasons
    assert "another machine: far-away there" in reasons
    compile(printed.out, "script", "exec")


def test_a_difference_without_a_reason_is_told_as_one(copied: Path) -> None:
    change_study(copied, lambda attributes: {"epoch 1": {**attributes["epoch 1"], "train_loss": 9.0}})
    said: list[str] = []
    assert reproduce(copied, 0, copied.parent / "train.py", said.append) == 1
    assert "  no reason is known: device, versions, precision and threads are those of the sweep" in said


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--trial", "7"], "--trial 7: the sweep has no such trial; scored trials: 0"),
        (["--trial", "1"], "--trial 1: it has no score that could be compared; scored trials: 0"),
        ([], "the sweep has no winner yet: name a trial with --trial N; scored trials: 0"),
        (["--trial", "0", "--output", "no/folder/x.py"], "--output no/folder/x.py: there is no folder"),
        (["--trial", "x"], "--trial must be a trial's number, but got 'x'"),
        (["--num-trials", "3"], "--reproduce goes with --trial N and --output FILE alone; leave out --num-trials"),
    ],
)
def test_mistakes_are_told_and_nothing_is_trained(
    flags: list[str], told: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--reproduce", str(run), *flags]) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.out == ""


def test_its_flags_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trial", "1", "--output", "x.py"]) == 2
    told = capsys.readouterr().err
    assert "--trial goes with --reproduce RUN" in told
    assert "--output goes with --reproduce RUN" in told


def test_other_data_or_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    data = write_pairs(tmp_path / "pairs", {"train": 96, "validation": 48, "test": 48})
    run = train_one(inputs_of(model, data), tmp_path / "run")
    with (data / "train.csv").open("a") as file:
        file.write("one more row,with this pair,1\n")
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    with pytest.raises(UserError) as caught:
        reproduce(run, 0, tmp_path / "train.py", print)
    data_problem, model_problem = caught.value.problems
    assert data_problem == f"{data}: the data has changed since the sweep, so its trials can't be run again"
    assert model_problem == f"{model}: the model has changed since the sweep, so its trials can't be run again"
    assert not (tmp_path / "train.py").exists()


@pytest.mark.parametrize("kind", ["cut", "tsv", "jsonl", "json", "parquet", "arrow"])
def test_a_script_reads_the_very_rows_of_the_sweep(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    """Where the plain reader finds other rows than the sweep's, the rows are written beside the script."""
    data = write_pairs(tmp_path / "pairs", {"train": 96, **({} if kind == "cut" else {"validation": 48, "test": 48})})
    if kind != "cut":
        rewrite(data, kind)
    inputs = inputs_of(tiny_model, data)
    script = script_of(inputs, tmp_path / "train.py")
    assert bool(script.files) == (kind == "cut")
    for path, text in script.files.items():
        path.write_text(text)
    namespace: dict[str, Any] = {}
    exec(script.text[: script.text.index("\n\ndef read_split")], namespace)
    for place, name in (("TRAIN", "train"), ("VALIDATION", "validation")):
        rows, split = namespace["read_rows"](namespace[place]), inputs.data.splits[name]
        assert [row["sentence1"] for row in rows] == list(split.texts[0])
        assert [row["sentence2"] for row in rows] == list(split.texts[1])
        assert [namespace["CLASS_IDS"][str(row["label"])] for row in rows] == list(split.labels)


def rewrite(folder: Path, ending: str) -> None:
    """Put the same rows into files of another kind."""
    for path in list(folder.glob("*.csv")):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        path.unlink()
        target = path.with_suffix(f".{ending}")
        if ending == "tsv":
            target.write_text("".join("\t".join(cells) + "\n" for cells in (rows[0], *(row.values() for row in rows))))
        elif ending == "jsonl":
            target.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif ending == "json":
            target.write_text(json.dumps(rows))
        elif ending == "parquet":
            datasets.Dataset.from_list(rows).to_parquet(str(target))
        else:
            datasets.Dataset.from_list(rows).save_to_disk(str(folder / "saved"))
            next((folder / "saved").glob("*.arrow")).rename(target)
            shutil.rmtree(folder / "saved")


def script_of(inputs: Inputs, output: Path, config: TrialConfig | None = None, **changes: Any) -> Any:
    job = replace(make_job(inputs, Plan(1, 1.0, 0.0), RunDir(output.parent), None), **changes)
    record = TrialRecord(4, "COMPLETE", config or TrialConfig.from_values(POINT), 7, (), None, None)
    return plain_script(inputs, job, record, "run", output, on_gpu=False)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "values",
    [{}, {"micro_batch_size": 4, "max_grad_norm": None}, {"dropout": 0.3, "label_smoothing": 0.1}],
)
def test_every_configuration_gives_a_program(
    precision: str, values: dict[str, Any], tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    inputs = inputs_of(tiny_model, tiny_data)
    for batching in ("bucketed", "shuffled"):
        config = TrialConfig.from_values(values)
        script = script_of(inputs, tmp_path / "x.py", config, precision=precision, batching=batching, pad_token="<e>")
        compile(script.text, "x.py", "exec")
        assert ("GradScaler" in script.text) == (precision == "fp16")
        assert ("clip_grad_norm_" in script.text) == ("max_grad_norm" not in values)
        assert ("label_smoothing=0.1" in script.text) == ("label_smoothing" in values)
        paths = ("MODEL", "TRAIN", "VALIDATION")
        assert max(len(line) for line in script.text.splitlines() if not line.startswith(paths)) <= 120
