"""Ray's memory monitor kills a worker: its trial is run again with more room, and the sweep goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.sweeps import ledger_of, sweep


def memory_bytes(name: str) -> int:
    """A line of /proc/meminfo."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_worker_that_takes_too_much_memory_is_replaced(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total, available = memory_bytes("MemTotal"), memory_bytes("MemAvailable")
    if available < 9_000_000_000:
        pytest.skip("needs 9 GB of free memory")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(total - available + 3_000_000_000) / total:.4f}")
    more = ["--max-concurrent", "1", "--set", "num_cpus=2"]
    done = sweep(tmp_path, tiny_model, 2, [{"what": "eat", "trial": 0, "epoch": 2, "times": 1}], more_flags=more)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [row["state"] for row in report["trials"]] == ["COMPLETE", "COMPLETE"]
    assert "trial 0 set aside:" in done.stdout
    assert "it will be run with 2 times the resources of the others" in done.stdout
    assert sorted(ledger_of(tmp_path)) == [(trial, epoch) for trial in (0, 1) for epoch in (1, 2, 3)]
