"""The model is rehearsed before a sweep: what would end every trial is found, and the precision is measured."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conformance.families import make_model
from tests.trainable.runs import make_job
from trainable.config import Precision, TrialConfig
from trainable.errors import UserError
from trainable.job import Job
from trainable.train import devices, rehearsal
from trainable.train.devices import cpu_threads, precisions_of
from trainable.train.rehearsal import Rehearsal, for_rehearsal, longest_rows, rehearse
from trainable.train.run import FineTuningRun
from tune.prepare.precision import choose_precision

BOTH: tuple[Precision, ...] = ("fp32", "bf16")


def rehearsed(job: Job, precisions: tuple[Precision, ...] | None = BOTH) -> Rehearsal:
    return rehearse(for_rehearsal(job, 8), 8, lambda _: {}, precisions)


def with_weights(model: Path, change: Any) -> None:
    weights = load_file(model / "model.safetensors")
    save_file(change(weights), model / "model.safetensors", {"format": "pt"})


def test_every_precision_is_measured_and_nothing_is_left_behind(tiny_model: Path) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    seen = rehearsed(make_job(tiny_model))
    assert seen.problem is None
    assert set(seen.seconds) == set(BOTH)
    assert all(0 < seconds < 10 for seconds in seen.seconds.values())
    assert seen.neighbour_effect < 1e-4
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("bf16_s", "tried"), [(0.5, ("fp32", "bf16")), (2.0, ("fp32",))])
def test_a_cpu_without_units_for_bfloat16_does_not_try_it(
    bf16_s: float, tried: tuple[Precision, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_product_s", lambda dtype: {torch.float32: 1.0, torch.bfloat16: bf16_s}[dtype])
    assert precisions_of(torch.device("cpu")) == tried


def test_one_precision_alone_is_tried_once_and_not_called_measured(tiny_model: Path) -> None:
    seen = rehearsed(make_job(tiny_model), ("fp32",))
    assert 0 < seen.seconds["fp32"] < 10
    assert choose_precision(None, seen)[:2] == ("fp32", "nothing else is faster on this machine")


def test_the_longest_rows_come_first_and_the_shortest_last(tiny_model: Path) -> None:
    split = make_job(tiny_model).train
    few = longest_rows(split, 5)
    assert len(few) == 6
    assert list(few.lengths) == [*sorted(split.lengths)[: -1 - 5 : -1], min(split.lengths)]
    longest = int(np.argsort(split.lengths, kind="stable")[-1])
    assert list(few.ids[: few.lengths[0]]) == list(split.ids[split.offsets[longest] : split.offsets[longest + 1]])


def test_weights_that_are_missing_are_told(tmp_path: Path, tiny_model: Path) -> None:
    model = make_model("bert", tiny_model, tmp_path / "model")
    with_weights(model, lambda weights: {f"other.{name}": tensor for name, tensor in weights.items()})
    assert "its file of weights lacks bert." in str(rehearsed(make_job(model)).problem)


def test_weights_that_are_not_finite_are_told(tmp_path: Path, tiny_model: Path) -> None:
    model = make_model("bert", tiny_model, tmp_path / "model")
    with_weights(model, lambda weights: {name: tensor * float("nan") for name, tensor in weights.items()})
    assert "not finite" in str(rehearsed(make_job(model)).problem)


def test_a_limit_that_shows_only_in_training_is_told(tmp_path: Path, tiny_model: Path) -> None:
    model = make_model("bert", tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    with_weights(
        model,
        lambda weights: {n: t[:16].clone() if "position_embeddings" in n else t for n, t in weights.items()},
    )
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 16}))
    job = make_job(model)
    assert job.train.lengths.max() > 16
    said = str(rehearsed(job).problem)
    assert said.startswith(f"--model {model}: it can't be trained on this data; its first step raised ")


def test_a_model_that_does_not_work_in_bfloat16_gets_float32(tmp_path: Path, tiny_model: Path) -> None:
    seen = rehearsed(make_job(make_model("deberta", tiny_model, tmp_path / "model")))
    assert seen.not_finite == ("bf16",)
    assert choose_precision(None, seen).name == "fp32"
    with pytest.raises(UserError, match="--precision bf16"):
        choose_precision("bf16", seen)


def test_a_model_that_looks_at_the_neighbours_is_noticed(tmp_path: Path, tiny_model: Path) -> None:
    assert rehearsed(make_job(make_model("fnet", tiny_model, tmp_path / "model"))).neighbour_effect > 1e-3


@pytest.mark.parametrize(
    ("asked_for", "seconds", "chosen"),
    [
        (None, {"fp32": 2.0, "bf16": 1.0}, "bf16"),
        (None, {"fp32": 1.0, "bf16": 2.0}, "fp32"),
        (None, {"fp32": 1.0, "bf16": 0.96}, "fp32"),  # not worth it
        (None, {"fp32": 1.0, "fp16": 0.5}, "fp16"),
        (None, {"fp32": 1.0}, "fp32"),
        ("bf16", {"fp32": 1.0, "bf16": 2.0}, "bf16"),
    ],
)
def test_the_fastest_precision_is_taken(
    asked_for: Precision | None, seconds: dict[Precision, float], chosen: str
) -> None:
    assert choose_precision(asked_for, Rehearsal(seconds=seconds)).name == chosen


def test_threads_are_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(KeyError), cpu_threads(before + 3):
        assert torch.get_num_threads() == before + 3
        raise KeyError
    assert torch.get_num_threads() == before


def test_float16_with_scaled_losses_trains_and_continues_bit_equal(tmp_path: Path, tiny_model: Path) -> None:
    job = replace(make_job(tiny_model), precision="fp16")
    config = TrialConfig(batch_size=8, epochs=2, learning_rate=1e-3)
    run, other = FineTuningRun(job), FineTuningRun(job)
    run.reset(config, seed=1)
    first = run.next_epoch()
    scale = run.scaler.get_scale()
    assert scale > 1
    run.save_state(tmp_path / "state")
    second = run.next_epoch()
    other.reset(config, seed=1)
    assert other.load_state(tmp_path / "state")
    assert other.scaler.get_scale() == scale
    assert other.next_epoch().scores == second.scores
    theirs = other.classifier.weights()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in run.classifier.weights().items())
    plain = FineTuningRun(make_job(tiny_model))
    plain.reset(config, seed=1)
    assert first.train_loss == pytest.approx(plain.next_epoch().train_loss, rel=0.01)


def test_a_machine_whose_gpu_is_broken_is_not_told_as_the_models_fault(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "pick_device", lambda use_gpu: torch.device("cuda", 99))  # no machine has it
    problem = rehearsed(make_job(tiny_model)).problem
    assert problem is not None
    assert problem.startswith(f"the GPU of {socket.gethostname()} can't compute (")
    assert "--model" not in problem
