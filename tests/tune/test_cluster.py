"""A private Ray is small and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import json
from pathlib import Path
from tune.cluster import connected
from tune.spec import SweepSpec

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

import tune.cluster
folders = []
original = tune.cluster.temporary_folder
import contextlib
@contextlib.contextmanager
def noted():
    with original() as folder:
        folders.append(str(folder))
        yield folder
tune.cluster.temporary_folder = noted
with connected(SweepSpec("s", "m", "d", num_cpus=1)) as nodes:
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
