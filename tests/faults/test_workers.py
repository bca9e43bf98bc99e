"""Trials' workers die, hang, raise and run out of memory: each touches its own trial alone."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disturbed import Sweep, make_flags

EPOCHS = 3
LEARNS = {"learning_rate": 3e-3, "batch_size": 16, "epochs": EPOCHS}
SHORT = {"SHORTEST_LIMIT_S": "5"}  # without a finished batch: these take milliseconds


def sweep_with(folder: Path, model: Path, num_trials: int, *faults: dict[str, Any]) -> Sweep:
    """Trials that differ in their seed alone, with these faults in the middle of some epochs."""
    return Sweep(folder, make_flags(folder, model, [LEARNS] * num_trials), faults)


def without_faults(sweep: Sweep, folder: Path) -> Sweep:
    """The same sweep, finished with nothing in its way."""
    folder.mkdir()
    calm = Sweep(folder, sweep.flags)
    calm.finish()
    return calm


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_each_kind_of_failure_ends_as_it_should_and_touches_no_other_trial(tmp_path: Path, tiny_model: Path) -> None:
    sweep = sweep_with(
        tmp_path, tiny_model, 8,
        {"what": "kill", "trial": 1, "epoch": 2, "times": 1},
        {"what": "hang", "trial": 2, "epoch": 2, "times": 1},
        {"what": "raise", "trial": 3, "epoch": 2},
        {"what": "exit", "trial": 4, "epoch": 1},
        {"what": "nan", "trial": 5, "epoch": 2},
        {"what": "memory", "trial": 6, "epoch": 2, "times": 1},
    )  # fmt: skip
    driver = sweep.finish(**SHORT)
    assert driver.said == "", "what fails is told once, by us"
    done, fail = "COMPLETE", "FAIL"
    assert sweep.states() == [done, done, done, fail, fail, fail, done, done]
    reasons = [trial.user_attrs.get("failure") for trial in sweep.trials()]
    assert reasons[3] == "RuntimeError: the disk spoke in tongues"
    assert reasons[4] == "RuntimeError: the trial raised SystemExit(3)"
    assert reasons[5] == "f1 of epoch 2 is nan; it must be a finite number"
    assert [i for i, reason in enumerate(reasons) if reason] == [3, 4, 5]
    assert sorted(map(int, re.findall(r"trial (\d+) set aside", sweep.log))) == [1, 2, 6]
    assert "trial 1 set aside: its worker died (" in sweep.log
    assert re.search(r"trial 2 set aside: its worker finished nothing for \d+ s and was ended; it goes on", sweep.log)
    assert "trial 6 set aside: out of memory: no room; it will be run with 2 times the resources" in sweep.log
    for number in (0, 1, 2, 6, 7):
        trained = [line.epoch for line in sweep.ledger if line.trial == number]
        assert trained == [1, 2, 3], f"trial {number} did not go on from its last state"
    assert sorted(p.parent.name for p in sweep.run.glob("trials/*/failure.txt")) == ["3", "4", "5"]


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_a_worker_that_is_stopped_as_a_whole_is_found(tmp_path: Path, tiny_model: Path) -> None:
    sweep = sweep_with(tmp_path, tiny_model, 3, {"what": "freeze", "trial": 1, "epoch": 1, "times": 1})
    sweep.finish(**SHORT)
    assert sweep.states() == ["COMPLETE"] * 3
    assert re.search(r"trial 1 set aside: its worker finished nothing for \d+ s and was ended; it goes on", sweep.log)


@pytest.mark.faults
@pytest.mark.timeout(480)
def test_ten_kills_and_a_hang_cost_no_trial_and_no_bit(tmp_path: Path, tiny_model: Path) -> None:
    each = [{"what": "kill", "epoch": 2, "times": 1}, {"what": "kill", "epoch": 3, "times": 2}]
    kills = [{**kill, "trial": number} for number in range(5) for kill in each]
    sweep = sweep_with(tmp_path, tiny_model, 6, *kills, {"what": "hang", "trial": 5, "epoch": 2, "times": 1})
    with sweep.started(**SHORT) as driver:
        assert driver.ended(420) == 0, driver.said
    assert sweep.log.count("set aside: its worker died") == 10
    assert sweep.log.count("trial 5 set aside: its worker finished nothing for") == 1
    assert sweep.states() == ["COMPLETE"] * 6
    assert sorted((line.trial, line.epoch) for line in sweep.ledger) == [(n, e) for n in range(6) for e in (1, 2, 3)]
    assert sweep.scores() == without_faults(sweep, tmp_path / "calm").scores()


@pytest.mark.faults
@pytest.mark.timeout(480)
def test_a_trial_whose_worker_always_dies_fails_alone_after_growing_pauses(tmp_path: Path, tiny_model: Path) -> None:
    sweep = sweep_with(tmp_path, tiny_model, 3, {"what": "kill", "trial": 1, "epoch": 2})
    sweep.finish("--max-retries", 2)
    assert sweep.states() == ["COMPLETE", "FAIL", "COMPLETE"]
    reason = sweep.trials()[1].user_attrs["failure"]
    assert reason.startswith("its worker died (")
    assert reason.endswith("; it died 3 times without getting any further")
    assert [line.epoch for line in sweep.ledger if line.trial == 1] == [1]
    at = {
        what: [datetime.fromisoformat(line[:19]) for line in sweep.log.splitlines() if f"trial 1 {what}" in line]
        for what in ("started", "set aside")
    }
    pauses = [(b - a).total_seconds() for a, b in zip(at["set aside"], at["started"][1:], strict=True)]
    assert len(pauses) == 2
    assert pauses[0] >= 1 - 1  # the log's times are cut to seconds
    assert pauses[1] >= 2 - 1
    failure = (sweep.run / "trials" / "1" / "failure.txt").read_text()
    assert "configuration: learning_rate=0.003" in failure


@pytest.mark.faults
@pytest.mark.timeout(480)
def test_without_retries_a_death_and_a_hang_fail_their_trials(tmp_path: Path, tiny_model: Path) -> None:
    """The control of those above: it is the retries that save the trials."""
    sweep = sweep_with(
        tmp_path, tiny_model, 3,
        {"what": "kill", "trial": 0, "epoch": 2, "times": 1},
        {"what": "hang", "trial": 1, "epoch": 2, "times": 1},
    )  # fmt: skip
    sweep.finish("--max-retries", 0, **SHORT)
    assert sweep.states() == ["FAIL", "FAIL", "COMPLETE"]
    reason = sweep.trials()[0].user_attrs["failure"]
    assert reason.startswith("its worker died (")
    assert "tried" not in reason
    stuck = (sweep.run / "trials" / "1" / "failure.txt").read_text()
    assert "Where it stood:\n" in stuck
    assert "in hang\n" in stuck, "the traceback of the epoch is missing"
    report = json.loads((sweep.run / "report.json").read_text())
    assert "2 of 3 trials failed; trials/N/failure.txt says why" in report["warnings"]
