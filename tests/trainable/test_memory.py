"""A process stays within its share, and tells what it took."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import pytest
import torch

from trainable.train.memory import keep_freed_memory, limit_gpu_memory, peak_memory_mib


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0.45), (0.25, 0.2), (0.06, 0.03), (1.0, None), (2.0, None)])
def test_a_fraction_of_a_gpu_is_a_fraction_of_its_memory(
    share: float, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    gpu = SimpleNamespace(total_memory=12_000 * 2**20)  # a context takes 5 % of it
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction, device: limits.append(fraction))
    limit_gpu_memory(torch.device("cuda", 0), share)
    limit_gpu_memory(torch.device("cpu"), share)
    assert limits == ([] if expected is None else [pytest.approx(expected)])


def test_the_peak_is_that_of_the_process() -> None:
    block = torch.ones(512 * 2**18)  # 512 MiB, written
    del block
    assert 512 < peak_memory_mib(torch.device("cpu")) < 100_000


def test_memory_that_was_freed_is_not_mapped_anew() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            assert float(torch.ones(20 * 2**18).sum()) == 20 * 2**18  # 20 MiB, 5,120 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    faults()
    assert faults() < 5_000
