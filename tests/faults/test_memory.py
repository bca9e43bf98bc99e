"""Memory that runs out changes how a step is computed, never what; a trial that fits nowhere fails alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from safetensors.torch import load_file

from tests.trainable.runs import make_job
from tests.trainable.test_trial import make_trial, steps, tune_config
from tests.tune.test_searcher import epoch
from trainable.config import TrialConfig
from trainable.errors import OutOfMemory
from trainable.train.memory import is_out_of_memory
from trainable.train.run import FineTuningRun
from trainable.trial import FineTuningTrial
from tune.cluster.nodes import Node
from tune.cluster.plan import Plan, make_plan
from tune.cluster.ray_patches import tune_mended
from tune.report.building import memory_notes
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.failures import why_it_failed

CONFIG = TrialConfig(learning_rate=1e-3, batch_size=16, epochs=2, dropout=0.0)
ERRORS: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError,
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
]


@contextmanager
def room_for(run: FineTuningRun, rows: int, error: Callable[[], Exception] = MemoryError) -> Iterator[list[int]]:
    """A device with room for so many rows at once; yields the sizes of the batches that were too large for it."""
    module = run.classifier.module
    too_large: list[int] = []

    def check(_: object, inputs: Any, keywords: dict[str, Any]) -> None:
        size = len(keywords["input_ids"])
        if size > rows:
            too_large.append(size)
            raise error()

    handle = module.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield too_large
    finally:
        handle.remove()


def trained(run: FineTuningRun, seed: int = 3) -> list[float]:
    run.reset(CONFIG, seed)
    while not run.done:
        run.next_epoch()
    return [number for result in run.history for number in (result.train_loss, result.scores["loss"])]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_fewer_rows_at_once_give_the_same_losses_and_weights(
    tiny_model: Path, rows: int, error: Callable[[], Exception]
) -> None:
    whole = FineTuningRun(make_job(tiny_model))
    losses = trained(whole)
    run = FineTuningRun(make_job(tiny_model))
    with room_for(run, rows, error) as too_large:
        divided = trained(run)
    assert divided == pytest.approx(losses, abs=1e-5)
    for name, tensor in whole.classifier.weights().items():
        assert torch.allclose(tensor, run.classifier.weights()[name], atol=1e-5), name
    assert max(too_large) == 16, "the first step was to be tried whole"
    assert run.micro_batch_limit.rows is not None
    assert rows / 2 < run.micro_batch_limit.rows <= rows, "halved once too often, or not often enough"
    assert [result.rows_at_once for result in run.history] == [run.micro_batch_limit.rows] * 2
    assert whole.history[-1].rows_at_once is None


def test_memory_that_ran_out_in_one_trial_shows_in_no_later_one(tiny_model: Path) -> None:
    run = FineTuningRun(make_job(tiny_model))
    with room_for(run, 5) as too_large:
        trained(run)
        assert too_large
    assert trained(run, seed=4) == trained(FineTuningRun(make_job(tiny_model)), seed=4)


def test_without_the_ladder_such_a_trial_fails(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the tests above can fail."""
    monkeypatch.setattr("trainable.train.loop.is_out_of_memory", lambda error: False)
    run = FineTuningRun(make_job(tiny_model))
    with room_for(run, 5), pytest.raises(MemoryError):
        trained(run)


def test_one_row_that_does_not_fit_is_told_by_its_own_error(tiny_model: Path) -> None:
    run = FineTuningRun(make_job(tiny_model))
    with room_for(run, 0), pytest.raises(OutOfMemory, match="one row at a time"):
        trained(run)


def test_other_errors_are_not_taken_for_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_the_trial_reports_it_and_its_worker_stays_usable(tiny_model: Path, tmp_path: Path) -> None:
    trial = make_trial(tiny_model, tune_config(tmp_path, 0))
    with room_for(trial.fine_tuning, 0):
        result = trial.step()
    assert (result["kind"], result["done"]) == ("memory", True)
    assert "one row at a time" in result["failure"]
    trial.fine_tuning.micro_batch_limit.rows = None
    trial.reset_config(tune_config(tmp_path, 1))
    losses = [result["loss"] for result in steps(trial)]
    alone = steps(make_trial(tiny_model, tune_config(tmp_path / "new", 1)))
    assert losses == [result["loss"] for result in alone]


def test_memory_that_runs_out_elsewhere_is_told_too(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial(tiny_model, tune_config(tmp_path, 0))

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(FineTuningRun, "_keep_if_best", fail)
    assert trial.step()["kind"] == "memory"


@pytest.mark.parametrize(
    ("nodes", "fields", "shares"),
    [
        ([Node(4)], {}, [{"CPU": 1}, {"CPU": 2}, {"CPU": 4}]),
        ([Node(3), Node(2)], {}, [{"CPU": 1}, {"CPU": 2}]),
        ([Node(8, 1)], {}, [{"CPU": 1, "GPU": 0.25}, {"CPU": 1, "GPU": 0.5}, {"CPU": 1, "GPU": 1.0}]),
        ([Node(8, 2)], {"gpus_per_trial": 1}, [{"CPU": 1, "GPU": 1}]),
        ([Node(2)], {"cpus_per_trial": 2}, [{"CPU": 2}]),
    ],
)
def test_shares_double_up_to_a_whole_machine_or_gpu(
    nodes: list[Node], fields: dict[str, Any], shares: list[dict[str, float]]
) -> None:
    plan: Plan = make_plan(SweepSpec(name="s", model="m", dataset="d", **fields), nodes, [])
    assert [plan.resources(2**i) for i in range(plan.largest_multiplier.bit_length())] == shares


def test_a_larger_share_of_a_gpu_is_a_larger_share_of_its_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    monkeypatch.setattr("trainable.train.run.limit_gpu_memory", lambda device, share: limits.append(share))
    for share in (1, 2, 8):
        trial = FineTuningTrial.__new__(FineTuningTrial)
        assignment = replace(tune_config(tmp_path)["assignment"], memory_multiplier=share)
        trial.setup({"assignment": assignment}, job=make_job(tiny_model, gpus_per_trial=0.25))
    assert limits == [0.25, 0.5, 1.0]


def test_the_report_tells_of_it() -> None:
    epochs = tuple(replace(epoch(n, 0.5), rows_at_once=rows) for n, rows in ((1, None), (2, 8), (3, 4)))
    records = [
        TrialRecord(number, "COMPLETE", TrialConfig(), 1, ran, None, None)
        for number, ran in enumerate((epochs[:1], epochs))
    ]
    assert memory_notes(records) == [
        "memory ran out: trial 1 was computed 4 rows at a time, with its own batch size all the same"
    ]


def test_a_kill_by_rays_memory_monitor_is_a_death_that_asks_for_more_memory() -> None:
    """Tune would end the whole sweep; the control is Tune's own method."""
    seen: list[Exception] = []
    task: Any = SimpleNamespace(
        _tracked_actor=SimpleNamespace(actor_id=1, _on_error=None), _on_error=lambda actor, error: seen.append(error)
    )
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda **_: None)
    killed = OutOfMemoryError("Task was killed due to the node running low on memory.")
    with pytest.raises(RuntimeError, match="unexpected exception"):
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=killed)
    with tune_mended({}):
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=killed)
    (error,) = seen
    assert isinstance(error, RayActorError)
    assert why_it_failed(error, "")[0] == "memory", "its class decides, whatever the text"


def test_the_written_model_is_the_same_too(tiny_model: Path, tmp_path: Path) -> None:
    for name, rows in (("whole", 100), ("divided", 3)):
        run = FineTuningRun(make_job(tiny_model))
        with room_for(run, rows):
            trained(run)
        run.write_best(tmp_path / name)
    whole, divided = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "divided"))
    assert all(torch.allclose(whole[name], divided[name], atol=1e-5) for name in whole)
