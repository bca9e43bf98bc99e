"""What is run beside the trials (a measurement, the test's scores) outlives the death of a worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import os, signal, sys
from pathlib import Path
from trainable.errors import RayDied
from tune.cluster.connect import connected
from tune.cluster.placement import where_trials_run
from tune.cluster.plan import Plan
from tune.spec.sweep_spec import SweepSpec

def answer(tries, folder):
    done = len(list(Path(folder).iterdir()))
    Path(folder, str(done)).touch()
    if done + 1 < tries:
        os.kill(os.getpid(), signal.SIGKILL)
    return 42

def mistaken():
    raise ValueError("a mistake of ours")

with connected(SweepSpec(name="s", model="m", dataset="d", num_cpus=1)):
    plan = Plan(1, 1.0, 0.0)
    first, second = Path(sys.argv[1], "first"), Path(sys.argv[1], "second")
    first.mkdir(), second.mkdir()
    print(where_trials_run(plan, answer, 2, first))
    try:
        where_trials_run(plan, answer, 100, second)
    except RayDied as error:
        print(str(error).partition(" (")[0], len(list(second.iterdir())))
    try:
        where_trials_run(plan, mistaken)
    except ValueError as error:
        print("told at once")
"""


def test_a_dead_worker_is_replaced_twice_and_an_error_is_told_at_once(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["42", "answer found no worker that lives 3", "told at once"], done.stderr
