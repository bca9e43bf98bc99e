"""A measured share holds a trial with a margin, and is the same for all."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainable.runs import make_job
from trainable.train import memory_probe as probe
from trainable.train.memory import CUDA_CONTEXT_MIB, tensors_mib
from trainable.train.memory_probe import MemoryUse, measure_memory
from trainable.train.run import FineTuningRun
from tune.cluster.nodes import Node
from tune.cluster.plan import make_plan
from tune.prepare.gpus_per_trial import FRACTIONS, MARGIN, decide, most_rows, smallest_fraction
from tune.spec.space import Choice, Fixed, Int
from tune.spec.sweep_spec import SweepSpec

H100_MIB = 81_559.0


def spec(**fields: Any) -> SweepSpec:
    return SweepSpec(name="s", model="m", dataset="d", num_trials=100, **fields)


def test_a_share_holds_the_trial_with_a_margin_and_the_next_smaller_one_does_not() -> None:
    assert [f"{share:.3f}" for share in FRACTIONS] == ["0.125", "0.250", "0.333", "0.500", "1.000"]
    draw = random.Random(0)
    for _ in range(2000):
        tensors, gpu = draw.uniform(10, 100_000), draw.uniform(2_000, 200_000)
        share = smallest_fraction(tensors, gpu)
        fits = [s for s in FRACTIONS if tensors * MARGIN <= tensors_mib(s, gpu)]
        assert share == (fits[0] if fits else None)
        if share is not None and share > 0.125:
            assert tensors * MARGIN > tensors_mib(FRACTIONS[FRACTIONS.index(share) - 1], gpu)
        # As many as share a GPU fit on it, each with its context.
        if share is not None:
            together = round(1 / share) * (tensors * MARGIN + min(CUDA_CONTEXT_MIB, share * gpu / 2))
            assert together <= gpu * 1.000001


def test_more_memory_never_means_a_larger_share_and_a_larger_trial_never_a_smaller_one() -> None:
    def size(tensors: float, gpu: float) -> float:
        return smallest_fraction(tensors, gpu) or 2.0

    for tensors in np.linspace(100, 90_000, 60):
        sizes = [size(tensors, gpu) for gpu in np.linspace(2_000, 200_000, 300)]
        assert sizes == sorted(sizes, reverse=True)
    for gpu in (8_000, 24_000, H100_MIB):
        sizes = [size(tensors, gpu) for tensors in np.linspace(1, 100_000, 300)]
        assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("tensors", "gpu", "share"),
    [
        (1, H100_MIB, 1 / 8),
        (8_000, H100_MIB, 1 / 8),
        (9_000, H100_MIB, 1 / 4),
        (70_000, H100_MIB, 1.0),
        (15_000, 16_000, None),
    ],
)
def test_some_shares(tensors: float, gpu: float, share: float | None) -> None:
    assert smallest_fraction(tensors, gpu) == share


def test_the_smallest_gpu_decides() -> None:
    use = MemoryUse(8_000.0, H100_MIB, "NVIDIA H100")
    assert decide(use, None, 32, 128).gpus == 1 / 8
    assert decide(use, 24_576, 32, 128).gpus == 1 / 2
    # The one that was measured on may be the smallest itself.
    assert decide(use, 200_000, 32, 128).gpus == 1 / 8


@pytest.mark.parametrize(("tensors", "takes"), [(None, "more than that"), (15_000.0, "14.65 GiB")])
def test_a_trial_that_no_gpu_holds_is_told_with_what_to_do(tensors: float | None, takes: str) -> None:
    share = decide(MemoryUse(tensors, 16_384.0, "NVIDIA T4"), None, 64, 512)
    assert share.gpus is None
    assert share.why == (
        f"--gpus-per-trial auto: 64 rows of at most 512 tokens at once take {takes}, but the smallest GPU has "
        "16.00 GiB; search a smaller batch_size, compute fewer rows at once (--space micro_batch_size=8: the same "
        "gradient), or pick larger GPUs (--accelerator NAME)"
    )


@pytest.mark.parametrize(
    ("space", "points", "rows"),
    [
        ({}, (), 16),
        ({"batch_size": Choice((8, 64, 16))}, (), 64),
        ({"batch_size": Int(4, 40)}, ({"batch_size": 100},), 100),
        ({"batch_size": Choice((64,)), "micro_batch_size": Fixed(8)}, (), 8),
        ({"batch_size": Choice((4,)), "micro_batch_size": Fixed(8)}, (), 4),
        ({"batch_size": Choice((64,)), "micro_batch_size": Choice((8, None))}, (), 64),
        ({"batch_size": Choice((64,)), "micro_batch_size": Choice((8, 32))}, (), 32),
        ({"batch_size": Choice((64,)), "micro_batch_size": Fixed(8)}, ({"micro_batch_size": None},), 64),
        ({"batch_size": Choice((64,)), "micro_batch_size": Fixed(8)}, ({"batch_size": 4, "micro_batch_size": 16},), 8),
        ({"batch_size": Choice((64,)), "micro_batch_size": Fixed(None)}, (), 64),
    ],
)
def test_the_most_rows_of_any_configuration(space: Any, points: Any, rows: int) -> None:
    assert most_rows(spec(space=space, points=points)) == rows


def test_every_trial_gets_the_share_and_never_more_than_the_cores_allow() -> None:
    nodes = [Node(16, 1), Node(3, 2), Node(8)]
    for share, slots in [(1 / 8, 8 + 3), (1 / 4, 4 + 3), (1 / 3, 3 + 3), (1 / 2, 2 + 3), (1.0, 1 + 2)]:
        plan = make_plan(spec(gpus_per_trial="auto"), nodes, problems := [], measured_gpus=share)
        assert (plan.slots, plan.gpus_per_trial, plan.threads, problems) == (slots, share, 1, [])
        assert plan.resources(plan.largest_multiplier)["GPU"] <= 1.0


def test_until_it_is_measured_a_trial_gets_a_whole_gpu_and_without_one_the_cpu() -> None:
    assert make_plan(spec(gpus_per_trial="auto"), [Node(16, 2)], []).gpus_per_trial == 1.0
    plan = make_plan(spec(gpus_per_trial="auto"), [Node(16)], problems := [])
    assert (plan.gpus_per_trial, plan.slots, problems) == (0.0, 16, [])


def test_without_a_gpu_nothing_is_measured(tiny_model: Any) -> None:
    assert measure_memory(make_job(tiny_model), 8, lambda _: {}) is None
    assert decide(None, None, 8, 64).gpus == 0.25


@pytest.mark.parametrize("fits", [True, False])
def test_the_heaviest_rows_are_measured(tiny_model: Any, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # A made-up GPU: the CPU computes, and its memory is as many MiB as the largest batch has tokens.
    taken: list[int] = []
    original = probe.take_most_memory

    def noted(run: FineTuningRun, rows: int) -> None:
        take = run.train.take

        def noted_take(numbers: Any, padded_as: Any = None) -> Any:
            batch = take(numbers, padded_as)
            taken.append(batch.inputs["input_ids"].numel())
            if not fits:
                raise torch.OutOfMemoryError("made up")
            return batch

        monkeypatch.setattr(run.train, "take", noted_take)
        original(run, rows)

    monkeypatch.setattr(probe, "take_most_memory", noted)
    monkeypatch.setattr(probe, "pick_device", lambda use_gpu: torch.device("cuda", 0))
    gpu = type("Gpu", (), {"total_memory": 1000 * 2**20, "name": "made up"})()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: max(taken) * 2**20)
    job = make_job(tiny_model)
    use = measure_memory(job, 8, lambda _: {})
    assert use == MemoryUse(8.0 * max(job.train.lengths) if fits else None, 1000.0, "made up")


def test_accelerators_pick_nodes() -> None:
    nodes = [Node(8, 2, accelerators=("A100",)), Node(8, 1, accelerators=("H100",)), Node(64)]
    plan = make_plan(spec(accelerator="H100"), nodes, problems := [])
    assert (plan.slots, problems) == (4, [])
    assert plan.resources(1) == {"CPU": 1.0, "GPU": 0.25, "accelerator_type:H100": 0.001}
    assert plan.resources(2) == {"CPU": 1.0, "GPU": 0.5, "accelerator_type:H100": 0.001}
    make_plan(spec(accelerator="h100"), nodes, problems)
    assert problems == ["--accelerator h100: no node has it; the cluster has A100 (1 node), H100 (1 node)"]
    make_plan(spec(accelerator="H100"), [Node(4, here=True)], problems := [])
    assert problems == ["--accelerator H100: no node has it; no node names its GPUs"]
