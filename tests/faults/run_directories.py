"""Run directories that sweeps left: one whose driver died in its second trial, and the same one finished."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from tests.conftest import write_pairs
from tests.faults.disturbed import family
from tests.tune.checked import Checked, checked
from tests.tune.test_end_to_end import ROOT, command
from tests.tune.test_failures import wait_for
from trainable.epoch_scores import EpochScores
from trainable.job import Assignment
from trainable.trial import FineTuningTrial
from tune.cluster import connect
from tune.cluster.nodes import Node, local_nodes
from tune.cluster.plan import make_plan
from tune.search import main
from tune.sweep.trial_book import TrialBook

POINTS = [{"learning_rate": 3e-3, "batch_size": 8, "epochs": epochs} for epochs in (3, 40, 2)]
OPEN = 1  # the trial that is running when the driver is killed
LEADER = 0  # the best one by then


@dataclass(frozen=True)
class Sweeps:
    """One sweep at two moments, and the flags that go on with a copy of either: add --out."""

    killed: Path
    finished: Path
    flags: tuple[str, ...]

    def flags_for(self, run: Path) -> list[str]:
        """The command line's flags for a copy."""
        return [*self.flags, "--out", str(run)]


def make_flags(folder: Path, model: Path) -> tuple[str, ...]:
    """Write the data and points of the sweep; its flags."""
    data = write_pairs(folder / "pairs", {"train": 96, "validation": 24, "test": 24})
    (folder / "points.json").write_text(json.dumps(POINTS))
    return (
        "--dataset", str(data), "--model", str(model), "--points", str(folder / "points.json"), "--scheduler", "none",
        "--confirm", "none",
        "--num-trials", str(len(POINTS)), "--precision", "fp32", "--set", "state_interval_s=0", "--max-concurrent", "1",
        "--gpus-per-trial", "0",
    )  # fmt: skip


def make_real_sweeps(folder: Path, model: Path) -> Sweeps:
    """Run a sweep on Ray, kill its driver, keep what that left, and let the same command finish."""
    flags, run = make_flags(folder, model), folder / "run"
    log = run / "log.txt"
    driver = subprocess.Popen(
        [sys.executable, "-m", "tune.search", *flags, "--out", str(run)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: log.exists() and f"trial {OPEN} epoch 10/40" in log.read_text(), driver)
    # The driver dies first, and at once all that it started: a worker that lived on would write while we copy.
    members = family(driver.pid)
    for pid in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    driver.communicate(timeout=30)
    wait_until_gone(members)
    shutil.copytree(run, folder / "killed")
    done = command("tune.search", *flags, "--out", run, cwd=folder)
    assert done.returncode == 0, done.stderr
    return Sweeps(folder / "killed", run, flags)


def wait_until_gone(pids: list[int], within_s: float = 10.0) -> None:
    """Wait until these processes have ended; the first process of the machine may still have to collect them."""
    ends = time.monotonic() + within_s
    while alive := [pid for pid in pids if psutil.pid_exists(pid) and not is_zombie(pid)]:
        assert time.monotonic() < ends, f"processes {alive} live on"
        time.sleep(0.02)


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has collected it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def make_sweeps(folder: Path, model: Path) -> Sweeps:
    """The same without Ray: the worker's and the driver's parts in turn, in this process."""
    flags, run = make_flags(folder, model), folder / "run"
    prepared = checked([*flags, "--out", str(run)])
    with prepared.run_dir.locked():
        prepared.write_spec(None)
        book = TrialBook(prepared.spec, prepared.run_dir)
        prepared.write_spec("fp32")
        while book.remaining:
            trial = begin_trial(prepared, assignment := book.issue())
            Path(assignment.folder).mkdir(parents=True, exist_ok=True)  # TensorBoard's part
            done = False
            while not done:
                result = trial.step()
                book.record_epochs(assignment.number, [EpochScores.from_json(flat) for flat in result["history"]])
                done = result["done"]
                if (assignment.number, result["epoch"]) == (OPEN, 10):
                    shutil.copytree(run, folder / "killed")
            book.finish(assignment.number, TrialState.COMPLETE)
    with without_ray():
        assert main([*flags, "--out", str(run)]) == 0
    return Sweeps(folder / "killed", run, flags)


def begin_trial(prepared: Checked, assignment: Assignment) -> FineTuningTrial:
    """A worker that has taken a trial, and gone on from its state where there is a valid one."""
    plan = make_plan(prepared.spec, local_nodes(prepared.spec), [])
    trial = FineTuningTrial.__new__(FineTuningTrial)
    trial.setup({"assignment": assignment}, job=prepared.job(plan))
    return trial


@contextlib.contextmanager
def without_ray() -> Iterator[list[bool]]:
    """The command line in this process with everything but Ray, which a sweep without open trials does not use.

    Yields a list that is not empty once Ray would have been started.
    """
    started: list[bool] = []

    @contextlib.contextmanager
    def connected(spec: Any) -> Iterator[list[Node]]:
        started.append(True)
        yield local_nodes(spec)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connect, "connected", connected)
        yield started
