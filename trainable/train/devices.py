"""Which device a process computes on, with how many threads, and in which precision that is fastest."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from trainable.config import Precision


def pick_device(use_gpu: bool) -> torch.device:
    """The GPU that Ray gave this process, where it is to use one and torch can."""
    return torch.device("cuda", 0) if use_gpu and torch.cuda.is_available() else torch.device("cpu")


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 matrix products where the precision is bf16, else nothing."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """Compute with so many CPU threads, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class EncoderShape:
    """Widths of an encoder's layers: of its hidden states, of its feed-forward part, and how many attention heads."""

    hidden: int = 768
    feed_forward: int = 3072
    heads: int = 12


def measure_precision(shape: EncoderShape, threads: int, use_gpu: bool, repeats: int = 3) -> dict[str, float]:
    """Seconds of a forward and backward pass of one encoder layer over 8 rows of 64 tokens, in each precision.

    The least of `repeats` each, in turns, after one that warms up. It needs neither the model nor its library: a
    process that has torch answers in a fraction of a second.
    """
    device = pick_device(use_gpu)
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    seconds: dict[str, float] = dict.fromkeys(precisions, math.inf)
    with cpu_threads(threads), torch.random.fork_rng(devices=[]):
        layer = nn.TransformerEncoderLayer(
            shape.hidden, shape.heads, shape.feed_forward, dropout=0.0, activation="gelu", batch_first=True
        ).to(device)
        rows = torch.randn(8, 64, shape.hidden, device=device)
        for repeat in range(repeats + 1):
            for precision in precisions:
                _synchronize(device)
                started = time.perf_counter()
                with autocast(precision, device):
                    total = layer(rows).float().sum()
                total.backward()
                layer.zero_grad(set_to_none=True)
                _synchronize(device)
                if repeat:
                    seconds[precision] = min(seconds[precision], time.perf_counter() - started)
    return seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
