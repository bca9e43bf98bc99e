"""The benchmarks run and compute what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks import run
from benchmarks.figures import read_figures
from tune.run_dir.study import open_study

ROOT = Path(__file__).parent.parent


def test_figures_are_read_from_a_run_directory(tmp_path: Path) -> None:
    """Two slots: worker 1 runs trials 0 and 2, worker 2 trial 1."""
    start = datetime(2026, 1, 2)
    study = open_study(tmp_path / "study.db", "max", "a sweep")
    #        trial: worker, assigned at, first step at, seconds of each epoch, ended at
    plan = {0: (1, 0.0, 5.0, [4.0, 4.0], 13.5), 1: (2, 0.0, 5.0, [18.0], 24.0), 2: (1, 13.5, 13.7, [10.0], 24.5)}
    for worker, assigned, first_step, seconds, ended in plan.values():
        attributes = {
            f"epoch {i}": {
                "epoch": i, "began_at": (start + timedelta(seconds=first_step + sum(seconds[: i - 1]))).timestamp(),
                "train_s": spent - 1, "eval_s": 1.0, "pid": worker, "bytes_written": 100 * i,
                "peak_memory_mib": 10.0 * worker + i,
            }
            for i, spent in enumerate(seconds, 1)
        }  # fmt: skip
        trial = optuna.trial.create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs=attributes)
        trial.datetime_start = start + timedelta(seconds=assigned)
        trial.datetime_complete = start + timedelta(seconds=ended)
        study.add_trial(trial)
    figures = read_figures(tmp_path, started_at=start.timestamp() - 2, slots=2, model_bytes=1000)
    assert figures.to_first_step == pytest.approx(7.0)
    assert figures.to_step_warm == pytest.approx(0.2)
    assert (figures.computing_s, figures.training_s) == pytest.approx((36.0, 32.0))
    assert figures.overhead_percent == pytest.approx(100 * (19.5 - 18.0) / 19.5)
    assert figures.written_bytes == 200 + 100 + 100
    assert figures.full_bytes == 3 * 1000 * 4
    assert figures.peak_memory_mib == (12.0, 21.0)


def test_the_table_takes_medians_of_ratios_within_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = {"train": 1e4, "validation": 1e4, "train_padded": 2e4, "validation_padded": 2e4}
    monkeypatch.setattr(run, "token_counts", lambda: tokens)
    sweep = {
        "to_first_step": 9.0, "to_step_warm": 0.03, "overhead_percent": 4.0, "computing_s": 120.0, "training_s": 96.0,
        "written_bytes": 10, "full_bytes": 100, "peak_memory_mib": [1000.0, 1200.0],
    }  # fmt: skip
    rounds = [
        {
            "machine": {"gflops": {"fp32": 100.0, "bf16": 400.0}, "copy_gb_per_s": 30.0, "cpu": "x", "torch": "y"},
            "sweep": {**sweep, "wall_s": ours}, "strict": {**sweep, "wall_s": 150.0}, "short": sweep,
            "peer": {"wall_s": peer}, "plain": {"tokens_per_s": 1250.0}, "help_s": 0.2,
            "many": {
                "ms_a_trial": 60.0, "ms_first": 50.0, "ms_last": 55.0,
                "memory_mib_early": 500.0, "memory_mib_end": 520.0,
            }, "bare": {"ms_a_trial": 9.0},
        }
        for ours, peer in ((50.0, 200.0), (60.0, 300.0), (90.0, 250.0))
    ]  # fmt: skip
    rows = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")] for line in run.table(rounds).splitlines()
            if line.startswith("|")}  # fmt: skip
    assert rows["P1"][4] == "0.250 (60.0 s / 250.0 s)"
    assert rows["P1s"][4].startswith("0.600 ")
    assert rows["P2"][4] == "4.0 %"
    # 12 trials of 1e4 tokens in 96 s of training on two slots are 2,500 tokens a second.
    assert rows["P4"][4] == "2.00 (2500 / 1250 a second)"
    assert rows["P5"][4] == "60 ms"
    assert rows["P6"][4] == "10.0 %"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", [["gpu", "--tiny"], ["machine"], ["paired", "2", "1", "32"]])
def test_scripts_run_through(script: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script[0]}", *script[1:]], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout[done.stdout.index("{") :])
