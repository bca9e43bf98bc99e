"""A run directory is taken for what it is, whenever its driver was killed."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainable.errors import UserError
from trainable.storage.object_store import ObjectStore
from tune.run_dir import layout, lock
from tune.run_dir.integrity import _what_the_study_lacks, place_problems
from tune.run_dir.layout import RunDir
from tune.run_dir.records import record_from


@pytest.mark.parametrize("left", [[".lock"], [".lock", ".spec.yaml.0123abcd"]])
def test_a_driver_killed_before_its_first_file_left_nothing_to_be_refused(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).touch()
    assert place_problems(RunDir(tmp_path)) == []


@pytest.mark.parametrize("name", ["notes.txt", ".env", ".spec.yaml"])
def test_a_folder_with_files_of_others_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / name).touch()
    assert place_problems(RunDir(tmp_path)) == [f"--out {tmp_path}: holds files but no sweep; give a new folder"]


def test_a_stores_study_may_be_a_little_older_than_its_trials(tmp_path: Path) -> None:
    (tmp_path / "trials" / "0" / "model").mkdir(parents=True)
    (said,) = _what_the_study_lacks(RunDir(tmp_path), ())
    assert "has 0 trials and none of number 0" in said
    assert _what_the_study_lacks(RunDir(tmp_path, ObjectStore(tmp_path, "s3://bucket/run")), ()) == []


HOLDER = """
import sys
from pathlib import Path
from tune.run_dir import lock
with lock.held(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_tells_its_owner_and_goes_with_it(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    assert lock.owner(file) is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        owner = f"{holder.pid} on {socket.gethostname()}"
        before = file.stat()
        assert lock.owner(file) == owner
        with (
            pytest.raises(UserError, match=f"--out run: another sweep is running here .process {owner}"),
            lock.held(file, "run"),
        ):
            pass
        assert (file.stat().st_mtime_ns, file.read_text()) == (before.st_mtime_ns, owner), "asking has written"
        holder.kill()
    assert lock.owner(file) is None, "a dead process holds the lock"
    with lock.held(file, "run"):
        pass


OLD_EPOCH = {
    "epoch": 1, "schedule_percent": 50.0, "train_loss": 0.7, "loss": 0.6, "accuracy": 0.5, "f1": 0.4,
    "matthews_correlation": 0.1, "collapsed": False, "learning_rate": 1e-4, "examples_per_second": 9.0,
    "began_at": 1.8e9, "train_s": 2.0, "eval_s": 1.0, "peak_memory_mib": 99.0, "rows_at_once": None,
    "hostname": "vm", "pid": 4711, "start_s": 0.5, "bytes_written": 0,
}  # fmt: skip


def test_a_trial_that_an_earlier_version_wrote_is_read_as_before() -> None:
    attributes = {
        "config": {"epochs": 2, "learning_rate": 1e-4}, "seed": 7, "retries": 1, "share": 4, "model_sha256": "ab",
        "epoch 2": {**OLD_EPOCH, "epoch": 2, "f1": 0.9}, "epoch 1": OLD_EPOCH, "failure": "its worker died",
    }  # fmt: skip
    record = record_from(3, "COMPLETE", attributes, {}, "f1", "max")
    assert record.config.named() == attributes["config"]
    assert (record.seed, record.retries, record.memory_multiplier, record.model_sha256) == (7, 1, 4, "ab")
    assert [epoch.as_json() for epoch in record.epochs] == [attributes["epoch 1"], attributes["epoch 2"]]
    assert (record.best_epoch, record.value, record.seconds) == (2, 0.9, 6.0)
    assert record.failure is None, "it ended well when it was run again"
    assert record_from(3, "FAIL", attributes, {}, "f1", "max").failure == "its worker died"
    newer = record_from(3, "RUNNING", attributes | {"memory_multiplier": 8}, {}, "f1", "max")
    assert newer.memory_multiplier == 8
    torn = record_from(3, "RUNNING", {}, {"epochs": 2}, "f1", "max")
    assert (torn.config.named(), torn.best, torn.value, torn.seed) == ({"epochs": 2}, None, None, None)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"config": [1]}, "trial 3 has no configuration"),
        ({"config": {"epochs": "two"}}, "trial 3: `epochs` must be "),
        ({"epoch 1": [1]}, "trial 3: epoch 1 is no object"),
        ({"epoch 1": {**OLD_EPOCH, "f1": "high"}}, "trial 3: f1 of epoch 1 is 'high'; it must be a finite number"),
    ],
)
def test_a_trial_of_another_hand_is_told(attributes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        record_from(3, "COMPLETE", attributes, {}, "f1", "max")


def test_file_names_are_written_down_once() -> None:
    """In tune/, the names of the run directory's files stand in layout.py; sentences for the user may mention them."""
    root = Path(layout.__file__).parent.parent
    names = {layout.SPEC, layout.STUDY, layout.LOG, layout.INCUMBENT, layout.REPORT_JSON, layout.REPORT_HTML}
    names.add(layout.FAILURE)
    for path in root.rglob("*.py"):
        strings = {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert path.name == "layout.py" or not strings & names, path
