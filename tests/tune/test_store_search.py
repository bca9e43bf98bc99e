"""Sweeps whose run directory lies in an object store: a real S3 protocol over loopback, from a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import optuna
import pytest

from tests.faults.disturbed import Sweep, make_flags
from tests.faults.test_cluster_checks import node_without
from tests.faults.test_nodes import cluster_for
from tests.tune.left_behind import begin, complete
from tests.tune.test_end_to_end import ROOT, command
from trainable.errors import UserError
from trainable.storage import lease
from trainable.storage.lease import LEASE_FILE
from trainable.storage.object_store import ObjectStore
from trainable.storage.private_folder import working_folder
from tune.report.__main__ import main as report_main
from tune.run_dir.layout import FETCHED, RunDir

pytestmark = pytest.mark.cluster

KEYS = {"AWS_ACCESS_KEY_ID": "a" * 16, "AWS_SECRET_ACCESS_KEY": "b" * 20, "AWS_EC2_METADATA_DISABLED": "true"}
POINTS = [{"learning_rate": rate, "batch_size": 16, "epochs": 3} for rate in (3e-3, 1e-3, 5e-3)]
SERVER = """
import boto3, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
port = server.get_host_and_port()[1]
boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1").create_bucket(Bucket="bucket")
print("port", port, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What follows `s3://bucket/prefix`, so that the server of this module is asked."""
    log = tmp_path_factory.mktemp("s3") / "log"  # a pipe that nobody reads fills up, and then the server hangs
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER], stdin=subprocess.PIPE, stdout=output, stderr=output,
            env={**os.environ, **KEYS},
        )  # fmt: skip
    while not (found := re.search(r"^port (\d+)\n", log.read_text(), re.MULTILINE)):
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    yield f"?endpoint_override=http://127.0.0.1:{found[1]}&region=us-east-1"
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def store(s3: str, tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "copy", f"s3://bucket/{tmp_path.name}{s3}")


@pytest.mark.timeout(400)  # five commands, each with a Ray of its own
def test_it_goes_on_from_another_machine(tmp_path: Path, tiny_model: Path, s3: str, store: ObjectStore) -> None:
    url = str(store.url)
    flags = (*make_flags(tmp_path, tiny_model, POINTS), "--sampler", "random")
    sweep = Sweep(tmp_path, flags, ({"what": "slow", "seconds": 0.5},))
    copy = working_folder(url)
    with sweep.started("--out", url) as driver:
        driver.until(lambda: "trial 0 started" in log_of(copy))
    store.remove(store.root / LEASE_FILE)  # it was killed, and a minute has gone by
    with sweep.started("--out", url) as driver:
        driver.until(lambda: "trial 0 done" in log_of(copy) and any(line.trial == 2 for line in sweep.ledger))
        second = command("tune.search", *map(str, flags), "--out", url, cwd=tmp_path)
        assert second.returncode == 2
        assert f"another sweep is running here (process {driver.process.pid}" in second.stderr
        driver.process.send_signal(signal.SIGKILL)
        driver.process.wait()
    trained = {(line.trial, line.epoch) for line in sweep.ledger}
    before = len(sweep.ledger)
    shutil.rmtree(copy)  # all that this machine knew
    store.remove(store.root / LEASE_FILE)
    assert store.folders(store.root / "trials" / "2" / "state"), "no state was published"

    done = sweep.finish("--out", url)
    assert done.said == ""
    again = {(line.trial, line.epoch) for line in sweep.ledger[before:]}
    assert not {epoch for epoch in again if epoch[0] == 0}, "a finished trial was run again"
    assert trained | again == {(trial, epoch) for trial in range(3) for epoch in (1, 2, 3)}
    assert len(again & trained) <= 2, "more than the epochs under way was trained again"

    store.fetch_copy(FETCHED)
    report = json.loads((store.root / "report.json").read_text())
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{store.root / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    assert study.trials[report["best"]["trial"]].value == study.best_value
    assert (store.root / "best" / "model.safetensors").is_file()
    for number in range(3):
        assert not store.folders(store.root / "trials" / str(number)), "states or models are left"
    assert store.objects.keys_below(store.root / "trials"), "curves are gone"

    checked = command("tune.evaluate", url, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "agrees with report.json" in checked.stderr
    nothing_left = command("tune.search", *map(str, flags), "--out", url, cwd=tmp_path)
    assert nothing_left.returncode == 0
    assert "nothing left to do" in nothing_left.stdout


def test_a_winner_is_confirmed_there(tmp_path: Path, tiny_model: Path, store: ObjectStore) -> None:
    """Workers publish the models of fresh runs, and this machine has none of them before it asks."""
    flags = (*make_flags(tmp_path, tiny_model, POINTS), "--confirm", "1x2", "--out", str(store.url))
    done = command("tune.search", *flags, cwd=tmp_path, limit_s=300)
    assert done.returncode == 0, done.stderr
    store.fetch_copy(FETCHED)
    report = json.loads((store.root / "report.json").read_text())
    runs = [row["number"] for row in report["trials"] if row["confirms"] is not None]
    assert len(runs) == 2 * len(report["finalists"]), "none was trained again because its model seemed to be gone"
    assert report["best"]["trial"] in runs
    assert report["recipe"]["seeds"] == 2
    assert (store.root / "best" / "test_predictions.npy").is_file()
    for row in report["trials"]:
        assert not store.folders(store.root / "trials" / str(row["number"])), "models are left"


def test_a_node_that_has_no_way_to_the_store_is_told(tmp_path: Path, tiny_model: Path, store: ObjectStore) -> None:
    sweep = Sweep(tmp_path, make_flags(tmp_path / "given", tiny_model, POINTS))
    there = tmp_path / "there"
    there.mkdir()
    # Every Python there runs it first.
    (there / "sitecustomize.py").write_text(
        "import pyarrow.fs\n"
        "class FileSystem:\n"
        "    def from_uri(url):\n"
        "        raise OSError('no way to the store')\n"
        "pyarrow.fs.FileSystem = FileSystem\n"
    )
    with (
        cluster_for(sweep, nodes=1) as cluster,
        node_without(cluster, sweep, PYTHONPATH=f"{there}:{ROOT}"),
        sweep.started(
            "--address", cluster.address, "--out", store.url, module="tune.search", **cluster.environment
        ) as driver,
    ):
        assert driver.ended(within_s=90) == 2
    said = driver.said.splitlines()
    assert len(said) == 4, driver.said
    assert f": can't write below {store.name_of(store.root)}: no way to the store" in said[1]
    assert re.search(r": can't read what .* and the driver write below s3://.*; every node needs a way", said[2])
    assert not store.objects.keys_below(store.root), "something is left, or was begun"


def log_of(run: Path) -> str:
    return (run / "log.txt").read_text() if (run / "log.txt").exists() else ""


def test_what_a_url_may_be(tmp_path: Path, tiny_model: Path, s3: str) -> None:
    flags = [*map(str, make_flags(tmp_path, tiny_model, POINTS)), "--out"]
    for out, problem in {
        "s3://": "--out must be a folder or a URL like s3://bucket/prefix",
        "s3://key:secret@bucket/x": "--out a URL with a key or a password in it would be written into logs",
        f"s3://nobucket/x{s3}": "--out s3://nobucket/x: there is no such bucket",
        "gopher://a/b": "--out gopher://a/b: Unrecognized filesystem type in URI",
    }.items():
        done = command("tune.search", *flags, out, cwd=tmp_path)
        assert done.returncode == 2
        assert problem in done.stderr
        assert "secret" not in done.stderr


def test_what_is_there_is_neither_touched_nor_lost(
    tmp_path: Path, tiny_model: Path, s3: str, store: ObjectStore
) -> None:
    url = str(store.url)
    flags = [*map(str, make_flags(tmp_path, tiny_model, POINTS[:1])), "--out", url]
    store.objects.write(store.root / "mine.txt", "mine")
    refused = command("tune.search", *flags, cwd=tmp_path)
    assert refused.returncode == 2
    assert "holds files but no sweep; give another prefix" in refused.stderr
    done = command("tune.search", *flags, "--fresh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"is kept in {store.name_of(store.root)}.old-1" in done.stdout
    again = command("tune.search", *flags, "--fresh", cwd=tmp_path)  # where this machine has a copy of the first
    assert again.returncode == 0, again.stderr
    assert f"is kept in {store.name_of(store.root)}.old-2" in again.stdout
    other = ObjectStore(store.root, url.replace("?", ".old-1?"))
    assert other.read_text(store.root / "mine.txt") == "mine"
    assert store.fetch(store.root / "best")


def test_of_drivers_that_begin_at_one_moment_one_is_left(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SETTLE_S", 0)  # only conditional writes can tell them apart
    url, start, ended = f"s3://bucket/{tmp_path.name}{s3}", Barrier(6), Barrier(6)
    for _ in range(3):

        def begin(number: int) -> str:
            store = ObjectStore(tmp_path / str(number), url)
            start.wait()
            try:
                with store.lease():
                    ended.wait()
                    assert not store._lease.lost
                    return "held"
            except UserError as error:
                ended.wait()
                return str(error)

        with ThreadPoolExecutor(6) as threads:
            told = sorted(threads.map(begin, range(6)))
        assert told[-1] == "held"
        assert all("another sweep has begun here at the same moment" in reason for reason in told[:-1])
        assert "held" not in told[:-1]


def test_a_stopped_sweep_in_a_store_is_reported(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report and best/ lie in the store afterwards, and nobody holds it; asking again reads no model."""
    book = begin(tmp_path / "cut", tiny_model, tiny_data, num_trials=4)
    winner = complete(book, 0.9).number
    shutil.copytree(tmp_path / "cut", store.root, dirs_exist_ok=True)
    run_dir = RunDir(store.root, store)
    store.publish(run_dir.spec_file)
    store.publish_database(run_dir.study_file)
    store.publish(run_dir.model(winner))
    for is_read in (True, False):
        assert report_main([str(store.url)]) == 0
        out, err = capsys.readouterr()
        assert "WARNING: the sweep did not end: 1 of 4 trials are done" in out
        assert ("the test split was read for this (once so far for this run)" in err) == is_read
    there = ObjectStore(tmp_path / "other", str(store.url))
    there.fetch_copy(FETCHED)
    assert (tmp_path / "other" / "best" / "model.safetensors").exists()
    assert json.loads((tmp_path / "other" / "report.json").read_text())["best"]["trial"] == winner
    assert not (tmp_path / "other" / LEASE_FILE).exists()
