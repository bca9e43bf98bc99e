"""The real command line on real Ray, a tiny model, a logical GPU shared by two trials: files, states, scores."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainable.errors import UserError
from tune.report.sweep_result import SweepResult

ROOT = Path(__file__).parent.parent.parent
NUM_TRIALS = 7
# Two that learn and three that can't: something to win, and something to stop early however late a worker starts.
POINTS = [
    {"learning_rate": 3e-3, "batch_size": 8, "epochs": 8},
    {"learning_rate": 5e-3, "batch_size": 8, "epochs": 8},
    {"learning_rate": 1e-5, "batch_size": 32, "epochs": 2},
    {"learning_rate": 1e-5, "batch_size": 16, "epochs": 4},
    {"learning_rate": 1e-5, "batch_size": 32, "epochs": 4},
]


def command(module: str, *arguments: object, cwd: Path, limit_s: float = 110) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=limit_s,
    )


def search_flags(data: Path, model: Path) -> list[object]:
    return [
        "--dataset", data, "--model", model, "--out", "run", "--seed", 3, "--points", "points.json",
        "--space", "learning_rate=log:1e-5..2e-2", "--space", "epochs=2..8", "--space", "warmup_fraction=0.1",
        "--set", "num_gpus=1", "--set", "num_cpus=2", "--gpus-per-trial", 0.5, "--precision", "fp32",
        "--confirm", "none",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, str, list[object]]:
    """A finished sweep: its folder, what it printed, and its flags."""
    from tests.conftest import write_pairs

    folder = tmp_path_factory.mktemp("a folder with spaces")
    data = write_pairs(folder / "pairs", {"train": 96, "validation": 48, "test": 48})
    (folder / "points.json").write_text(json.dumps(POINTS))
    flags = search_flags(data, tiny_model)
    done = command("tune.search", *flags, "--num-trials", NUM_TRIALS, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "chatter"
    return folder / "run", done.stdout, flags


@pytest.fixture(scope="module")
def report(finished: tuple[Path, str, list[object]]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((finished[0] / "report.json").read_text())
    return loaded


def test_the_run_directory_holds_exactly_this(finished: tuple[Path, str, list[object]], report: dict[str, Any]) -> None:
    run = finished[0]
    assert sorted(p.name for p in run.iterdir()) == [
        ".lock", "best", "incumbent.json", "log.txt", "report.html", "report.json", "spec.yaml", "study.db", "sweep",
        "trials",
    ]  # fmt: skip
    assert sorted(p.name for p in (run / "best").iterdir()) == [
        "README.md", "config.json", "manifest.json", "metrics.json", "model.safetensors", "test_predictions.npy",
        "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    assert sorted(p.name for p in (run / "trials").iterdir()) == [str(n) for n in range(NUM_TRIALS)]
    for number in range(NUM_TRIALS):
        names = sorted(p.name.split(".")[0] for p in (run / "trials" / str(number)).iterdir())
        asked = ["test_predictions"] if number == report["best"]["trial"] else []
        predicted = ["predictions"] if report["trials"][number]["epochs_run"] else []
        assert names == ["events", *predicted, *asked], "best/ has the winner's model, and nobody asked for others"


def test_the_report_says_what_happened(report: dict[str, Any]) -> None:
    states = [row["state"] for row in report["trials"]]
    assert states[:2] == ["COMPLETE", "COMPLETE"]
    assert "PRUNED" in states[2 : len(POINTS)]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert [row["config"] for row in report["trials"][: len(POINTS)]] == [{**p, "warmup_fraction": 0.1} for p in POINTS]
    assert [row["number"] for row in report["trials"]] == list(range(NUM_TRIALS))
    for row in report["trials"]:
        full = row["epochs_run"] == row["config"]["epochs"]
        assert full == (row["state"] == "COMPLETE")
        assert row["config"]["warmup_fraction"] == 0.1
    best = report["trials"][report["best"]["trial"]]
    assert best["value"] == max(row["value"] for row in report["trials"] if row["state"] == "COMPLETE")
    assert report["best"]["validation"]["f1"] == best["value"]
    assert report["best"]["config"] == best["config"]
    assert report["test"]["rows"] == 48
    assert report["test"]["f1"] > report["majority"]["test"]["f1"]
    assert report["warnings"] == []
    assert report["train_s"] > 0
    assert 0 < report["wall_s"] < 110
    assert report["versions"]["ray"]
    assert report["seed"] == 3


def test_the_winner_and_a_trial_that_was_stopped_are_reproduced_bit_by_bit(
    finished: tuple[Path, str, list[object]], report: dict[str, Any]
) -> None:
    """A process of its own gives the numbers that Ray's workers gave, one trial after the other."""
    run = finished[0]
    stopped = next(row["number"] for row in report["trials"] if row["state"] == "PRUNED")
    for number, flags in ((report["best"]["trial"], ()), (stopped, ("--trial", stopped))):
        done = command("tune.search", "--reproduce", run, *flags, "--output", "train.py", cwd=run.parent)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"the same numbers: trial {number} was reproduced exactly" in done.stdout
        assert done.stderr == "", "chatter"


def test_plain_optuna_agrees_with_the_report(finished: tuple[Path, str, list[object]], report: dict[str, Any]) -> None:
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{finished[0] / 'study.db'}")
    assert [t.state.name for t in study.trials] == [row["state"] for row in report["trials"]]
    for trial, row in zip(study.trials, report["trials"], strict=True):
        assert len(trial.intermediate_values) == row["epochs_run"]
        assert trial.user_attrs["config"] == row["config"]
        assert trial.user_attrs["seed"] == row["seed"]
        for epoch, value in trial.intermediate_values.items():
            metrics = trial.user_attrs[f"epoch {epoch}"]
            assert metrics["f1"] == value
            assert {"train_loss", "loss", "accuracy"} <= metrics.keys()
    assert study.best_value == report["best"]["validation"]["f1"]  # of equals ours has the lower loss
    assert not study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING])


def test_tensorboard_reads_every_trials_curves(
    finished: tuple[Path, str, list[object]], report: dict[str, Any]
) -> None:
    within_epochs = 0
    for row in report["trials"]:
        events = EventAccumulator(str(finished[0] / "trials" / str(row["number"])))
        events.Reload()
        tags = set(events.Tags()["scalars"])
        rungs = events.Scalars("rungs/f1") if "rungs/f1" in tags else []
        a_step = 100 / (math.ceil(96 / row["config"]["batch_size"]) * row["config"]["epochs"])
        assert all(any(0 <= point.step - rung <= a_step + 1 for rung in (12, 25, 50, 75)) for point in rungs)
        assert rungs or row["epochs_run"]
        within_epochs += len(rungs)
        if row["epochs_run"]:
            assert {"train/loss", "validation/loss", "validation/accuracy", "validation/f1"} <= tags
            assert [e.step for e in events.Scalars("validation/f1")] == list(range(1, row["epochs_run"] + 1))
            assert sum(tag.startswith("validation/f1/") for tag in tags) == 2, "a curve for each class"
            steps = [e.step for e in events.Scalars("steps/train_loss")]
            assert steps == [e.step for e in events.Scalars("steps/learning_rate")] == sorted(set(steps))
            steps_per_epoch = math.ceil(96 / row["config"]["batch_size"])
            assert len(steps) >= min(20, steps_per_epoch) * row["epochs_run"]
    assert within_epochs > 0
    of_sweep = EventAccumulator(str(finished[0] / "sweep")).Reload().Tags()
    assert sorted(of_sweep["tensors"]) == ["_hparams_/experiment", "plan/text_summary"]
    assert of_sweep["images"] == ["winner/confusion_matrix"]


def test_two_warm_workers_ran_all_trials(finished: tuple[Path, str, list[object]]) -> None:
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{finished[0] / 'study.db'}")
    beyond = [trial for trial in study.trials if "epoch 1" in trial.user_attrs]  # others stopped at a rung in it
    first_epochs = [trial.user_attrs["epoch 1"] for trial in beyond]
    assert len(first_epochs) > 2
    assert len({metrics["pid"] for metrics in first_epochs}) <= 2
    assert all(metrics["start_s"] < 0.25 for metrics in first_epochs[2:])
    # From assignment to the first training step, Tune's part included.
    waits = [
        trial.user_attrs["epoch 1"]["began_at"] - trial.datetime_start.timestamp()
        for trial in beyond[2:]
        if trial.datetime_start is not None
    ]
    assert sorted(waits)[len(waits) // 2] < 0.25


def test_the_output_tells_where_everything_lies(finished: tuple[Path, str, list[object]]) -> None:
    run, out, _ = finished
    for words in (
        "2 trials side by side, 0.5 GPU and 1 core each",
        "majority",
        str(run / "best"),
        "tensorboard --logdir",
    ):
        assert words in out
    for chatter in ("WARNING", "ray::", "deprecat", "Loading", "Configuration for experiment"):
        assert chatter not in out
    log = (run / "log.txt").read_text()
    assert out.strip().splitlines()[-1] in log


def test_evaluate_agrees_with_the_report(finished: tuple[Path, str, list[object]], report: dict[str, Any]) -> None:
    run = finished[0]
    scored = command("tune.evaluate", run, cwd=run.parent)
    assert scored.returncode == 0, scored.stderr
    reads = json.loads((run / "report.json").read_text())["test_reads"]
    assert reads == report["test_reads"] + 1
    assert scored.stderr.splitlines() == [
        f"the test split was read {reads} times for this run: what is chosen by it, flatters",
        "agrees with report.json",
    ]
    scores = json.loads(scored.stdout)
    same = ("accuracy", "f1", "rows", "interval")
    assert {name: scores[name] for name in same} == {name: report["test"][name] for name in same}
    on_file = command("tune.evaluate", run, "--data", run.parent / "pairs" / "validation.csv", cwd=run.parent)
    assert json.loads(on_file.stdout)["f1"] == report["best"]["validation"]["f1"]


def test_a_pipeline_opens_the_best_model(finished: tuple[Path, str, list[object]]) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", str(finished[0] / "best"))
    same = {"text": "the bank in the city rose the film is bad", "text_pair": "the bank also rose again"}
    other = {"text": "the bank in the city rose the film is bad", "text_pair": "never rose it sold shares instead"}
    assert [classify(same)["label"], classify(other)["label"]] == ["1", "0"]


def test_a_result_has_trials_charts_and_the_best_model(
    finished: tuple[Path, str, list[object]], report: dict[str, Any]
) -> None:
    result = SweepResult.open(finished[0])
    assert dict(result) == report | {"test_reads": result["test_reads"]}  # other tests evaluate it again
    table = result.trials()
    winner = table.loc[report["best"]["trial"]]
    assert {name: winner[name] for name in report["best"]["validation"]} == report["best"]["validation"]
    assert {"learning_curves", "history"} <= result.figures().keys()
    assert f"{len(table)} rows" in result._repr_html_() or "<table" in result._repr_html_()
    model, tokenizer = result.best_model()
    assert not model.training
    rows = tokenizer(["the bank in the city rose the film is bad"], ["the bank also rose again"], return_tensors="pt")
    assert model.config.id2label[int(model(**rows).logits.argmax())] in report["label_names"]
    with pytest.raises(UserError, match="no such folder"):
        SweepResult.open(finished[0] / "nowhere")


def test_the_same_command_has_nothing_left_to_do(finished: tuple[Path, str, list[object]]) -> None:
    run, _, flags = finished
    before = (run / "report.json").read_bytes()
    again = command("tune.search", *flags, "--num-trials", NUM_TRIALS, cwd=run.parent)
    assert again.returncode == 0
    assert again.stdout.startswith(f"nothing left to do: all {NUM_TRIALS} trials are finished")
    assert (run / "report.json").read_bytes() == before


def test_run_from_python_is_the_same_thing(
    finished: tuple[Path, str, list[object]], report: dict[str, Any], tiny_model: Path
) -> None:
    from tune.search import run

    fields = {
        "dataset": str(finished[0].parent / "pairs"),
        "model": str(tiny_model),
        "space": {"learning_rate": "log:1e-5..2e-2", "epochs": "2..8", "warmup_fraction": 0.1},
        "points": POINTS,
        "num_trials": NUM_TRIALS,
        "seed": 3,
        "precision": "fp32",
        "cpus_per_trial": 1,
        "confirm": "none",
    }
    reads = json.loads((finished[0] / "report.json").read_text())["test_reads"]
    assert run(fields, out=finished[0]) == {**report, "test_reads": reads}


def test_another_sweep_is_refused_there(finished: tuple[Path, str, list[object]], tmp_path: Path) -> None:
    from tests.conftest import write_pairs

    run, _, flags = finished
    other = write_pairs(tmp_path / "other", {"train": 60, "validation": 20, "test": 20})
    before = sorted(p.name for p in run.iterdir())
    flags = [other if flags[i - 1] == "--dataset" else flag for i, flag in enumerate(flags)]
    refused = command("tune.search", *flags, "--metric", "accuracy", cwd=run.parent)
    assert refused.returncode == 2
    assert "holds another sweep (other data: " in refused.stderr
    assert "metric: f1 there, accuracy here" in refused.stderr
    assert sorted(p.name for p in run.iterdir()) == before


def test_more_trials_extend_a_finished_sweep(finished: tuple[Path, str, list[object]]) -> None:
    run, _, flags = finished
    before = json.loads((run / "report.json").read_text())
    more = command("tune.search", *flags, "--num-trials", NUM_TRIALS + 2, cwd=run.parent)
    assert more.returncode == 0, more.stderr
    after = json.loads((run / "report.json").read_text())
    assert len(after["trials"]) == NUM_TRIALS + 2
    assert after["trials"][:NUM_TRIALS] == before["trials"]
    configs = [json.dumps(row["config"]) for row in after["trials"]]
    assert len(set(configs)) == len(configs), "a configuration was proposed again"
    if after["best"]["trial"] == before["best"]["trial"]:
        assert after["test"] == before["test"], "the test split was read again"
