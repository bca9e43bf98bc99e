"""`--stop RUN` ends a sweep on this machine in order, and `--finish` makes the result from what is done."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tune.report.status import status
from tune.search import main

TRIALS = 1000


def begun(model: Path, data: Path, out: Path) -> subprocess.Popen[str]:
    flags = ["--model", str(model), "--dataset", str(data), "--out", str(out), "--num-trials", str(TRIALS)]
    flags += ["--confirm", "none"]
    flags += ["--space", "epochs=2", "--space", "batch_size=8", "--scheduler", "none", "--precision", "fp32"]
    return subprocess.Popen(
        [sys.executable, "-m", "tune.search", *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(out: Path, trials: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()[0]
        if (out / "study.db").exists() and status(out).count("COMPLETE") >= trials:
            return
        time.sleep(0.1)
    raise AssertionError("no trial finished in time")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_sweep_is_finished_with_what_is_done_and_goes_on_later(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a run"
    process = begun(tiny_model, tiny_data, out)
    try:
        wait_for(out, 2, process)
        assert main(["--stop", str(out), "--finish"]) == 0
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert f"of {TRIALS} trials are done" in said
    assert "finished: " in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    done = [row for row in report["trials"] if row["state"] == "COMPLETE"]
    assert 2 <= len(done) < TRIALS
    assert report["best"]["trial"] in {row["number"] for row in done}
    assert report["test"]["rows"] == 48
    assert any("finished early" in note for note in report["notes"])
    assert (out / "best" / "model.safetensors").exists()
    now = status(out)
    assert now.state == "stopped", "the sweep is not at its end: the same command goes on with it"
    before = {row["number"]: row["value"] for row in done}
    again = begun(tiny_model, tiny_data, out)
    try:
        wait_for(out, len(done) + 2, again)
        assert main(["--stop", str(out)]) == 0
        said, _ = again.communicate(timeout=60)
        assert again.returncode == 128 + 15, said
    finally:
        again.kill()
    values = {record.number: record.value for record in status(out).records}
    assert {number: values[number] for number in before} == before
    assert "stopped; the same command goes on" in capsys.readouterr().out
    # Now no process runs the sweep, and two more trials are done than the report says.
    command = [sys.executable, "-m", "tune.search", "--stop", str(out), "--finish"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    report = json.loads((out / "report.json").read_text())
    assert sum(row["state"] == "COMPLETE" for row in report["trials"]) >= len(done) + 2
    assert {record.number: record.value for record in status(out).records} == values, "no trial was run"


def test_a_sweep_that_nobody_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.yaml").write_text("model: m\n")
    assert main(["--stop", str(tmp_path)]) == 2
    told = "no process runs this sweep; with --finish, the result is made of what is done"
    assert capsys.readouterr().err == f"--stop {tmp_path}: {told}\n"


def test_a_job_can_not_be_finished_from_afar(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stop", "a-1b2c3d4e-1", "--finish"]) == 2
    assert "--finish takes a sweep's run directory" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--finish"], ["--status", "x", "--finish"]])
def test_finish_goes_with_stop(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    assert "--finish goes with --stop RUN" in capsys.readouterr().err
