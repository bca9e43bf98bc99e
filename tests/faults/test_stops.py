"""Ctrl-C, SIGTERM, both twice; a second driver; a clock that jumps: nothing is lost, and the same command goes on."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.faults.sweeps import POINT, ledger_of, start, sweep, sweep_flags
from tests.tune.test_end_to_end import ROOT, command
from tests.tune.test_failures import wait_for
from tune.process.signals import STOP_LIMIT_S

SLOW = [{"what": "slow", "seconds": 1.0}]
POINTS = [{**POINT, "epochs": 4, "learning_rate": rate} for rate in (3e-3, 1e-3, 5e-3)]


def begun(folder: Path, flags: list[str], **environment: str) -> subprocess.Popen[str]:
    """A sweep whose trial 0 has two epochs behind it."""
    process = start(folder, flags, SLOW, **environment)
    log = folder / "run" / "log.txt"
    wait_for(lambda: log.exists() and "trial 0 epoch 2/" in log.read_text(), process)
    return process


def states(folder: Path) -> list[str]:
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'run' / 'study.db'}")
    return [trial.state.name for trial in study.trials]


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_signal_ends_the_sweep_in_order(tmp_path: Path, tiny_model: Path, number: signal.Signals) -> None:
    flags = sweep_flags(tmp_path, tiny_model, 3, POINTS)
    process = begun(tmp_path, flags)
    sent = time.monotonic()
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    took_s = time.monotonic() - sent
    assert process.returncode == 128 + number
    assert took_s < STOP_LIMIT_S + 3
    assert error.splitlines() == [
        "stopped; what is finished is kept in run",
        f"Go on with: {shlex.join(['python', '-m', 'tune.search', *flags])}",
    ]  # fmt: skip
    assert "Traceback" not in out + error
    assert (tmp_path / "run" / "trials" / "0" / "state").is_dir(), "the running trial's state is gone"
    trained = ledger_of(tmp_path)
    again = command("tune.search", *flags, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert states(tmp_path) == ["COMPLETE"] * 3
    before = [line for line in trained if line[0] == 0]
    first = re.findall(r"trial 0 epoch (\d)/", again.stdout)
    assert int(first[0]) >= len(before), "the trial started over"


@pytest.mark.slow
def test_trials_in_their_first_epoch_go_on_where_they_were_stopped(tmp_path: Path, tiny_model: Path) -> None:
    points = [{**POINT, "batch_size": 4, "epochs": 2}] * 2
    flags = [*sweep_flags(tmp_path, tiny_model, 2, points), "--set", "state_interval_s=60"]
    process = start(tmp_path, flags, [{"what": "slow steps", "seconds": 0.5}], own_group=True)  # an epoch takes 12 s
    log = tmp_path / "run" / "log.txt"
    wait_for(lambda: log.exists() and "trial 1 started" in log.read_text(), process)
    time.sleep(3.5)
    process.send_signal(signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)  # `timeout` sends both
    process.communicate(timeout=STOP_LIMIT_S + 3)
    assert process.returncode == 128 + signal.SIGTERM
    at = [next((tmp_path / "run" / "trials" / str(trial) / "state").glob("epoch-0-step-*")).name for trial in (0, 1)]
    assert min(int(name.rpartition("-")[2]) for name in at) >= 3
    again = command("tune.search", *flags, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (tmp_path / "calm").mkdir()
    calm_flags = [*sweep_flags(tmp_path / "calm", tiny_model, 2, points), "--set", "state_interval_s=60"]
    assert command("tune.search", *calm_flags, cwd=tmp_path / "calm").returncode == 0
    assert scores(tmp_path) == scores(tmp_path / "calm")


def scores(folder: Path) -> list[dict[int, float]]:
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'run' / 'study.db'}")
    return [trial.intermediate_values for trial in study.trials]


@pytest.mark.faults
def test_a_second_signal_ends_it_at_once_and_leaves_nothing_running(tmp_path: Path, tiny_model: Path) -> None:
    flags = sweep_flags(tmp_path, tiny_model, 3, POINTS)
    process = begun(tmp_path, flags)
    children = descendants(process.pid)
    assert len(children) >= 4, "Ray's processes were to be found"
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=10)
    assert process.returncode in (130, -signal.SIGINT)
    assert time.monotonic() - sent < 2
    for _ in range(100):
        alive = [pid for pid in children if is_running(pid)]
        if not alive:
            break
        time.sleep(0.1)
    assert not alive, [Path(f"/proc/{pid}/cmdline").read_text() for pid in alive]
    process.communicate()


def descendants(pid: int) -> list[int]:
    """Every process below a process."""
    below = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return [*below, *(further for child in below for further in descendants(child))]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.faults
def test_a_second_driver_is_refused_with_the_owners_name(tmp_path: Path, tiny_model: Path) -> None:
    flags = sweep_flags(tmp_path, tiny_model, 3, POINTS)
    process = begun(tmp_path, flags)
    before = time.monotonic()
    command("tune.search", "--help", cwd=tmp_path)
    help_s = time.monotonic() - before
    before = time.monotonic()
    second = command("tune.search", *flags, cwd=tmp_path)
    assert time.monotonic() - before < help_s + 1.0
    assert second.returncode == 2
    assert f"another sweep is running here (process {process.pid} on " in second.stderr
    fresh = command("tune.search", *flags, "--fresh", cwd=tmp_path)
    assert fresh.returncode == 2, "a running sweep was moved aside"
    process.kill()
    process.communicate()
    after = sweep(tmp_path, tiny_model, 3, points=POINTS)
    assert after.returncode == 0, "the lock of a dead process holds"


# Read by every Python process of the sweep when it starts; the clock jumps when the file gets there.
CLOCK = """
import pathlib, threading, time
import time_machine
def jump(path=pathlib.Path({jump!r})):
    while not path.exists():
        time.sleep(0.05)
    time_machine.travel(time.time() + float(path.read_text()), tick=True).start()
threading.Thread(target=jump, daemon=True).start()
"""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The folder of a sweep that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight")
    whole = sweep(folder, tiny_model, 3, points=POINTS)
    assert whole.returncode == 0, whole.stderr
    return folder


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("shift_s", [-86400, 86400])
def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, tiny_model: Path, straight: Path, shift_s: int) -> None:
    """In the middle of an epoch; then the sweep is killed, and goes on by that clock."""
    jump = tmp_path / "jump"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK.format(jump=str(jump)))
    flags = sweep_flags(tmp_path, tiny_model, 3, POINTS)
    process = begun(tmp_path, flags, PYTHONPATH=f"{tmp_path / 'clock'}:{ROOT}")
    jump.write_text(str(shift_s))
    log = tmp_path / "run" / "log.txt"
    wait_for(lambda: "trial 1 epoch 2/" in log.read_text(), process)
    process.kill()
    process.communicate()
    process = start(tmp_path, flags, PYTHONPATH=f"{tmp_path / 'clock'}:{ROOT}")
    error = process.communicate()[1]
    assert process.returncode == 0, error
    times = [
        datetime.fromisoformat(line[:19]) for line in log.read_text().splitlines() if re.match(r"\d{4}-\d\d-", line)
    ]
    jumps = [(b - a).total_seconds() for a, b in itertools.pairwise(times) if abs((b - a).total_seconds()) > 80_000]
    assert len(jumps) == 1, "the clock did not jump"
    assert jumps[0] * shift_s > 0
    assert outcome(tmp_path) == outcome(straight)


def outcome(folder: Path) -> list[Any]:
    """What a sweep came to, less its times."""
    report = json.loads((folder / "run" / "report.json").read_text())
    rows = [{key: row[key] for key in ("number", "state", "config", "value", "best_epoch")} for row in report["trials"]]
    return [rows, report["best"], report["test"]]
