"""Which device a process computes on, with how many threads, and in which precision."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from trainable.config import Precision


def pick_device(use_gpu: bool) -> torch.device:
    """The GPU that Ray gave this process, if it may use one and torch can; else the CPU."""
    return torch.device("cuda", 0) if use_gpu and torch.cuda.is_available() else torch.device("cpu")


def device_name(device: torch.device) -> str:
    """The kind of GPU, or a CPU with the instructions that torch uses of it: what decides how sums are rounded."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.backends.cpu.get_cpu_capability()})"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrix products are computed in half the bits; for float32, one that changes nothing."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


def make_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """What scales the losses of a trial; it changes nothing but for float16, whose smallest number is 6e-8."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def precisions_of(device: torch.device) -> tuple[Precision, ...]:
    """The precisions that may be the fastest on a device, float32 first.

    GPUs before Ampere only emulate bfloat16, but have float16. CPUs without units for bfloat16 take ten times as long.
    """
    if device.type == "cpu":
        return ("fp32", "bf16") if _product_s(torch.bfloat16) < _product_s(torch.float32) else ("fp32",)
    return ("fp32", "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")


def _product_s(dtype: torch.dtype) -> float:
    """Seconds of a matrix product as a layer of BERT-base computes it for 64 tokens, on the CPU; the fastest of 3."""
    rows, weights = torch.ones(64, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        torch.matmul(rows, weights)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@contextlib.contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """Compute with this many CPU threads inside the context, and with as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
