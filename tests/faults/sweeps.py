"""Small real sweeps with faults, for the tests here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import write_pairs
from tests.tune.test_end_to_end import ROOT

POINT = {"learning_rate": 3e-3, "batch_size": 8, "epochs": 3}


def sweep_flags(
    folder: Path, model: Path, trials: int, points: Sequence[Mapping[str, float]] | None = None
) -> list[str]:
    """A sweep over tiny data without early stopping, whose trials write a state after every epoch."""
    if not (folder / "pairs").exists():
        write_pairs(folder / "pairs", {"train": 96, "validation": 24, "test": 24})
    (folder / "points.json").write_text(json.dumps(points or [POINT] * trials))
    return [
        "--dataset", "pairs", "--model", str(model), "--out", "run", "--points", "points.json",
        "--confirm", "none",
        "--num-trials", str(trials), "--scheduler", "none", "--sampler", "random", "--precision", "fp32",
        "--set", "state_interval_s=0",
    ]  # fmt: skip


def environment(folder: Path, faults: Sequence[Mapping[str, Any]] = ()) -> dict[str, str]:
    """What tests.faults.broken reads."""
    return {
        **os.environ, "PYTHONPATH": str(ROOT), "FAULTS": json.dumps(list(faults)), "LEDGER": str(folder / "ledger"),
    }  # fmt: skip


def start(
    folder: Path,
    flags: Sequence[str],
    faults: Sequence[Mapping[str, Any]] = (),
    module: str = "tests.faults.broken",
    own_group: bool = False,
    **more_environment: str,
) -> subprocess.Popen[str]:
    """Begin a sweep."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *flags],
        cwd=folder, env=environment(folder, faults) | more_environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0 if own_group else None,
    )  # fmt: skip


def sweep(
    folder: Path,
    model: Path,
    trials: int,
    faults: Sequence[Mapping[str, Any]] = (),
    points: Sequence[Mapping[str, float]] | None = None,
    more_flags: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a sweep to its end."""
    process = start(folder, [*sweep_flags(folder, model, trials, points), *more_flags], faults)
    out, error = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def ledger_of(folder: Path) -> list[tuple[int, int]]:
    """(trial, epoch) of every epoch that was trained to its end, in order."""
    lines = (folder / "ledger").read_text().splitlines() if (folder / "ledger").exists() else []
    return [(int(trial), int(epoch)) for trial, epoch, *_ in map(str.split, lines)]
