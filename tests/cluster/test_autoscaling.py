"""A sweep makes a cluster without workers start some, uses them, and however it ends, the workers are ended after it.

The cluster runs on Ray's simulated provider, in a host of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.hosts import Machine, lab
from tests.cluster.simulated import IDLE_MINUTES, MOST_NODES
from tests.faults.disturbed import Driver, Sweep, family, make_flags
from tests.tune.test_end_to_end import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TRIALS, EPOCHS = 12, 4


def points() -> list[dict[str, object]]:
    return [{"learning_rate": 1e-3 + 1e-4 * i, "batch_size": 16, "epochs": EPOCHS} for i in range(TRIALS)]


class Nodes:
    """How many workers there were at which time."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def all(self) -> list[tuple[float, int]]:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [(at, sum("GPU" in node for node in nodes)) for at, nodes in map(json.loads, lines)]

    def now(self) -> int:
        return self.all()[-1][1]

    def none_left(self) -> float:
        """After how many seconds there were no workers any more."""
        began = time.monotonic()
        while self.now() > 0:
            assert time.monotonic() < began + 60 * IDLE_MINUTES + 60, f"nodes stay: {self.all()}"
            time.sleep(0.1)
        return time.monotonic() - began


def figure(name: str, seconds: float) -> None:
    """Print a measurement, to be seen with `pytest -s`."""
    print(f"\n{name}: {seconds:.1f} s", flush=True)


@contextmanager
def simulated(generation: int, folder: Path) -> Iterator[tuple[Machine, Nodes, dict[str, str]]]:
    """Start the cluster; yields its host, its nodes, and the environment with which a driver may join."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    faults = [{"what": "slow", "seconds": 1.0}]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "LEDGER": str(folder / "ledger"),
        "FAULTS": json.dumps(faults),
    }
    with lab(folder) as made:
        host = made.add("host1", 11)
        start = host.words(sys.executable, "-m", "tests.cluster.simulated", str(generation))
        with (folder / "start.log").open("w") as log:
            subprocess.run(start, env=environment, check=True, stdout=log, stderr=log)
        watch = host.words(sys.executable, "-m", "tests.cluster.watch", f"{host.address}:6379")
        with (folder / "nodes").open("w") as out:
            process = subprocess.Popen(watch, env=environment, stdout=out, stderr=subprocess.DEVNULL)
        try:
            nodes = Nodes(folder / "nodes")
            while not nodes.all():
                time.sleep(0.1)
            yield host, nodes, environment
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("generation", [1, 2])
def test_nodes_come_while_a_sweep_asks_and_go_when_it_ends_or_is_killed(
    generation: int, tmp_path: Path, tiny_model: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))  # the host sees only this folder
    sweep = Sweep(tmp_path, make_flags(tmp_path, model, points()))
    with simulated(generation, tmp_path) as (host, nodes, environment):

        @contextmanager
        def running() -> Iterator[Driver]:
            flags = map(str, (*sweep.flags, "--address", "auto", "--gpus-per-trial", "0.5", "--cpus-per-trial", "0.5"))
            words = host.words(sys.executable, "-m", "tests.faults.broken", *flags, "--out", str(sweep.run))
            with (tmp_path / "stdout").open("a") as out, (tmp_path / "stderr").open("w") as error:
                driver = Driver(sweep, subprocess.Popen(words, env=environment, stdout=out, stderr=error))
            try:
                yield driver
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(family(driver.process.pid)[-1], signal.SIGKILL)
                driver.process.wait()

        time.sleep(8)  # seconds in which nobody asks for nodes
        assert {number for _, number in nodes.all()} == {0}

        finished = []
        if generation == 2:
            with running() as driver:
                figure("first node", driver.until(lambda: nodes.now() == 1, 60))
                figure("all nodes, after that", driver.until(lambda: nodes.now() == MOST_NODES, 60))
                driver.until(lambda: " done: " in sweep.log, 60)
            figure("gone after a kill", nodes.none_left())
            finished = [trial for trial in sweep.trials() if trial.state.is_finished()]
            assert 0 < len(finished) < TRIALS

        with running() as driver:
            driver.until(lambda: nodes.now() == MOST_NODES, 60)
            assert driver.ended() == 0, driver.said
        figure("gone after the end", nodes.none_left())
        assert [trial for trial in sweep.trials() if trial in finished] == finished
        assert sweep.states() == ["COMPLETE"] * TRIALS
        assert max(number for _, number in nodes.all()) == MOST_NODES
    assert "0 trials side by side now, 0.5 GPU and 0.5 cores each" in sweep.log
    assert f"nodes came or went: {2 * MOST_NODES} trials side by side now" in sweep.log
