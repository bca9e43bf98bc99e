"""Real nodes that lack something, and one whose only core somebody else holds.

A node that sees other folders at the same paths is one in a mount namespace of its own, which takes root's rights.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.disturbed import Sweep, make_flags
from tests.faults.test_nodes import Cluster, cluster_for, figure
from tests.tune.test_end_to_end import ROOT

pytestmark = pytest.mark.faults

POINTS = [{"learning_rate": 3e-3, "batch_size": 16, "epochs": 1}] * 2

HOG = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)

@ray.remote(num_cpus=1)
class Hog:
    def held(self):
        return True

hog = Hog.remote()
ray.get(hog.held.remote())
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sweep(tmp_path: Path, tiny_model: Path) -> Sweep:
    """Two short trials; the model lies in a folder of its own, which can be hidden alone."""
    shutil.copytree(tiny_model, tmp_path / "model")
    return Sweep(tmp_path, make_flags(tmp_path / "given", tmp_path / "model", POINTS))


@contextmanager
def node_without(cluster: Cluster, sweep: Sweep, hidden: Sequence[Path] = (), **environment: str) -> Iterator[None]:
    """One more node of one core, which sees empty folders in place of these."""
    for path in hidden:
        path.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces take root's rights")
    mounts = [f"mount -t tmpfs tmpfs '{path}'" for path in hidden]
    start = f"'{sys.executable}' -m ray.scripts.scripts start --address={cluster.address} --num-cpus=1 --block"
    with (sweep.folder / "node").open("w") as output:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, f"exec {start}"])],
            stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True,
            env={**sweep.environment, **cluster.environment, **environment},
        )  # fmt: skip
        try:
            until = time.monotonic() + 60
            while "Ray runtime started" not in (sweep.folder / "node").read_text():
                assert process.poll() is None, (sweep.folder / "node").read_text()
                assert time.monotonic() < until
                time.sleep(0.2)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def planned(cluster: Cluster, sweep: Sweep, *more: object) -> tuple[int, str, str]:
    with sweep.started(
        "--address", cluster.address, "--plan", *more, module="tune.search", **cluster.environment
    ) as driver:
        code = driver.ended(within_s=90)
    return code, (sweep.folder / "stdout").read_text(), driver.said


@pytest.mark.timeout(240)
def test_a_plan_shows_every_node_and_writes_nothing(sweep: Sweep) -> None:
    before = sorted(sweep.folder.rglob("*"))
    with cluster_for(sweep, nodes=3) as cluster:
        began = time.monotonic()
        code, shown, said = planned(cluster, sweep)
        figure("--plan on a cluster of a head and three nodes", time.monotonic() - began)
        assert (code, said) == (0, "")
        rows = [line.split("  ") for line in shown.splitlines() if re.search(r"\(\d+\.\d+\.\d+\.\d+", line)]
        assert len(rows) == 4, shown
        assert sum("there" in row for row in rows) == 3, shown
        assert "2 trials side by side now, 1 core each" in shown
        assert shown.endswith("Nothing was started; the same command without --plan begins.\n")
        code, _, said = planned(cluster, sweep, "--accelerator", "H100")
        assert (code, said.splitlines()[0]) == (2, "--accelerator H100: no node has it; no node names its GPUs")
        code, shown, said = planned(cluster, sweep, "--gpus-per-trial", "auto")
        assert code == 0
        assert "no GPUs, so trials train on the CPU" in shown
    assert not sweep.run.exists()
    assert sorted(p for p in sweep.folder.rglob("*") if p.name not in ("stdout", "stderr")) == before


@pytest.mark.timeout(240)
def test_a_node_that_lacks_much_is_told_whole_and_nothing_is_started(sweep: Sweep) -> None:
    # Another checkout: the same but for one file.
    other = sweep.folder / "checkout"
    for package in ("tune", "trainable", "tests"):
        shutil.copytree(ROOT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
    changed = other / "trainable" / "train" / "loop.py"
    changed.write_text(changed.read_text() + "# older\n")
    shared = sweep.folder / "not_shared"
    shared.mkdir()
    with (
        cluster_for(sweep, nodes=1) as cluster,
        node_without(cluster, sweep, [shared], PYTHONPATH=str(other)),
    ):
        began = time.monotonic()
        code, _, said = planned(cluster, sweep, "--out", shared / "run")
        figure("told of a node that lacks much", time.monotonic() - began)
    assert code == 2
    assert "has another version of finetune-search (its source files differ)" in said
    seen = re.findall(
        r"can't see what (.*) write below \S+; --out must be a folder that all nodes share, or s3://", said
    )
    assert len(seen) == 1, said
    assert seen[0].endswith(" and the driver")
    assert list(shared.iterdir()) == []


@pytest.mark.timeout(240)
def test_a_node_without_the_models_folder_is_sent_the_model(sweep: Sweep) -> None:
    temporary = sweep.folder / "t"
    temporary.mkdir()
    with (
        cluster_for(sweep, nodes=0) as cluster,
        node_without(cluster, sweep, [sweep.folder / "model"], TMPDIR=str(temporary)),
    ):
        code, shown, _ = planned(cluster, sweep)
        assert code == 0
        assert "is sent" in shown
        assert list(temporary.glob("finetune-search-*/*")) == []
        with sweep.started("--address", cluster.address, **cluster.environment) as driver:
            assert driver.ended() == 0, driver.said + sweep.log
    assert sweep.states() == ["COMPLETE"] * len(POINTS)
    (copied,) = [path for path in temporary.glob("finetune-search-*/*") if path.is_dir()]
    original = (sweep.folder / "model" / "model.safetensors").read_bytes()
    assert (copied / "model.safetensors").read_bytes() == original
    assert copied.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.timeout(240)
def test_who_holds_the_only_core_is_told_until_it_is_free(sweep: Sweep, precision: str) -> None:
    # With auto, what waits first is the measurement.
    with cluster_for(sweep, nodes=1) as cluster:
        hog = subprocess.Popen(
            [sys.executable, "-c", HOG, cluster.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={**sweep.environment, **cluster.environment},
        )  # fmt: skip
        try:
            assert hog.stdout is not None
            assert hog.stdout.readline() == "held\n"
            with sweep.started(
                "--address", cluster.address, "--precision", precision, NOTICE_AFTER_S="4", NOTICE_EVERY_S="3",
                **cluster.environment,
            ) as driver:  # fmt: skip
                driver.until(lambda: sweep.log.count("nothing has been running for") >= 2)
                assert "started" not in sweep.log
                hog.kill()
                assert driver.ended() == 0, driver.said
        finally:
            hog.kill()
            hog.communicate()
    first, second = re.findall(r"nothing has been running for (\d+) s: no node has 1 CPU free", sweep.log)[:2]
    assert (int(first), int(second) - int(first)) in ((4, 3), (4, 4), (5, 3))
    assert re.search(r"\n  \S+ \(\S+, \w{6}\): free 0 of 1 CPU\n", sweep.log), sweep.log
    assert re.search(rf"held by .*python.* \(process {hog.pid} on .*\): actor Hog \(1 CPU, process", sweep.log)
    assert "add nodes, or end this and lower --cpus-per-trial." in sweep.log
    assert re.search(r"placed after \d+ s", sweep.log)
    assert sweep.states() == ["COMPLETE"] * len(POINTS)
