"""Run `ray up cluster.local.yaml` on hosts made of namespaces: a head, and two workers with a logical GPU each.

Every test begins while the cluster is up; the last test takes it down.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.hosts import HOME, Lab, Machine, lab
from tests.faults.disturbed import Line, Sweep, family, make_flags
from tests.tune.ports import inodes, opened
from tests.tune.test_end_to_end import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

WORKERS = {"worker1": 11, "worker2": 12}
HOSTS = {"head": 10, **WORKERS}  # the last number of their addresses
SLOTS = 4  # two to a GPU
SLOW_S = 2.0  # that an epoch takes longer where the ledger is kept
BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")


def figure(name: str, value: float | str) -> None:
    """Print a measurement, to be seen with `pytest -s`."""
    print(f"\n{name}: {value if isinstance(value, str) else f'{value:.1f} s'}", flush=True)


def until(condition: Callable[[], Any], within_s: float, told: Callable[[], str] = lambda: "") -> Any:
    """Wait until a condition holds; returns its value."""
    ends = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < ends, f"not within {within_s} s\n{told()}"
        time.sleep(0.1)
    return found


@dataclass
class Cluster:
    """The hosts, the cluster file that was filled in for them, and the commands of the launching machine."""

    lab: Lab
    file: Path
    environment: dict[str, str]
    nodes_file: Path = field(init=False)
    watch: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes_file = self.lab.folder / "nodes"
        head = f"{self.lab.hosts['head'].address}:6379"
        with self.nodes_file.open("w") as out:
            words = self.lab.command(sys.executable, "-m", "tests.cluster.watch", head)
            self.watch = subprocess.Popen(words, env=self.environment, stdout=out, stderr=subprocess.DEVNULL)

    def ray(self, *words: str) -> str:
        """Run `ray WORDS` on the launching machine; returns its output. It must succeed."""
        done = subprocess.run(
            self.lab.command("env", "-C", str(ROOT), RAY, *words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ray_up(self) -> float:
        """Start the cluster; returns after how many seconds all of its workers were there."""
        began = time.monotonic()
        told = self.ray("up", "--yes", str(self.file))
        (self.lab.folder / "up.log").write_text(told)
        figure("head up", time.monotonic() - began)
        until(lambda: self.workers() == len(WORKERS), 120, self.told)
        figure("workers up", time.monotonic() - began)
        return time.monotonic() - began

    def workers(self) -> int:
        """The number of nodes with a GPU that the head knows."""
        lines = self.nodes_file.read_text().splitlines()
        _, nodes = json.loads(lines[-1]) if lines else (0, [])
        return sum("GPU" in node for node in nodes)

    def told(self) -> str:
        """The end of the autoscaler's log."""
        words = self.lab.hosts["head"].words("sh", "-c", "tail -n 40 /tmp/ray/session_latest/logs/monitor*")
        return subprocess.run(words, capture_output=True, text=True).stdout

    @contextmanager
    def running(self, sweep: Sweep, module: str = "tune.search") -> Iterator[Command]:
        """Run a sweep through `ray exec`; it is ended with the context."""
        share = ("--gpus-per-trial", "0.5", "--cpus-per-trial", "0.5")
        words = [sys.executable, "-m", module, "--address", "auto", *share]
        command = shlex.join([*words, *map(str, sweep.flags), "--out", str(sweep.run)])
        sweep.folder.mkdir(exist_ok=True)
        with (sweep.folder / "output").open("a") as out:
            process = subprocess.Popen(
                self.lab.command(RAY, "exec", str(self.file), command),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Command(process, sweep)
        finally:
            for pid in reversed(family(process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            process.wait()


@dataclass
class Command:
    """A sweep's command that runs on the launching machine."""

    process: subprocess.Popen[bytes]
    sweep: Sweep

    @property
    def said(self) -> str:
        """The end of the command's output and of the sweep's log. (`ray exec` gives the command a terminal.)"""
        return f"{(self.sweep.folder / 'output').read_text()[-2000:]}\n{self.sweep.log[-4000:]}"

    def until(self, condition: Callable[[], Any], within_s: float) -> float:
        """After how many seconds the condition held, while the command was still running."""
        began = time.monotonic()

        def so() -> Any:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            return condition()

        until(so, within_s, lambda: self.said)
        return time.monotonic() - began

    def ended(self, within_s: float = 150) -> int:
        return self.process.wait(timeout=within_s)


def fill_in(hosts: dict[str, Machine], folder: Path) -> dict[str, Any]:
    """The repository's cluster file, filled in with our hosts, account, key, shared folder, Python and resources."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.local.yaml").read_text())
    config["provider"] |= {"head_ip": hosts["head"].address, "worker_ips": [hosts[name].address for name in WORKERS]}
    config["auth"] |= {"ssh_user": "root", "ssh_private_key": str(folder / "user_key")}
    # The hosts can't reach a registry, but this Python has everything installed.
    install = [command for command in config["setup_commands"] if "pip install" in command]
    assert len(install) == 1
    config["setup_commands"].remove(install[0])
    config["setup_commands"] = [re.sub('"FILL IN.*"', str(folder), command) for command in config["setup_commands"]]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        theirs = "PATH=~/finetune-search/.venv/bin:"
        assert all(theirs in command for command in config[commands])
        config[commands] = [command.replace(theirs, f"PATH={BIN}:") for command in config[commands]]
    start = config["worker_start_ray_commands"][-1].rstrip()
    assert start.endswith('ray start --address="$RAY_HEAD_IP:6379"')
    config["worker_start_ray_commands"][-1] = f"{start} --num-cpus=1 --num-gpus=1\n"
    assert "FILL IN" not in yaml.safe_dump(config)
    return config


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    shared = tmp_path_factory.mktemp("shared")
    (shared / "slow").touch()
    slow = {"what": "slow", "seconds": SLOW_S, "while": str(shared / "slow")}
    # The files that `ray up` copied to each host come before those of this checkout.
    ours = {"PYTHONPATH": f"{HOME}/finetune-search:{ROOT}", "HF_HUB_OFFLINE": "1"}
    with lab(shared, **ours, LEDGER=str(shared / "ledger"), FAULTS=json.dumps([slow])) as made:
        for name, last in HOSTS.items():
            made.add(name, last)
        token = shared / "token"
        token.write_text(secrets.token_hex(32))
        give = f"mkdir -m 700 ~/.ray && install -m 600 {token} ~/.ray/auth_token"
        subprocess.run(made.command("sh", "-c", give), check=True)
        file = shared / "cluster.local.yaml"
        file.write_text(yaml.safe_dump(fill_in(made.hosts, shared)))
        access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        cluster = Cluster(made, file, {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(HOME), **access})
        try:
            yield cluster
        finally:
            cluster.watch.kill()
            cluster.watch.wait()


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    """The cluster with all of its hosts up, whatever an earlier test did to it."""
    for name, host in started.lab.hosts.items():
        if host.process.poll() is not None:
            started.lab.add(name, HOSTS[name])
    if started.workers() < len(WORKERS):
        started.ray_up()
    return started


def points(number: int, epochs: int) -> list[dict[str, Any]]:
    return [{"learning_rate": 1e-3 + 1e-4 * i, "batch_size": 16, "epochs": epochs} for i in range(number)]


@pytest.fixture(scope="module")
def model(started: Cluster, tiny_model: Path) -> Path:
    return Path(shutil.copytree(tiny_model, started.lab.folder / "model"))


def most_at_once(lines: list[Line]) -> int:
    """How many processes trained side by side, from the times at which each one's epochs began and ended."""
    begun: dict[tuple[int, int], float] = {}
    spans = []
    for line in lines:
        key = (line.trial, line.pid)
        if key in begun:
            spans.append((begun[key], line.ended))
        begun[key] = line.ended
    return max((sum(a < moment < b for a, b in spans) for moment in (end for _, end in spans)), default=0) + 1


def slots_used(lines: list[Line], begin: float, end: float) -> float:
    """How many processes trained at a time on average. An epoch lasts from the end of the one before to its end."""
    busy = 0.0
    before: dict[tuple[str, int], float] = {}
    for line in lines:
        who = (line.host, line.pid)
        if who in before:
            busy += max(0.0, min(line.ended, end) - max(before[who], begin))
        before[who] = line.ended
    return busy / (end - begin)


def test_a_worker_that_dies_costs_an_epoch_and_is_used_again_when_it_is_back(cluster: Cluster, model: Path) -> None:
    folder = cluster.lab.folder
    sweep = Sweep(folder, make_flags(folder, model, points(32, 6)))
    began = time.monotonic()
    with cluster.running(sweep, "tests.faults.broken") as command:
        command.until(lambda: sweep.ledger, 90)
        figure("first epoch after the sweep's command", time.monotonic() - began)
        command.until(lambda: len({(line.host, line.pid) for line in sweep.ledger}) == SLOTS, 60)
        figure("all slots trained after the sweep's command", time.monotonic() - began)
        full = time.time()
        time.sleep(2 * SLOW_S)
        before = sweep.ledger
        assert {line.host for line in before} == {*WORKERS}
        victim = cluster.lab.hosts["worker1"]
        victim.die()
        died = time.time()
        last = {line.trial: line.host for line in sweep.ledger}
        lost = [n for n, state in enumerate(sweep.states()) if (state, last.get(n)) == ("RUNNING", victim.name)]
        assert lost

        def go_on(number: int) -> list[Line]:
            return [line for line in sweep.ledger if line.trial == number and line.ended > died]

        command.until(lambda: all(map(go_on, lost)), 120)
        figure("lost trials trained on", time.time() - died)
        assert {line.host for number in lost for line in go_on(number)} == {"worker2"}
        command.until(lambda: cluster.workers() == 1, 120)
        figure("the head knew of its death", time.time() - died)
        back = time.time()
        cluster.lab.add(victim.name, WORKERS[victim.name])
        command.until(lambda: cluster.workers() == len(WORKERS), 150)
        joined = time.time()
        figure("the host is a node again", joined - back)
        command.until(lambda: "nodes came or went: 4 trials side by side now" in sweep.log, 5)
        command.until(lambda: any(line.host == victim.name and line.ended > joined for line in sweep.ledger), 60)
        figure("and trains", time.time() - joined)
        command.until(lambda: len({(line.host, line.pid) for line in sweep.ledger if line.ended > joined}) == SLOTS, 60)
        (folder / "slow").unlink()
        assert command.ended() == 0, command.said
    figure("the whole sweep", time.monotonic() - began)
    whole = sweep.ledger
    figure("of 4 slots, used before the death", f"{slots_used(whole, full, died):.1f}")
    figure("of 2 slots, used after it", f"{slots_used(whole, died, joined):.1f}")
    assert sweep.states() == ["COMPLETE"] * 32
    trained = Counter((line.trial, line.epoch) for line in sweep.ledger)
    assert set(trained) == {(trial, epoch) for trial in range(32) for epoch in range(1, 7)}
    repeated = {trial: epoch for (trial, epoch), times in trained.items() if times > 1}
    assert set(repeated) <= set(lost)
    assert max(trained.values()) <= 2
    assert [most_at_once([line for line in sweep.ledger if line.host == name]) for name in WORKERS] == [2, 2]
    assert "nodes came or went: 2 trials side by side now" in sweep.log


def test_nobody_gets_in_without_the_token_and_nothing_listens_elsewhere(cluster: Cluster) -> None:
    machines = [cluster.lab.machine, *cluster.lab.hosts.values()]
    processes = [pid for machine in machines for pid in (machine.pid, *machine.processes())]
    outside = opened()
    networks = {os.readlink(f"/proc/{machine.pid}/ns/net"): machine.address for machine in machines}
    assert len(networks) == len(machines)
    for pid in processes:
        with contextlib.suppress(FileNotFoundError):
            assert os.readlink(f"/proc/{pid}/ns/net") in networks
            assert not inodes(pid) & outside.keys()
    assert cluster.lab.machine.ports() == {}

    asked = []
    for host in cluster.lab.hosts.values():
        ports = {port.number for port in host.ports().values() if not port.address.startswith(("127.", "::1"))}
        assert all(port.protocol == "tcp" for port in host.ports().values())
        asked += [f"{host.address}:{number}" for number in ports if number != 22]
    words = cluster.lab.command(sys.executable, "-m", "tests.cluster.probe", *asked)
    done = subprocess.run(words, env=cluster.environment, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)
    services = [where for where, (_, _, right) in answers.items() if "OK" in right]
    assert f"{cluster.lab.hosts['head'].address}:6379" in services
    assert len(services) >= 1 + 2 * len(cluster.lab.hosts)  # the head's, and each raylet's two
    for where, (without, wrong, _) in answers.items():
        assert "OK" not in (*without, *wrong), where


@pytest.mark.parametrize(("token", "reason"), [(None, "no token is known here"), ("b" * 64, "asks for another token")])
def test_a_sweep_that_does_not_know_the_token_is_refused(
    cluster: Cluster, model: Path, tmp_path: Path, token: str | None, reason: str
) -> None:
    head = cluster.lab.hosts["head"]
    given = {"RAY_AUTH_TOKEN_PATH": "/nowhere"} if token is None else {"RAY_AUTH_TOKEN": token}
    flags = ("--dataset", cluster.lab.folder / "pairs", "--model", model, "--out", cluster.lab.folder / "refused")
    done = subprocess.run(
        head.words(sys.executable, "-m", "tune.search", *map(str, flags), "--address", f"{head.address}:6379"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **given},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    assert not (cluster.lab.folder / "refused").exists()


def test_a_head_that_died_is_started_again_and_the_same_command_goes_on(cluster: Cluster, model: Path) -> None:
    folder = cluster.lab.folder / "headless"
    folder.mkdir()
    sweep = Sweep(folder, make_flags(folder, model, points(12, 40)))
    with cluster.running(sweep) as command:
        command.until(lambda: " done: " in sweep.log, 120)
        cluster.lab.hosts["head"].die()
        began = time.monotonic()
        assert command.ended() != 0
        figure("the launching machine noticed", time.monotonic() - began)
    before = sweep.trials()
    finished = [trial for trial in before if trial.state.is_finished()]
    assert 0 < len(finished) < 12
    cluster.lab.add("head", HOSTS["head"])
    cluster.ray_up()
    with cluster.running(sweep) as command:
        assert command.ended() == 0, command.said
    figure("from the head's death to the sweep's end", time.monotonic() - began)
    after = sweep.trials()
    assert [trial for trial in after if trial in finished] == finished, "a finished trial was run again"
    assert [trial.state.name for trial in after] == ["COMPLETE"] * 12
    assert f"going on: {len(finished)} trials are finished" in sweep.log
    hosts = {epoch["hostname"] for trial in after for name, epoch in trial.user_attrs.items() if name[:6] == "epoch "}
    assert hosts == {*WORKERS}


def test_taking_it_down_leaves_no_process(cluster: Cluster) -> None:
    assert all(any("raylet" in words for words in host.processes().values()) for host in cluster.lab.hosts.values())
    began = time.monotonic()
    cluster.ray("exec", str(cluster.file), f"{RAY} stop")
    # docs/cluster.md says: stop the head first, which would start the workers again, then each worker.
    login = [
        "ssh",
        "-i",
        str(cluster.lab.folder / "user_key"),
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "LogLevel=ERROR",
    ]
    addresses = [cluster.lab.hosts[name].address for name in WORKERS]
    stops = [
        subprocess.Popen(
            cluster.lab.command(*login, f"root@{address}", f"{RAY} stop"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for address in addresses
    ]
    assert [stop.wait() for stop in stops] == [0, 0]
    cluster.ray("down", "--yes", str(cluster.file))
    figure("down", time.monotonic() - began)
    for host in cluster.lab.hosts.values():
        # The ssh sessions of these commands last for some seconds more.
        until(lambda host=host: not host.processes(), 30, lambda host=host: str(host.processes()))
