"""What holds on a CPU holds on a real GPU: the same bits, the same states, memory that runs out, trials that share."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import write_pairs
from tests.trainable.runs import make_job
from tests.trainable.test_run import CONFIG, FRESH, numbers, stopped_and_continued, train
from tests.tune.test_end_to_end import command
from trainable.config import TrialConfig
from trainable.train.devices import pick_device, precisions_of
from trainable.train.run import FineTuningRun

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]
NO_DROPOUT = CONFIG.model_copy(update={"dropout": 0.0})


@pytest.mark.parametrize("precision", precisions_of(pick_device(True)))
def test_the_nth_trial_of_a_worker_equals_that_of_a_fresh_process(
    tiny_model: Path, tmp_path: Path, precision: str
) -> None:
    job = make_job(tiny_model, precision=precision, gpus_per_trial=0.25)
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    fresh = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "job"), str(tmp_path / "fresh")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    run = FineTuningRun(job)
    assert run.device.type == "cuda"
    train(run, TrialConfig(learning_rate=1.0, batch_size=3, epochs=2, dropout=0.5, weight_decay=0.3), 1)
    run.reset(TrialConfig(epochs=3), 2)
    run.next_epoch()  # left in the middle, as by early stopping
    warm = train(run, CONFIG, 11)
    run.write_best(tmp_path / "warm")
    assert warm == json.loads(fresh.stdout)
    a, b = load_file(tmp_path / "fresh" / "model.safetensors"), load_file(tmp_path / "warm" / "model.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_gpu_trains_as_a_cpu_does(tiny_model: Path) -> None:
    config = NO_DROPOUT.model_copy(update={"epochs": 1, "learning_rate": 1e-3})  # dropout differs by device
    on_cpu = train(FineTuningRun(make_job(tiny_model)), config, 3)
    on_gpu = train(FineTuningRun(make_job(tiny_model, gpus_per_trial=1)), config, 3)
    for name in ("train_loss", "loss"):
        assert on_gpu[0][name] == pytest.approx(on_cpu[0][name], rel=5e-3)


@pytest.mark.parametrize("after", [1, 3])
def test_stopped_and_continued_equals_never_stopped(tiny_model: Path, tmp_path: Path, after: int) -> None:
    job = make_job(tiny_model, gpus_per_trial=1)
    whole = train(FineTuningRun(job), CONFIG, 5)
    continued = stopped_and_continued(job, after, tmp_path / "state")
    assert [numbers(result) for result in continued.history] == whole


def test_memory_that_runs_out_makes_the_pieces_smaller_and_the_result_no_other(tiny_model: Path) -> None:
    job = make_job(tiny_model, train_rows=512, gpus_per_trial=1)
    config = NO_DROPOUT.model_copy(update={"batch_size": 512, "epochs": 1, "learning_rate": 1e-4})
    run = FineTuningRun(job)
    whole = train(run, config, 7)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    # A little more than the model, its optimizer's state and the data take: not all 512 rows at once.
    allowed = torch.cuda.memory_allocated() + (torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()) // 2
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        in_pieces = train(run, config, 7)
        limit = run.micro_batch_limit.rows
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert limit is not None
    assert limit < 512
    assert in_pieces[0]["train_loss"] == pytest.approx(whole[0]["train_loss"], rel=1e-3)


def test_a_trial_leaves_no_memory_behind(tiny_model: Path) -> None:
    run = FineTuningRun(make_job(tiny_model, gpus_per_trial=1))
    allocated = []
    for seed in range(4):
        train(run, CONFIG, seed)
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[3] <= allocated[1]


@pytest.mark.parametrize("share", ["0.25", "auto"])
def test_trials_share_the_gpu(tiny_model: Path, tmp_path: Path, share: str) -> None:
    data = write_pairs(tmp_path / "pairs", {"train": 96, "validation": 48, "test": 48})
    done = command(
        "tune.search", "--dataset", data, "--model", tiny_model, "--out", "run", "--seed", 3, "--num-trials", 8,
        "--space", "learning_rate=log:1e-4..1e-2", "--space", "epochs=2..4", "--gpus-per-trial", share,
        cwd=tmp_path, limit_s=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {row["state"] for row in report["trials"]} <= {"COMPLETE", "PRUNED"}
    trials = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'run' / 'study.db'}").trials
    spans = [(t.datetime_start, t.datetime_complete) for t in trials if t.datetime_start and t.datetime_complete]
    assert len(spans) == len(trials)
    together = max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
    assert 2 <= together <= (4 if share == "0.25" else 64)
