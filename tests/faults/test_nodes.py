"""A cluster's nodes and services die, or freeze: the sweep goes on by itself, or says how to go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disturbed import Sweep, family, make_flags
from tests.tune.test_end_to_end import ROOT

pytestmark = pytest.mark.faults

EPOCHS = 4
POINTS = [{"learning_rate": rate, "batch_size": 16, "epochs": EPOCHS} for rate in (3e-3, 5e-3, 2e-3, 1e-3)]
SLOWLY = ({"what": "slow", "seconds": 0.7},)


@dataclass
class Cluster:
    """Its address, its nodes' processes (the head's first), and the environment that lets a driver in."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    nodes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.nodes[0]["address"])

    def read_node(self) -> None:
        assert self.process.stdout is not None
        self.nodes.append(json.loads(self.process.stdout.readline()))

    def add_node(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.read_node()

    def node_of(self, pid: int) -> list[int]:
        """The processes of the node that a worker process belongs to: its raylet first."""
        return next(members for node in self.nodes[1:] if pid in (members := family(node["raylet"])))


@contextmanager
def cluster_for(sweep: Sweep, nodes: int = 2) -> Iterator[Cluster]:
    """A head without slots and some nodes of one core, which let in only who knows their token."""
    # Sockets lie in the folder: their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ft-test-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        token = Path(folder, "token")
        token.write_text("a" * 64)
        token.chmod(0o600)
        access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.cluster", str(nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**sweep.environment, **access, "RAY_TMPDIR": folder},
            start_new_session=True,
        )
        try:
            cluster = Cluster(process, access)
            for _ in range(1 + nodes):
                cluster.read_node()
            yield cluster
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[object, ...]:
    return make_flags(tmp_path_factory.mktemp("given"), tiny_model, POINTS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flags: tuple[object, ...]) -> Sweep:
    """The same sweep, which nothing happened to."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), flags)
    sweep.finish()
    return sweep


def figure(name: str, seconds: float) -> None:
    """For the notes: what -s shows."""
    print(f"\n{name}: {seconds:.1f} s")


def assert_whole(sweep: Sweep, undisturbed: Sweep) -> None:
    assert sweep.states() == ["COMPLETE"] * len(POINTS)
    assert sweep.scores() == undisturbed.scores()
    report = json.loads((sweep.run / "report.json").read_text())
    assert report["best"]["trial"] == json.loads((undisturbed.run / "report.json").read_text())["best"]["trial"]


@pytest.mark.parametrize(("how", "limit_s"), [(signal.SIGKILL, 30.0), (signal.SIGSTOP, 120.0)])
@pytest.mark.timeout(480)
def test_a_node_that_dies_or_freezes_costs_no_trial(
    tmp_path: Path, flags: tuple[object, ...], undisturbed: Sweep, how: signal.Signals, limit_s: float
) -> None:
    # Where a node is added: a trial takes about as long as a worker to start, after which Tune itself gave that up.
    sweep = Sweep(tmp_path, flags, ({"what": "slow", "seconds": 2.0 if how == signal.SIGKILL else 0.7},))
    with cluster_for(sweep) as cluster, sweep.started("--address", cluster.address, **cluster.environment) as driver:
        driver.until(lambda: any(line.epoch == 2 for line in sweep.ledger))
        lost = next(line for line in sweep.ledger if line.epoch == 2)
        node = cluster.node_of(lost.pid)
        for pid in node:
            os.kill(pid, how)
        before = [line for line in sweep.ledger if line.trial == lost.trial]

        def again() -> list[Any]:
            return [line for line in sweep.ledger if line.trial == lost.trial][len(before) :]

        if how == signal.SIGKILL:
            cluster.add_node()
        figure(f"trial of a node that got {how.name} trained on", driver.until(again, limit_s))
        if how == signal.SIGKILL:
            driver.until(lambda: {line.pid for line in sweep.ledger} & {*family(cluster.nodes[-1]["raylet"])})
        else:  # what comes back must not disturb the trial's new worker
            for pid in node:
                os.kill(pid, signal.SIGCONT)
        assert driver.ended() == 0, driver.said
    assert driver.said == ""
    assert again()[0].pid not in node
    assert again()[0].epoch in (before[-1].epoch, before[-1].epoch + 1), "it did not go on from its last state"
    assert f"trial {lost.trial} set aside: its worker died" in sweep.log
    assert_whole(sweep, undisturbed)


def lose_the_head(sweep: Sweep, service: str) -> tuple[str, list[str]]:
    """Kill that process of the head's in the middle; returns the cluster's address and what the driver said."""
    with cluster_for(sweep) as cluster, sweep.started("--address", cluster.address, **cluster.environment) as driver:
        driver.until(lambda: "COMPLETE" in sweep.states() if sweep.ledger else False)
        began = time.monotonic()
        os.kill(cluster.nodes[0][service], signal.SIGKILL)
        assert driver.ended(within_s=90) == 1
        figure(f"told that the head's {service} died", time.monotonic() - began)
    return cluster.address, driver.said.splitlines()


@pytest.mark.timeout(480)
def test_a_cluster_whose_heads_raylet_dies_is_told(tmp_path: Path, flags: tuple[object, ...]) -> None:
    sweep = Sweep(tmp_path, flags, SLOWLY)
    address, (reason, advice) = lose_the_head(sweep, "raylet")
    where = f"the raylet of the Ray cluster at {address} on this machine died"
    assert reason == f"{where}; what is finished is kept in {sweep.run}"
    assert advice.startswith("Go on with: python -m tune.search --dataset ")


@pytest.mark.timeout(480)
def test_a_cluster_whose_head_dies_is_told_and_another_one_finishes_the_sweep(
    tmp_path: Path, flags: tuple[object, ...], undisturbed: Sweep
) -> None:
    sweep = Sweep(tmp_path, flags, SLOWLY)
    address, (reason, advice) = lose_the_head(sweep, "gcs")
    where = f"the head of the Ray cluster at {address} does not answer any more"
    assert reason == f"{where}; what is finished is kept in {sweep.run}"
    assert advice.startswith("Go on with: python -m tune.search --dataset ")
    finished = [trial for trial in sweep.trials() if trial.state.name == "COMPLETE"]
    lines = len(sweep.ledger)

    with cluster_for(sweep) as cluster:
        assert cluster.address != address
        with sweep.started("--address", cluster.address, **cluster.environment) as driver:
            assert driver.ended() == 0, driver.said
    assert {line.trial for line in sweep.ledger[lines:]}.isdisjoint({trial.number for trial in finished})
    assert [trial for trial in sweep.trials() if trial in finished] == finished
    assert_whole(sweep, undisturbed)


@pytest.mark.parametrize(
    ("process", "said"), [("raylet", "Ray's raylet died"), ("gcs_server", "Ray's gcs_server died")]
)
@pytest.mark.timeout(480)
def test_a_private_ray_that_dies_is_started_anew(
    tmp_path: Path, flags: tuple[object, ...], undisturbed: Sweep, process: str, said: str
) -> None:
    sweep = Sweep(tmp_path, flags, SLOWLY)
    with sweep.started() as driver:
        driver.until(lambda: "COMPLETE" in sweep.states() if sweep.ledger else False)
        finished = [trial for trial in sweep.trials() if trial.state.name == "COMPLETE"]
        before = sweep.ledger
        os.kill(driver.child(process), signal.SIGKILL)
        took = driver.until(lambda: sweep.ledger[len(before) + 2 :], 150)  # two may have been under way
        figure(f"trained on after the private Ray's {process} died", took)
        assert driver.ended() == 0, driver.said
    assert driver.said.splitlines() == [
        f"{said}; what is finished is kept in {sweep.run}",
        "starting again (1 of at most 5 times)",
    ]
    assert {line.trial for line in sweep.ledger[len(before) :]}.isdisjoint({trial.number for trial in finished})
    assert_whole(sweep, undisturbed)


@pytest.mark.timeout(480)
def test_without_the_watch_the_sweep_ends_unfinished_and_says_nothing(
    tmp_path: Path, flags: tuple[object, ...]
) -> None:
    """The control of those above: workers live on without their raylet, but no new one comes."""
    sweep = Sweep(tmp_path, flags, (*SLOWLY, {"what": "kill", "epoch": 3, "times": 1}))
    with sweep.started(WATCH="off") as driver:
        driver.until(lambda: sweep.ledger)
        os.kill(driver.child("raylet"), signal.SIGKILL)
        time.sleep(15)
        assert driver.process.poll() != 0
    assert "COMPLETE" not in sweep.states()
    assert "raylet died" not in driver.said
    assert "Go on with" not in driver.said
