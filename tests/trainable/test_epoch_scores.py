"""An epoch's scores survive JSON, and what is wrong with a stored epoch is named."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from trainable.epoch_scores import EpochScores, WorkerFacts, best_epoch
from trainable.metrics import METRICS

# As a study of version 0.1.0 holds it, key for key.
STORED = {
    "epoch": 2, "schedule_percent": 50.0, "train_loss": 0.61, "loss": 0.52, "accuracy": 0.75, "f1": 0.8,
    "matthews_correlation": 0.4, "collapsed": False, "learning_rate": 3e-5, "examples_per_second": 71.5,
    "began_at": 1760000000.25, "train_s": 12.5, "eval_s": 1.25, "peak_memory_mib": 900.5, "rows_at_once": None,
    "hostname": "node-1", "pid": 4711, "start_s": 0.125, "bytes_written": 90_000_000,
}  # fmt: skip


def epoch(number: int = 1, **scores: float) -> EpochScores:
    read = EpochScores.from_json(STORED)
    return replace(read, epoch=number, scores={**read.scores, **scores})


def test_what_is_stored_comes_back_byte_for_byte() -> None:
    assert json.dumps(EpochScores.from_json(STORED).as_json()) == json.dumps(STORED)
    without = {name: value for name, value in STORED.items() if name not in ("hostname", "pid", "start_s")}
    del without["bytes_written"]
    assert json.dumps(EpochScores.from_json(without).as_json()) == json.dumps(without)
    assert EpochScores.from_json(without).worker is None


def test_it_is_read_as_values() -> None:
    read = EpochScores.from_json(STORED)
    assert read.scores == {name: STORED[name] for name in METRICS if name in STORED}
    assert read.worker == WorkerFacts("node-1", 4711, 0.125, 90_000_000)
    assert read.seconds == 13.75


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"epoch": None}, "epoch is None; it must be an integer from 1"),
        ({"epoch": 0}, "epoch is 0; it must be an integer from 1"),
        ({"f1": "0.5"}, "f1 of epoch 2 is '0.5'; it must be a finite number"),
        ({"f1": True}, "f1 of epoch 2 is True; it must be a finite number"),
        ({"train_loss": float("nan")}, "train_loss of epoch 2 is nan; it must be a finite number"),
        ({"collapsed": 0}, "collapsed of epoch 2 is 0; it must be true or false"),
        ({"rows_at_once": 1.5}, "rows_at_once of epoch 2 is 1.5; it must be an integer"),
        ({"pid": "1"}, "pid of epoch 2 is '1'; it must be an integer"),
        ({"hostname": None}, "hostname of epoch 2 is None; it must be a text"),
    ],
)
def test_a_wrong_value_is_named(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError) as caught:
        EpochScores.from_json({**STORED, **changes})
    assert str(caught.value) == error


@pytest.mark.parametrize("missing", [name for name in STORED if name not in (*METRICS, "rows_at_once", "epoch")])
def test_a_missing_key_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=f"^{missing} of epoch 2 is missing; it must be "):
        EpochScores.from_json({name: value for name, value in STORED.items() if name != missing})


def test_a_study_may_lack_a_newer_score_but_a_worker_must_report_it() -> None:
    older = {name: value for name, value in STORED.items() if name != "f1"}
    assert "f1" not in EpochScores.from_json(older).scores
    with pytest.raises(ValueError, match="f1 of epoch 2 is missing"):
        EpochScores.from_json(older, every_score=True)


def test_the_best_epoch_is_the_earliest_of_equals() -> None:
    assert best_epoch([], "f1", "max") is None
    found = best_epoch([epoch(1, f1=0.5), epoch(2, f1=0.7), epoch(3, f1=0.7)], "f1", "max")
    assert found is not None
    assert found.epoch == 2
    by_loss = best_epoch([epoch(1, f1=0.7, loss=0.4), epoch(2, f1=0.7, loss=0.3)], "f1", "max")
    assert by_loss is not None
    assert by_loss.epoch == 2


def test_importing_it_needs_no_torch() -> None:
    script = "import sys, trainable.epoch_scores; assert not {'torch', 'numpy', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
