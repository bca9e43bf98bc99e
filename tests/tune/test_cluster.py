"""A private Ray is small, lets in nobody else and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tune.ports import HEALTH, answer, ask, descendants, every_method, listening
from tests.tune.test_failures import LEARNS, flags, wait_for
from tune.cluster.temporary import temporary_folder

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import json
from pathlib import Path
from tune.cluster.connect import connected
from tune.spec.sweep_spec import SweepSpec

def processes(word):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\\0", b" ").decode()
            except OSError:
                continue
            if word in command:
                found.append(command)
    return found

import tune.cluster.connect
folders = []
original = tune.cluster.connect.temporary_folder
import contextlib
@contextlib.contextmanager
def noted():
    with original() as folder:
        folders.append(str(folder))
        yield folder
tune.cluster.connect.temporary_folder = noted
with connected(SweepSpec(name="s", model="m", dataset="d", num_cpus=1)) as nodes:
    import ray
    answer = ray.get(ray.remote(lambda: 6 * 7).remote())
    running = processes(folders[0])
after = processes(folders[0])
print(json.dumps([answer, running, after, Path(folders[0]).exists(), [n.here for n in nodes]]))
"""


def test_a_private_ray_starts_no_helpers_and_leaves_no_process() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    answer, running, after, folder_left, here = json.loads(done.stdout)
    assert answer == 42
    assert any("raylet" in command for command in running), "the test sees no process of Ray's"
    for helper in ("dashboard.py", "monitor.py", "log_monitor.py"):
        assert not any(helper in command for command in running), helper
    assert after == []
    assert not folder_left
    assert here == [True]


def test_a_sweep_listens_on_what_is_documented_and_answers_nobody_without_its_token(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever the user has set, the private Ray has a token of its own.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "c" * 64)
    arguments = flags(tmp_path, tiny_model, [{**LEARNS, "epochs": 400}] * 2)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home")}
    driver = subprocess.Popen(
        [sys.executable, "-m", "tune.search", *map(str, arguments)],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "run" / "log.txt"
    try:
        wait_for(lambda: log.exists() and "trial 0 epoch 2/400" in log.read_text(), driver)
        everything = listening(driver.pid)
        assert {p.address for p in everything} == {"127.0.0.1"}
        ports = [
            p for p in everything if p.process != "dashboard_agent"
        ]  # which listens where ray[default] is installed
        described = {tuple(row) for row in documented_ports()}
        assert {(p.process, p.protocol, p.address) for p in ports} == described

        seen = {pid: Path(f"/proc/{pid}") for pid in descendants(driver.pid)[1:]}
        settings = {pid: environment_of(path) for pid, path in seen.items()}
        raylet = next(pid for pid, path in seen.items() if b"raylet" in (path / "cmdline").read_bytes())
        file = Path(settings[raylet]["RAY_AUTH_TOKEN_PATH"])
        token = file.read_text()
        assert len(token) == 64
        assert token != "c" * 64
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        for pid, path in seen.items():
            assert token.encode() not in (path / "cmdline").read_bytes()
            assert token not in settings[pid].values()

        for port in ports:
            told = [answer(port, shown) for shown in (None, "", "b" * 64, "c" * 64, token)]
            assert told == ["UNAUTHENTICATED"] * 4 + ["OK"], port
        # Above, one method of each service was asked. No method of any service lets in somebody without a token.
        methods = every_method()
        assert len(methods) > 100
        for port in ports:
            if port.process != "runtime_env_agent":
                assert set(ask(port.number, (), methods).values()) == {"UNAUTHENTICATED", "UNIMPLEMENTED"}, port
                assert ask(port.number, (), [HEALTH]) == {HEALTH: "OK"}
    finally:
        driver.send_signal(signal.SIGINT)
        driver.communicate(timeout=60)
    assert not file.exists()
    assert not (tmp_path / "home" / ".ray").exists(), "Ray made a token for everything that this user starts"


def documented_ports() -> list[list[str]]:
    """The rows of the documented table of ports: process, protocol, address."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    return [list(row) for row in re.findall(r"^\| `(\w+)` \| (\w+) \| ([\d.]+) \|", text, re.MULTILINE)]


def environment_of(process: Path) -> dict[str, str]:
    pairs = (process / "environ").read_bytes().decode(errors="replace").split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def test_a_folder_in_tmp_that_is_not_ours_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "owner").touch()
    linked = Path(f"/tmp/ft-test-{os.getpid()}")
    linked.symlink_to(tmp_path / "theirs")
    try:
        with temporary_folder() as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "theirs" / "owner").exists()
        (tmp_path / "theirs").rename(tmp_path / "moved")
        linked.unlink()
        (tmp_path / "moved").rename(linked)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getuid", lambda: linked.stat().st_uid + 1)
            with temporary_folder():
                assert (linked / "owner").exists()
        with temporary_folder():
            assert not linked.exists(), "ours, and nobody holds it"
    finally:
        linked.unlink() if linked.is_symlink() else None
