"""What fails is told by name and touches nothing else; a killed sweep goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml

from tests.conftest import write_pairs
from tests.tune.test_end_to_end import ROOT, command
from tune.search import main

DIVERGES = {"learning_rate": 1e30, "batch_size": 16, "epochs": 3}
LEARNS = {"learning_rate": 3e-3, "batch_size": 8, "epochs": 4}


def flags(folder: Path, model: Path, points: list[dict[str, float]]) -> list[object]:
    data = write_pairs(folder / "pairs", {"train": 96, "validation": 24, "test": 24})
    (folder / "points.json").write_text(json.dumps(points))
    return [
        "--dataset", data, "--model", model, "--out", "run", "--points", "points.json",
        "--confirm", "none", "--num-trials", len(points),
        "--space", "max_grad_norm=none", "--scheduler", "none", "--precision", "fp32",
    ]  # fmt: skip


def test_a_trial_that_diverges_and_one_that_raises_fail_alone(tmp_path: Path, tiny_model: Path) -> None:
    arguments = flags(tmp_path, tiny_model, [DIVERGES, LEARNS, LEARNS])
    done = command("tests.tune.faulty", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a failed trial is told once, by us"
    run = tmp_path / "run"
    report = json.loads((run / "report.json").read_text())
    assert [row["state"] for row in report["trials"]] == ["FAIL", "FAIL", "COMPLETE"]
    assert report["best"]["trial"] == 2
    assert "2 of 3 trials failed; trials/N/failure.txt says why" in report["warnings"]

    diverged, raised, _ = optuna.load_study(study_name=None, storage=f"sqlite:///{run / 'study.db'}").trials
    assert "is not finite" in diverged.user_attrs["failure"]
    assert raised.user_attrs["failure"] == "RuntimeError: the disk spoke in tongues"
    assert list(raised.intermediate_values) == [1]
    assert "learning_rate=1e+30" in (run / "trials" / "0" / "failure.txt").read_text()
    text = (run / "trials" / "1" / "failure.txt").read_text()
    assert "tests/tune/faulty.py" in text
    assert "\x1b" not in text
    assert "in step" in text
    assert "configuration: learning_rate=0.003 batch_size=8 epochs=4" in text
    assert f"log: {run / 'trials' / '1' / 'failure.txt'}" in done.stdout
    assert "the disk spoke in tongues" in done.stdout


def test_a_sweep_whose_trials_all_fail_says_so(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = flags(tmp_path, tiny_model, [DIVERGES, {**DIVERGES, "epochs": 2}])
    done = command("tune.search", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("no trial finished: 2 of 2 failed\n  trial 0: ")
    assert "is not finite" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "best").exists()

    assert main(["--status", str(tmp_path / "run")]) == 5
    told = capsys.readouterr().out
    assert f"in {tmp_path / 'run'}: failed\n" in told
    assert "go on with  No trial is left of the 2: mend what made them fail" in told
    monkeypatch.setattr("tune.cluster.connect.connected", lambda spec: pytest.fail("Ray was started for nothing"))
    assert main(["--out", str(tmp_path / "run")]) == 1
    assert "--num-trials N goes on to N" in capsys.readouterr().err


@pytest.mark.parametrize("how", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGTERM])  # Ctrl-C: below
def test_a_stopped_sweep_goes_on_with_the_same_command(tmp_path: Path, tiny_model: Path, how: signal.Signals) -> None:
    points = [{**LEARNS, "epochs": epochs} for epochs in (3, 400, 400, 3)]
    arguments = [*flags(tmp_path, tiny_model, points), "--set", "state_interval_s=0"]
    first = [sys.executable, "-m", "tune.search", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        first, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "run" / "log.txt"
    wait_for(lambda: log.exists() and "trial 1 epoch 20/400" in log.read_text(), driver)
    driver.send_signal(how)
    _, error = driver.communicate(timeout=30)
    if how == signal.SIGTERM:
        assert driver.returncode == 143
        assert error.startswith("stopped; what is finished is kept in run\nGo on with: python -m tune.search ")
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    before = study.trials
    open_trials = [t.number for t in before if t.state.name == "RUNNING"]
    assert open_trials
    assert before[0].state.name == "COMPLETE"

    # The test would wait for 400 epochs: it is enough that both go on from their state, not from the start.
    second = subprocess.Popen(
        first, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(
        lambda: log.read_text().count("trial 1 started") == 2 and "trial 1 epoch 60/400" in log.read_text(), second
    )
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=30)
    after = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'run' / 'study.db'}").trials
    assert after[0] == before[0], "a finished trial was touched"
    assert after[1].params == before[1].params
    kept = {k: v for k, v in before[1].user_attrs.items() if k.startswith("epoch ")}
    assert kept.items() <= after[1].user_attrs.items()
    for trial in after[1:3]:
        epochs = sorted(int(key[6:]) for key in trial.user_attrs if key.startswith("epoch "))
        assert epochs == list(range(1, len(epochs) + 1)), "an epoch that a state held was never recorded"
        # The value of an epoch is written before its metrics: a driver may end between the two.
        assert sorted(trial.intermediate_values)[: len(epochs)] == epochs
        assert len(trial.intermediate_values) <= len(epochs) + 1
    text = log.read_text()
    again = text[text.rindex("trial 1 started") :]
    first_epoch = int(again.partition("trial 1 epoch ")[2].partition("/")[0])
    assert first_epoch >= len(kept), "the trial started over"


@pytest.mark.slow
def test_stopped_before_the_first_trial_it_goes_on_too(tmp_path: Path, tiny_model: Path) -> None:
    arguments = [str(a) for a in flags(tmp_path, tiny_model, [LEARNS, LEARNS])]
    arguments[arguments.index("fp32")] = "auto"
    first = [sys.executable, "-m", "tune.search", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        first, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "run" / "log.txt"
    wait_for(lambda: log.exists() and "side by side" in log.read_text(), driver)
    driver.send_signal(signal.SIGINT)
    _, error = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert error.startswith("stopped; what is finished is kept in run\nGo on with: ")
    assert "started" not in log.read_text(), "stopped too late for what is to be tested"
    # As a kill before the measurement leaves it.
    spec_file = tmp_path / "run" / "spec.yaml"
    spec = yaml.safe_load(spec_file.read_text())
    spec["resolved"]["precision"] = None
    spec_file.write_text(yaml.safe_dump(spec))
    settled = re.compile(r"^\S+ \S+ precision \w+ \(", re.MULTILINE)
    before = len(settled.findall(log.read_text()))
    again = command("tune.search", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(settled.findall(log.read_text())) == before + 1
    assert yaml.safe_load(spec_file.read_text())["resolved"]["precision"] in ("bf16", "fp32")


def wait_for(condition: object, driver: subprocess.Popen[str]) -> None:
    for _ in range(1000):
        if condition():  # type: ignore[operator]
            return
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.1)
    driver.kill()
    raise AssertionError(driver.communicate())
