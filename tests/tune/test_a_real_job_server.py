"""Submit, detach, attach again, stop and continue a sweep on a real head with its job server, on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import write_pairs
from tests.tune.test_end_to_end import ROOT
from tune.cluster.auth import TOKEN_VARIABLES
from tune.cluster.job_server import SERVER_VARIABLES
from tune.report.status import status

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("opencensus") is None, reason="needs ray[default]"),
]
MARK = "FINETUNE_SEARCH_TEST_HEAD"  # in the environment of all of a head's processes


@dataclass
class Head:
    """A head with a job server, and the environment of a client of it."""

    url: str
    folder: Path
    environment: dict[str, str]

    def client(self, *words: object) -> subprocess.Popen[str]:
        """A command on the laptop. The cluster does not know the laptop's working directory and Python path."""
        return subprocess.Popen(
            [sys.executable, "-m", "tune.search", *map(str, words)],
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def command(self, *words: object) -> tuple[int, str, str]:
        """The command's exit code, output and errors."""
        process = self.client(*words)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def processes_of(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("laptop")
    (folder / "token").write_text("c" * 64)
    (folder / "token").chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if name not in (*TOKEN_VARIABLES, *SERVER_VARIABLES)}
    environment = {**kept, "RAY_AUTH_TOKEN_PATH": str(folder / "token"), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    ports = free_ports(5)
    temporary = tempfile.mkdtemp(prefix="fj-", dir="/tmp")  # short: Ray's sockets lie in it
    mark = Path(temporary).name
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
             "ray-client-server-port")  # fmt: skip
    with (folder / "head.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1",
             "--num-cpus=2", "--num-gpus=0", "--dashboard-host=127.0.0.1", f"--temp-dir={temporary}",
             "--disable-usage-stats", *(f"--{name}={port}" for name, port in zip(names, ports, strict=True))],
            stdout=log, stderr=log, start_new_session=True, cwd=temporary,
            env={**environment, MARK: mark, "RAY_AUTH_MODE": "token",
                 "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", ports[1]), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "head.txt").read_text()
                assert time.monotonic() < until, (folder / "head.txt").read_text()
                time.sleep(0.2)
        yield Head(f"http://127.0.0.1:{ports[1]}", folder, environment)
    finally:
        process.terminate()
        process.wait(30)
        for pid in processes_of(mark):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(temporary, ignore_errors=True)


def flags(shared: Path, model: Path, epochs: int) -> list[object]:
    data = write_pairs(shared / "pairs", {"train": 96, "validation": 24, "test": 24})
    points = shared.parent / "points.json"
    points.write_text(json.dumps([{"learning_rate": 1e-3, "batch_size": 8, "epochs": epochs}] * 2))
    return [
        "--dataset", data, "--model", model, "--points", points,
        "--confirm", "none", "--num-trials", 2, "--scheduler", "none",
        "--precision", "fp32", "--set", "state_interval_s=0", "--out", shared / "run",
    ]  # fmt: skip


def lines_until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """What the command prints, up to a line that matches."""
    found: list[str] = []
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found.append(line)
            if re.search(pattern, line):
                return found
    finally:
        watchdog.cancel()
    assert process.stderr is not None
    pytest.fail(f"no line matches {pattern}: {''.join(found)}{process.stderr.read()}")


def test_a_sweep_is_let_go_met_again_stopped_and_gone_on_with(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    shared = tmp_path / "shared"
    words = [*flags(shared, tiny_model, 2000), "--submit", head.url]
    run = shared / "run"
    client = head.client(*words)
    job = lines_until(client, "^submitted as ")[-1].split()[2]
    lines_until(client, "trial 0 epoch 2/2000")
    client.send_signal(signal.SIGINT)
    out, err = client.communicate(timeout=20)
    assert client.returncode == 130
    assert f"--attach {job} --submit {head.url}" in err

    code, out, err = head.command("--status", run)
    assert (code, err) == (3, "")
    assert "; 2 running" in out
    epochs = [len(record.epochs) for record in status(run).records]

    again = head.client(*words)
    assert lines_until(again, "trial 0 epoch 2/2000")[0] == f"this sweep runs already, as {job}; Ctrl-C detaches\n"
    began = time.monotonic()
    code, out, err = head.command("--stop", job, "--submit", head.url)
    took = time.monotonic() - began
    assert (code, out) == (0, f"stopped; what is finished is kept in {run}, and its command goes on\n"), err
    assert took < 20, "it was not killed after the time that it has"
    rest, err = again.communicate(timeout=20)
    assert (again.returncode, err) == (143, "stopped; the same command goes on\n")
    assert "Go on with: python -m tune.search --dataset" in rest
    assert f"--submit {head.url}" in rest
    assert (run / "log.txt").read_text().endswith("stopped; the same command goes on\n"), "it ended in order"
    assert not list(run.rglob("*.safetensors.tmp"))

    found = status(run)
    assert (found.state, found.exit_code, found.driver) == ("stopped", 4, None)
    assert all(len(now.epochs) >= before for now, before in zip(found.records, epochs, strict=True))
    client = head.client(*words)
    second = lines_until(client, "^submitted as ")[-1].split()[2]
    assert second == job[:-1] + "2"
    text = "".join(lines_until(client, r"trial \d epoch \d+/2000"))
    assert int(re.findall(r"epoch (\d+)/2000", text)[-1]) > 2, "the trials went on from where they were"
    assert head.command("--stop", second, "--submit", head.url)[0] == 0
    client.communicate(timeout=20)


def test_a_sweep_that_ends_hands_over_its_exit_code_and_messages(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    shared = tmp_path / "shared"
    words = [*flags(shared, tiny_model, 2), "--submit", head.url]
    code, out, err = head.command(*words)
    assert (code, err) == (0, "")
    job = out.split()[2]
    assert "trial 1 done: " in out
    assert str(shared / "run" / "best") in out
    code, shown, err = head.command("--attach", job, "--submit", head.url)
    assert (code, shown, err) == (0, out.partition("\n")[2], "")
    assert head.command("--status", shared / "run")[0] == 0
    code, out, err = head.command(*words, "--metric", "accuracy")
    assert (code, err) == (2, "")
    assert "metric: f1 there, accuracy here" in out
    code, _, err = head.command("--attach", "nobody", "--submit", head.url)
    assert code == 2
    assert f"  {job}  succeeded  {shared / 'run'}" in err


def test_the_server_is_closed_to_others(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "other").write_text("d" * 64)
    head = Head(head.url, head.folder, {**head.environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")})
    code, _, err = head.command(*flags(tmp_path / "shared", tiny_model, 2), "--submit", head.url)
    assert code == 2
    assert "asks for another token than the one that is known here" in err
