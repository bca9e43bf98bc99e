"""`--gpus-per-trial auto`: which fraction of a GPU is enough for every trial. Pure; `launch` measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trainable.config import TrialConfig
from trainable.train.memory import tensors_mib
from trainable.train.memory_probe import MemoryUse
from tune.cluster.plan import DEFAULT_GPUS_PER_TRIAL
from tune.prepare.precision import ChosenPrecision
from tune.spec.space import Choice, Fixed, Value, largest
from tune.spec.sweep_spec import SweepSpec

FRACTIONS = (1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0)
MARGIN = 1.1  # times what was measured: in other batches the padding and the allocator's blocks differ


@dataclass(frozen=True)
class GpusPerTrial:
    """The fraction of a GPU that every trial gets."""

    gpus: float | None
    """One of FRACTIONS; 0 where there are no GPUs; None where a whole GPU is not enough."""
    why: str
    """In words, as the user is told."""
    precision: ChosenPrecision | None = None
    """The precision in which it was measured."""


def smallest_fraction(tensors: float, gpu_mib: float) -> float | None:
    """Find the smallest of FRACTIONS that holds a trial's tensors with a margin; None where a whole GPU does not.

    Args:
        tensors: What a trial's tensors take, MiB.
        gpu_mib: Memory of the GPU, MiB.
    """
    return next((fraction for fraction in FRACTIONS if tensors * MARGIN <= tensors_mib(fraction, gpu_mib)), None)


def decide(use: MemoryUse | None, smallest_gpu_mib: float | None, rows: int, max_length: int) -> GpusPerTrial:
    """Choose the fraction for every trial from what the heaviest step of one trial took.

    Args:
        use: What was measured; None where torch can use no GPU.
        smallest_gpu_mib: Memory of the smallest GPU that trials may run on; None where only the one that was
            measured on is known.
        rows: Rows that were computed at once.
        max_length: Tokens of the longest row.
    """
    if use is None:
        return GpusPerTrial(DEFAULT_GPUS_PER_TRIAL, "no GPU that torch can use, so nothing was measured")
    gpu_mib = min(use.gpu_mib, smallest_gpu_mib or math.inf)
    fraction = smallest_fraction(use.tensors_mib, gpu_mib) if use.tensors_mib is not None else None
    takes = "more than that" if use.tensors_mib is None else f"{use.tensors_mib / 1024:.2f} GiB"
    what = f"{rows} rows of at most {max_length} tokens at once take {takes}"
    if fraction is None:
        return GpusPerTrial(
            None,
            f"--gpus-per-trial auto: {what}, but the smallest GPU has {gpu_mib / 1024:.2f} GiB; search a smaller "
            "batch_size, compute fewer rows at once (--space micro_batch_size=8: the same gradient), or pick larger "
            "GPUs (--accelerator NAME)",
        )
    return GpusPerTrial(fraction, f"measured: {what}; the smallest GPU has {gpu_mib / 1024:.2f} GiB")


def most_rows(spec: SweepSpec) -> int:
    """Count the most rows that any configuration of the sweep computes at once."""

    def rows(batch_size: Value, micro: Value) -> float:
        return min(_number(batch_size) or TrialConfig().batch_size, _number(micro) or math.inf)

    batch_size = largest(spec.space, "batch_size", TrialConfig().batch_size)
    match spec.space.get("micro_batch_size"):
        case None | Fixed(None):
            micro: Value = None
        case Choice(values) if None in values:
            micro = None
        case _:
            micro = largest(spec.space, "micro_batch_size", 0)
    points: list[Mapping[str, Value]] = [{}, *(point.named() for point in spec.points)]
    return int(max(rows(p.get("batch_size", batch_size), p.get("micro_batch_size", micro)) for p in points))


def _number(value: Value) -> float:
    return value if isinstance(value, (int, float)) else 0
