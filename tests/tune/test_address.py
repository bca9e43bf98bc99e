"""A sweep on a Ray that somebody else started, and on one that is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_pairs
from tests.tune.test_end_to_end import command
from tune.search import main

OWNER = """
import sys, tempfile, ray
with tempfile.TemporaryDirectory(prefix="ft-test-", dir="/tmp") as folder:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    ray.shutdown()
"""


def test_an_existing_cluster_is_used_and_left_running(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("a" * 64)
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    flags = ["--dataset", data, "--model", tiny_model, "--num-trials", 2, "--precision", "fp32", "--out", "run"]
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        address = owner.stdout.readline().strip()
        done = command("tune.search", *flags, "--address", address, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert owner.poll() is None
        owner.stdin.close()
        assert owner.wait(timeout=30) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [row["state"] for row in report["trials"]] == ["COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "--address 127.0.0.1:1: nothing answers there (Connection refused); is the cluster running?"),
        ("nonsense", "--address must be auto or host:port, but got 'nonsense'"),
        ("host:0", "--address must be auto or host:port, but got 'host:0'"),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_clear_error(
    tmp_path: Path, tiny_model: Path, address: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    out = tmp_path / "run"
    code = main(["--dataset", str(data), "--model", str(tiny_model), "--address", address, "--out", str(out)])
    assert code == 2
    assert capsys.readouterr().err == f"{said}\nNothing was started. See --help.\n"
    assert not out.exists()


def test_auto_without_a_cluster_says_so(tmp_path: Path, tiny_model: Path) -> None:
    from ray._private.services import find_gcs_addresses

    if find_gcs_addresses():
        pytest.skip("somebody else's Ray runs on this machine: auto finds it")
    data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    done = command(
        "tune.search", "--dataset", data, "--model", tiny_model, "--address", "auto", "--out", "run", cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith("--address auto: no Ray cluster lets us in (Could not find any running Ray instance")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
