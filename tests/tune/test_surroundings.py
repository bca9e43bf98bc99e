"""A sweep runs wherever it was started: without a terminal, a home, a writable folder, in a container's limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tune.cluster.machine import (
    no_gpu_note,
    usable_cores,
    usable_gpus,
    usable_memory,
)
from tune.cluster.nodes import local_nodes
from tune.cluster.plan import make_plan
from tune.process.signals import Signals
from tune.process.surroundings import CACHES, leave_working_directory, use_temporary_caches
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.failures import why_it_failed

CORES = usable_cores()


def put(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


# Cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, CORES),
        ({"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, CORES),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/outside/the/container\n", "sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
        (
            {
                "proc/self/cgroup": "7:memory:/m\n4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            CORES,
        ),
        ({"proc/self/cgroup": "nonsense\n", "sys/fs/cgroup/cpu.max": "a b\n"}, CORES),
    ],
)
def test_cores_are_those_of_the_control_group(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert usable_cores(put(tmp_path, files)) == cores


LOW = f"{4 << 30}\n"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"sys/fs/cgroup/memory.max": LOW}, 4),
        ({"sys/fs/cgroup/memory.max": "max\n"}, None),
        (
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": LOW, "sys/fs/cgroup/a/b/memory.max": "max"},
            4,
        ),
        ({"proc/self/cgroup": "7:memory:/m\n", "sys/fs/cgroup/memory/m/memory.limit_in_bytes": LOW}, 4),
        ({"proc/self/cgroup": "7:memory:/m\n", "sys/fs/cgroup/memory/m/memory.limit_in_bytes": f"{1 << 62}"}, None),
    ],
)
def test_memory_is_that_of_the_control_group(files: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    root = put(tmp_path, files)
    assert usable_memory(root) == (psutil.virtual_memory().total if limit is None else limit << 30)


def test_trials_without_memory_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put(tmp_path, {"sys/fs/cgroup/memory.max": LOW})
    monkeypatch.setattr("tune.cluster.nodes.usable_cores", lambda: 8)
    monkeypatch.setattr("tune.cluster.nodes.usable_gpus", lambda: 0)
    monkeypatch.setattr("tune.cluster.nodes.usable_memory", lambda: usable_memory(root))
    spec = SweepSpec(name="s", model="m", dataset="d")
    mini_lm, bert_base = 90 << 20, 420 << 20
    plan = make_plan(spec, local_nodes(spec), [], model_bytes=mini_lm)
    assert (plan.slots, plan.slots_without_memory, plan.local_cores) == (2, 6, 8)
    assert make_plan(spec, local_nodes(spec), [], model_bytes=bert_base).slots == 1, "larger models take more"
    few = spec.model_copy(update={"num_trials": 2})
    assert make_plan(few, local_nodes(few), []).slots_without_memory == 0, "nobody misses any"
    said = spec.model_copy(update={"num_cpus": 8})
    assert make_plan(said, local_nodes(said), []).slots == 8, "what the user says counts"
    put(tmp_path, {"sys/fs/cgroup/memory.max": "1000"})
    assert make_plan(spec, local_nodes(spec), []).slots == 1, "one trial is always tried"


# GPUs

TWO = {"proc/driver/nvidia/gpus/a/information": "", "proc/driver/nvidia/gpus/b/information": ""}


@pytest.mark.parametrize(
    ("files", "visible", "count", "said"),
    [
        ({}, None, 0, ""),
        ({}, "", 0, ""),
        ({}, "0", 0, "CUDA_VISIBLE_DEVICES=0 names no GPU of this machine: trials train on the CPU"),
        ({}, "NoDevFiles", 0, ""),
        ({}, "GPU-1234", 0, "CUDA_VISIBLE_DEVICES=GPU-1234 names no GPU of this machine: trials train on the CPU"),
        (TWO, None, 2, ""),
        (TWO, "1", 1, ""),
        (TWO, "1,0", 2, ""),
        (TWO, "7", 0, "CUDA_VISIBLE_DEVICES=7 names no GPU of this machine: trials train on the CPU"),
        (TWO, "0,7,1", 1, ""),
        (TWO, "", 0, "CUDA_VISIBLE_DEVICES= hides this machine's GPUs: trials train on the CPU"),
        (TWO, "-1", 0, "CUDA_VISIBLE_DEVICES=-1 hides this machine's GPUs: trials train on the CPU"),
        (TWO, "NoDevFiles", 0, "CUDA_VISIBLE_DEVICES=NoDevFiles hides this machine's GPUs: trials train on the CPU"),
        (TWO, "MIG-1", 1, ""),
        ({"dev/dxg": ""}, "0", 1, ""),
    ],
)
def test_gpus_are_those_that_are_there_and_named(
    files: dict[str, str], visible: str | None, count: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    root = put(tmp_path, files)
    assert (usable_gpus(root), no_gpu_note(root)) == (count, said)


# Signals and streams


@pytest.mark.parametrize("ignored", [True, False])
def test_a_hangup_that_is_ignored_stays_so(ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with Signals():
            assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) == ignored
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


READY = "from tune.process.surroundings import get_ready; get_ready(print); "


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&-"])
def test_streams_that_are_closed(closed: str, tmp_path: Path) -> None:
    code = f"import os; {READY}print('é'); n = os.open('here', os.O_CREAT | os.O_WRONLY); os.write(n, str(n).encode())"
    command = f'{sys.executable} -c "{code}" {closed}'
    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert int((tmp_path / "here").read_text()) > 2, "no file got the number of a closed stream"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_breaks_nothing(unbuffered: str) -> None:
    code = f"import sys; {READY}[print('line ' * 9) for _ in range(9999)]; print('the end', file=sys.stderr)"
    command = f'{sys.executable} -c "{code}" | head -n 1; exit ${{PIPESTATUS[0]}}'
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "the end\n")
    assert done.stdout == "line " * 9 + "\n"


def test_a_letter_that_the_stream_has_not() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    said = subprocess.run(
        [sys.executable, "-c", f"{READY}print('class café 日本')"], capture_output=True, check=True, env=environment
    )
    assert said.stdout == b"class caf\\xe9 \\u65e5\\u672c\n"


# Home and working directory


@pytest.mark.parametrize("home", ["missing", "closed"])
def test_without_a_home_the_caches_are_temporary(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "none") if home == "missing" else "/")
    monkeypatch.setattr(os, "access", lambda *_: False)  # to root, no folder is closed
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for name in CACHES:
        monkeypatch.delenv(name, raising=False)
    said = use_temporary_caches()
    assert said.endswith(f"caches go to {tmp_path}/finetune-search-cache-{os.getuid()}")
    for name in CACHES:
        assert os.environ[name].startswith(str(tmp_path))
        monkeypatch.delenv(name)


def test_with_a_home_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for home in (tmp_path, tmp_path / "that" / "can be made"):
        monkeypatch.setenv("HOME", str(home))
        assert use_temporary_caches() == ""


def test_modules_in_the_working_directory_shadow_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", ["", *before])
    leave_working_directory()
    assert sys.path == ["", *before], "in the project's own folder the path stays"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *before])
    leave_working_directory()
    assert sys.path == before


@pytest.mark.parametrize("name", ["evaluate", "datasets", "trainable", "torch", "optuna"])
def test_a_users_module_of_that_name_is_not_imported(name: str, tmp_path: Path) -> None:
    """With the console command, which `pip install` makes, `tune.py` may lie there, too."""
    for module in (name, "tune"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('the wrong module')")
    code = (
        "import sys; sys.path.pop(0); from tune.search import main; sys.path.insert(0, ''); "
        f"sys.argv[1:] = ['--dataset', '/none', '--model', '/none']; code = main(); import {name}; sys.exit(code)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()}, check=False,
    )  # fmt: skip
    assert (said.returncode, "Nothing was started" in said.stderr) == (2, True), said.stderr


# Memory


@pytest.mark.parametrize(
    "text",
    [
        "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
        "Worker exit: Memory on the node (IP: 10.0.0.1, ID: ab) where the task (actor ID: 1, name=ray::Trial, pid=7, "
        "memory used=1.0GB) was running was 9.6GB / 10.0GB (0.96), which exceeds the memory usage threshold of 0.95.",
    ],
)
def test_a_worker_that_the_memory_monitor_ended_ran_out_of_memory(text: str) -> None:
    assert why_it_failed(None, text) == ("memory", "the machine was short of memory, and Ray ended the trial's worker")
