"""Two thousand short trials in one sweep: quick, and the driver stays small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tune.test_end_to_end import ROOT


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_two_thousand_trials_leave_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.many_trials", str(tmp_path), "2000"],
        cwd=ROOT, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    print(figures)
    assert figures["ms_a_trial"] < 500
    assert figures["memory_mib_end"] - figures["memory_mib_early"] < 100 * 1e6 / 2**20
    assert abs(figures["files_end"] - figures["files_early"]) <= 5
    assert figures["threads_after"] <= figures["threads_before"]
    assert figures["processes_after"] == []
