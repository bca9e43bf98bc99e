"""Which device a process computes on, with how many threads, and which precision is the fastest there."""

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
    """The GPU that Ray gave this process, if it may use one and torch can; else the CPU."""
    return torch.device("cuda", 0) if use_gpu and torch.cuda.is_available() else torch.device("cpu")


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrix products are bfloat16 if the precision is bf16, else one that changes nothing."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """Compute with this many CPU threads inside the context, and with as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class EncoderShape:
    """The sizes of an encoder's layers, on which the speed of each precision depends."""

    hidden: int = 768
    """Width of the hidden states."""

    feed_forward: int = 3072
    """Width of the feed-forward part."""

    heads: int = 12
    """Attention heads."""


def measure_precision(shape: EncoderShape, threads: int, use_gpu: bool, repeats: int = 3) -> dict[str, float]:
    """Measure a forward and backward pass of one encoder layer over 8 rows of 64 tokens, in each precision.

    A layer of torch stands for the model's own, so that neither the model nor transformers is loaded: the measurement
    takes a fraction of a second.

    Args:
        shape: The sizes of the model's layers.
        threads: CPU threads to compute with.
        use_gpu: Whether to compute on a GPU where there is one.
        repeats: Passes in each precision, in turns, after one that warms up.

    Returns:
        By precision the seconds of the fastest pass; bf16 is left out where a GPU only emulates it.
    """
    device = pick_device(use_gpu)
    native = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if native else ("fp32",)
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
