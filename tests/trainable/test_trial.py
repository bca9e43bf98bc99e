"""The Trainable, in process, without a cluster."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.errors import WeightsMissing
from trainable.job import Assignment
from trainable.storage.folders import is_whole
from trainable.trial import FineTuningTrial
from tune.run_dir.records import newest_scores, result_problem


def tune_config(folder: Path, number: int = 0, **values: Any) -> dict[str, Any]:
    config = TrialConfig.from_values({"learning_rate": 3e-3, "batch_size": 8, "epochs": 3, **values})
    return {"assignment": Assignment(number, 100 + number, config, str(folder / str(number)))}


def make_trial(model: Path, config: dict[str, Any], **changes: Any) -> FineTuningTrial:
    trial = FineTuningTrial.__new__(FineTuningTrial)
    trial.setup(config, job=make_job(model, **changes))
    return trial


def steps(trial: FineTuningTrial) -> list[dict[str, Any]]:
    results = [trial.step()]
    while not results[-1]["done"]:
        results.append(trial.step())
    return results


SCORES = ("train_loss", "loss", "accuracy", "f1", "matthews_correlation", "learning_rate")


def scores(results: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    return [tuple(result[name] for name in SCORES) for result in results]


def test_a_step_is_an_epoch_and_reports_it(tiny_model: Path, tmp_path: Path) -> None:
    results = steps(make_trial(tiny_model, tune_config(tmp_path)))
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert [result["schedule_percent"] for result in results] == pytest.approx([100 / 3, 200 / 3, 100])
    assert [result["done"] for result in results] == [False, False, True]
    for result in results:
        assert {*SCORES, "examples_per_second", "peak_memory_mib", "start_s"} <= result.keys()


def test_the_model_is_written_once_at_the_end(tiny_model: Path, tmp_path: Path) -> None:
    trial = make_trial(tiny_model, tune_config(tmp_path))
    trial.step()
    trial.step()
    assert [p.name for p in tmp_path.glob("0/*")] == ["predictions.npy"]
    trial.step()
    assert is_whole(tmp_path / "0" / "model")
    assert sorted(p.name for p in (tmp_path / "0").iterdir()) == ["model", "predictions.npy"]


@pytest.mark.parametrize(
    ("leader", "margin", "written"), [(7, -0.1, True), (7, 0.1, False), (7, 0.0, True), (3, 0.0, False)]
)
def test_a_trial_that_cannot_win_writes_nothing(
    tiny_model: Path, tmp_path: Path, leader: int, margin: float, written: bool
) -> None:
    """Of equals the smaller number wins, as in the driver's order, whichever finished first."""
    alone = steps(make_trial(tiny_model, tune_config(tmp_path / "alone", 5)))
    objective, loss = max((result["f1"], -result["loss"]) for result in alone)
    incumbent = tmp_path / "incumbent.json"
    incumbent.write_text(json.dumps({"trial": leader, "merit": [objective, loss + margin]}))
    steps(make_trial(tiny_model, tune_config(tmp_path, 5), incumbent_file=str(incumbent)))
    assert (tmp_path / "5" / "model").exists() == written


def test_a_reset_worker_equals_a_new_one(tiny_model: Path, tmp_path: Path) -> None:
    new = steps(make_trial(tiny_model, tune_config(tmp_path / "new", 2)))
    warm = make_trial(tiny_model, tune_config(tmp_path / "warm", 1, learning_rate=0.1, batch_size=5, epochs=2))
    warm.step()
    assert warm.reset_config(tune_config(tmp_path / "warm", 2))
    assert scores(steps(warm)) == scores(new)


def test_divergence_is_reported_and_the_worker_stays_usable(tiny_model: Path, tmp_path: Path) -> None:
    trial = make_trial(tiny_model, tune_config(tmp_path, 0, learning_rate=1e30, max_grad_norm=None))
    failed = steps(trial)[-1]
    assert "is not finite" in failed["failure"]
    assert not (tmp_path / "0").exists()
    trial.reset_config(tune_config(tmp_path, 1))
    assert scores(steps(trial)) == scores(steps(make_trial(tiny_model, tune_config(tmp_path / "new", 1))))


def test_a_trial_goes_on_from_its_newest_valid_state(tiny_model: Path, tmp_path: Path) -> None:
    whole = steps(make_trial(tiny_model, tune_config(tmp_path / "whole")))
    killed = make_trial(tiny_model, tune_config(tmp_path / "killed"), state_interval_s=0.0)
    killed.step()
    killed.step()
    states = tmp_path / "killed" / "0" / "state"
    assert [p.name for p in states.iterdir()] == ["epoch-2"]

    continued = make_trial(tiny_model, tune_config(tmp_path / "killed"), state_interval_s=0.0)
    result = continued.step()
    assert result["done"]
    assert scores([result]) == scores(whole)[2:]

    (states / "epoch-2" / "state.safetensors").write_bytes(b"torn")
    again = steps(make_trial(tiny_model, tune_config(tmp_path / "killed")))
    assert scores(again) == scores(whole), "a damaged state must mean starting over, not failing"


def test_tunes_own_save_and_restore_work(tiny_model: Path, tmp_path: Path) -> None:
    whole = steps(make_trial(tiny_model, tune_config(tmp_path / "whole")))
    first = make_trial(tiny_model, tune_config(tmp_path / "first"))
    first.step()
    (tmp_path / "checkpoint").mkdir()
    first.save_checkpoint(str(tmp_path / "checkpoint"))
    second = make_trial(tiny_model, tune_config(tmp_path / "second"))
    second.load_checkpoint(str(tmp_path / "checkpoint"))
    assert scores(steps(second)) == scores(whole)[1:]
    other = make_trial(tiny_model, tune_config(tmp_path / "other", 5))
    with pytest.raises(ValueError, match="no valid state of this trial"):
        other.load_checkpoint(str(tmp_path / "checkpoint"))


def test_a_worker_taken_for_dead_that_comes_back_does_not_fail_the_trial(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was frozen thaws: for an epoch two workers write the same trial's states, and remove old ones."""
    trial = make_trial(tiny_model, tune_config(tmp_path), state_interval_s=0.0)
    trial.step()
    save = trial.fine_tuning.save_state

    def save_beside_another(folder: Path) -> int:
        shutil.rmtree(folder.parent / "epoch-1")
        return save(folder)

    monkeypatch.setattr(trial.fine_tuning, "save_state", save_beside_another)
    assert "failure" not in trial.step()
    assert is_whole(tmp_path / "0" / "state" / "epoch-2")


def test_rungs_are_reported_with_all_that_was_scored_before(tiny_model: Path, tmp_path: Path) -> None:
    trial = make_trial(tiny_model, tune_config(tmp_path, epochs=2), rungs_percent=(25.0, 75.0))
    results = [{**result, "hostname": "here", "pid": 1} for result in steps(trial)]  # as Tune adds them
    assert ["history" in result for result in results] == [False, True, False, True]
    assert [[rung["schedule_percent"] for rung in result["rungs"]] for result in results] == [
        [25],
        [25],
        [25, 75],
        [25, 75],
    ]
    assert [result_problem(result) for result in results] == [None] * 4
    assert [newest_scores(result).schedule_percent for result in results] == [25, 50, 75, 100]  # type: ignore[union-attr]
    results[0]["rungs"][0]["f1"] = float("nan")
    assert result_problem(results[0]) == "f1 of a rung is nan; it must be a finite number"


def test_what_fails_while_a_worker_is_set_up_is_reported_and_the_next_trial_loads_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([WeightsMissing("lacks a"), MemoryError("no room")])
    load = FineTuningTrial._load

    def load_badly(self: FineTuningTrial, assignment: Assignment) -> None:
        for error in errors:
            raise error
        load(self, assignment)

    monkeypatch.setattr(FineTuningTrial, "_load", load_badly)
    trial = make_trial(tiny_model, tune_config(tmp_path))
    trial._stop()  # a sweep that is being stopped finds nothing to write
    assert trial.step() == {"failure": "lacks a", "kind": "model", "done": True}
    assert trial.reset_config(tune_config(tmp_path, 1))
    assert trial.step() == {"failure": "out of memory: no room", "kind": "memory", "done": True}
    assert trial.reset_config(tune_config(tmp_path, 2))
    assert steps(trial)[-1]["epoch"] == 3
