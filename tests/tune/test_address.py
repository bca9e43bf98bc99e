"""Sweeps on a Ray cluster that somebody else started, and on one that does not exist."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import write_pairs
from tests.tune.ports import Port, answer
from tests.tune.test_end_to_end import command
from tune.cluster.auth import TOKEN_HINT, TOKEN_VARIABLES
from tune.search import main

OWNER = """
import sys, tempfile, ray
with tempfile.TemporaryDirectory(prefix="fttest-", dir="/tmp") as folder:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    ray.shutdown()
"""


@contextmanager
def cluster(environment: dict[str, str]) -> Iterator[str]:
    """Start a cluster with these variables added to its environment; yields its address. It must outlive the test."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        yield owner.stdout.readline().strip()
        assert owner.poll() is None
        owner.stdin.close()
        assert owner.wait(timeout=30) == 0


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a token. The environment names the file and sets nothing else about tokens."""
    path = tmp_path / "token"
    path.write_text("a" * 64)
    path.chmod(0o600)
    for name in TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    return path


def flags(folder: Path, model: Path) -> list[object]:
    data = write_pairs(folder / "pairs", {"train": 48, "validation": 24, "test": 24})
    small = ["--confirm", "none", "--num-trials", 2, "--precision", "fp32"]
    return ["--dataset", data, "--model", model, *small, "--out", "run"]


@pytest.mark.slow
def test_an_existing_cluster_is_used_and_left_running(
    tmp_path: Path, tiny_model: Path, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster({"RAY_AUTH_MODE": "token"}) as address:
        arguments = [*flags(tmp_path, tiny_model), "--address", address]
        (tmp_path / "other").write_text("b" * 64)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "other"))
        refused = command("tune.search", *arguments, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr == (
            f"--address {address}: asks for another token than the one that is known here (RAY_AUTH_TOKEN_PATH)\n"
            "Nothing was started. See --help.\n"
        )
        assert not (tmp_path / "run").exists()

        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        done = command("tune.search", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [row["state"] for row in report["trials"]] == ["COMPLETE", "COMPLETE"]


def test_a_cluster_that_lets_in_anybody_is_not_joined(tmp_path: Path, tiny_model: Path, token: Path) -> None:
    with cluster({"RAY_AUTH_MODE": "disabled"}) as address:
        # This proves that the test of a sweep's ports would notice an open port: a cluster without a token answers OK.
        head = Port("gcs_server", "tcp", "", int(address.rpartition(":")[2]))
        host = address.rpartition(":")[0]
        assert [answer(head, shown, host) for shown in (None, "b" * 64)] == ["OK", "OK"]
        refused = command("tune.search", *flags(tmp_path, tiny_model), "--address", address, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"--address {address}: lets in anybody without a token, to run any code as its user; {TOKEN_HINT}\n"
        "Nothing was started. See --help.\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["auto", "HERE"])
def test_without_a_token_nothing_is_tried(
    tmp_path: Path, tiny_model: Path, token: Path, address: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.replace("HERE", f"127.0.0.1:{server.getsockname()[1]}")
        arguments = [*map(str, flags(tmp_path, tiny_model)), "--address", address]
        arguments[arguments.index("run")] = str(tmp_path / "run")
        token.write_text("\n")
        assert main(arguments) == 2
        home = tmp_path / "home" / ".ray" / "auth_token"
        monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
        assert main(arguments) == 2
        monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        assert main(arguments) == 2
    said = f"--address {address}: only a cluster that asks for a token is joined, but "
    assert capsys.readouterr().err.replace("\nNothing was started. See --help.", "").splitlines() == [
        f"{said}no token is known here: {token} is missing or empty; RAY_AUTH_TOKEN_PATH=FILE names another file",
        f"{said}no token is known here: {home} is missing or empty; RAY_AUTH_TOKEN_PATH=FILE names another file",
        f"{said}got RAY_AUTH_MODE=disabled",
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "--address 127.0.0.1:1: nothing answers there (Connection refused); is the cluster running?"),
        ("nonsense", "--address must be auto or host:port, but got 'nonsense'"),
        ("host:0", "--address must be auto or host:port, but got 'host:0'"),
        ("ray://host:10001", "--address must be auto or host:port, but got 'ray://host:10001'"),
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


def test_auto_without_a_cluster_says_so(tmp_path: Path, tiny_model: Path, token: Path) -> None:
    """This holds even while another sweep's private Ray runs here: Ray finds that one, but its token is another."""
    data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    done = command(
        "tune.search", "--dataset", data, "--model", tiny_model, "--address", "auto", "--out", "run", cwd=tmp_path
    )
    assert done.returncode == 2
    refused = ("--address auto: no Ray cluster lets us in (", "--address auto: asks for another token than")
    assert done.stderr.startswith(refused)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
