"""`--gpus-per-trial auto`: the smallest share of a GPU that is enough for every trial, by measuring the heaviest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ray

from trainable.config import TrialConfig
from trainable.job import Job
from trainable.train.memory import tensors_mib
from trainable.train.memory_probe import MemoryUse, measure_memory
from tune.cluster.plan import DEFAULT_GPUS_PER_TRIAL, Plan
from tune.spec.space import Choice, Fixed, Value, largest
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.run_trials import where_trials_run

SHARES = (1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0)
MARGIN = 1.1  # times what was measured: other rows are padded otherwise, and the allocator cuts its blocks otherwise


@dataclass(frozen=True)
class Share:
    """What came of measuring: a trial's share of a GPU, None where a whole one is not enough; and why, in words."""

    gpus: float | None
    why: str


def smallest_share(tensors: float, gpu_mib: float) -> float | None:
    """The smallest of SHARES that holds a trial's tensors with a margin; None where not even a whole GPU does.

    tensors: MiB, as measured
    """
    return next((share for share in SHARES if tensors * MARGIN <= tensors_mib(share, gpu_mib)), None)


def decide(use: MemoryUse | None, smallest_gpu_mib: float | None, rows: int, max_length: int) -> Share:
    """The share for every trial, from what one took.

    smallest_gpu_mib: of all GPUs that trials may run on; None where only the one that was measured on is known
    """
    if use is None:
        return Share(DEFAULT_GPUS_PER_TRIAL, "no GPU that torch can use, so nothing was measured")
    gpu_mib = min(use.gpu_mib, smallest_gpu_mib or math.inf)
    share = smallest_share(use.tensors_mib, gpu_mib) if use.tensors_mib is not None else None
    takes = "more than that" if use.tensors_mib is None else f"{use.tensors_mib / 1024:.2f} GiB"
    what = f"{rows} rows of at most {max_length} tokens at once take {takes}"
    if share is None:
        return Share(
            None,
            f"--gpus-per-trial auto: {what}, but the smallest GPU has {gpu_mib / 1024:.2f} GiB; search a smaller "
            "batch_size, compute fewer rows at once (--space micro_batch_size=8: the same gradient), or pick larger "
            "GPUs (--accelerator NAME)",
        )
    return Share(share, f"measured: {what}; the smallest GPU has {gpu_mib / 1024:.2f} GiB")


def most_rows(spec: SweepSpec) -> int:
    """The most rows that any configuration of the sweep computes at once."""

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


def measure_share(
    spec: SweepSpec, plan: Plan, job: Job, smallest_gpu_mib: float | None, max_length: int, say: Callable[[str], None]
) -> Share:
    """Run the heaviest trial's heaviest step on a whole GPU, which the plan gives, and decide."""
    rows = min(most_rows(spec), len(job.train))
    use = where_trials_run(plan, measure_memory, job, rows, ray.get, say=say)
    return decide(use, smallest_gpu_mib, rows, max_length)


def _number(value: Value) -> float:
    return value if isinstance(value, (int, float)) else 0
