"""Sweeps that faults are put into: how they are started, and what they left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import optuna

from tests.conftest import write_pairs
from tests.tune.test_end_to_end import ROOT

optuna.logging.set_verbosity(optuna.logging.ERROR)

SCORES = ("train_loss", "loss", "accuracy", "f1", "matthews_correlation", "learning_rate")


class Line(NamedTuple):
    """An epoch that was really trained, by the process `pid` of a host, to its end at that time (seconds)."""

    trial: int
    epoch: int
    pid: int
    host: str
    ended: float


def read_ledger(file: Path) -> list[Line]:
    """What tests.faults.broken wrote there."""
    words = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [Line(int(trial), int(epoch), int(pid), host, float(ended)) for trial, epoch, pid, host, ended in words]


@dataclass(frozen=True)
class Sweep:
    """A sweep of the real command line in a folder, with a Trainable that breaks where `faults` says."""

    folder: Path
    flags: tuple[object, ...]
    faults: tuple[dict[str, Any], ...] = ()

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def environment(self) -> dict[str, str]:
        """What the trials' workers need in theirs."""
        ours = {"PYTHONPATH": str(ROOT), "LEDGER": str(self.folder / "ledger"), "FAULTS": json.dumps(self.faults)}
        return {**os.environ, **ours, "HF_HUB_OFFLINE": "1"}

    @contextmanager
    def started(self, *more: object, module: str = "tests.faults.broken", **environment: str) -> Iterator[Driver]:
        """The running command; at the end of the context it is ended, whatever it does."""
        words = [sys.executable, "-m", module, *map(str, (*self.flags, "--out", self.run, *more))]
        with (self.folder / "stdout").open("w") as out, (self.folder / "stderr").open("w") as err:
            process = subprocess.Popen(
                words, cwd=self.folder, env=self.environment | environment, stdout=out, stderr=err
            )
            try:
                yield Driver(self, process)
            finally:
                process.kill()
                process.wait()

    def finish(self, *more: object, **environment: str) -> Driver:
        """The command, run to its end; which must be a good one."""
        with self.started(*more, **environment) as driver:
            assert driver.ended() == 0, driver.said
        return driver

    @property
    def ledger(self) -> list[Line]:
        return read_ledger(self.folder / "ledger")

    @property
    def log(self) -> str:
        file = self.run / "log.txt"
        return file.read_text() if file.exists() else ""

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name=None, storage=f"sqlite:///{self.run / 'study.db'}").trials

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.trials()]

    def scores(self) -> list[dict[int, tuple[float, ...]]]:
        """Of every trial, what each epoch scored: equal means the same to the last bit."""
        return [
            {
                int(key[6:]): tuple(metrics[name] for name in SCORES)
                for key, metrics in sorted(trial.user_attrs.items())
                if key.startswith("epoch ")
            }
            for trial in self.trials()
        ]


@dataclass(frozen=True)
class Driver:
    """The process that runs a sweep."""

    sweep: Sweep
    process: subprocess.Popen[bytes]

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return (self.sweep.folder / "stderr").read_text()

    def ended(self, within_s: float = 240.0) -> int:
        return self.process.wait(timeout=within_s)

    def until(self, condition: Callable[[], object], within_s: float = 150.0) -> float:
        """Wait until that is so, with the driver alive; returns how many seconds it took."""
        began = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            assert time.monotonic() - began < within_s, f"not within {within_s} s; {self.said}\n{self.sweep.log}"
            time.sleep(0.1)
        return time.monotonic() - began

    def child(self, name: str) -> int:
        """The process id of its child of that name."""
        return next(pid for pid, parent, comm in processes() if parent == self.process.pid and comm == name)


def processes() -> list[tuple[int, int, str]]:
    """Process id, parent's and name of every process of this machine."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = entry.read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        found.append((int(entry.parent.name), int(tail.split()[1]), head.partition("(")[2]))
    return found


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    every = processes()
    members = [pid]
    for member in members:
        members += [child for child, parent, _ in every if parent == member]
    return members


def make_flags(folder: Path, model: Path, points: list[dict[str, Any]]) -> tuple[object, ...]:
    """Flags of a sweep over these points, on data that is written into the folder."""
    data = write_pairs(folder / "pairs", {"train": 96, "validation": 24, "test": 24})
    (folder / "points.json").write_text(json.dumps(points))
    return (
        "--dataset", data, "--model", model, "--points", folder / "points.json",
        "--confirm", "none", "--num-trials", len(points),
        "--scheduler", "none", "--precision", "fp32", "--set", "state_interval_s=0",
    )  # fmt: skip
