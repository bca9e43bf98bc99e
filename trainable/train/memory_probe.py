"""Measure how much of a GPU's memory a trial takes at most, by doing once what takes the most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from trainable.config import TrialConfig
from trainable.errors import OutOfMemory
from trainable.hub.shipping import Files
from trainable.job import Job, with_model_at_hand
from trainable.train.devices import pick_device
from trainable.train.loop import evaluate, train_steps
from trainable.train.memory import is_out_of_memory
from trainable.train.run import FineTuningRun


@dataclass(frozen=True)
class MemoryUse:
    """What was measured."""

    tensors_mib: float | None
    """The most memory that torch reserved for tensors, MiB; None where the whole GPU is too small."""

    gpu_mib: float
    """All memory of the GPU, MiB."""

    gpu: str
    """The GPU's name."""


def measure_memory(job: Job, rows: int, fetch: Callable[[Any], Files]) -> MemoryUse | None:
    """Measure a trial that computes so many rows at once. Call it in a process that has a whole GPU.

    Args:
        job: The job of the sweep.
        rows: How many rows are computed at once.
        fetch: Gives the model's files for the job's reference to them, as `with_model_at_hand` has it.

    Returns:
        What was measured, or None where torch has no GPU here.
    """
    if pick_device(True).type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(0)
    used = None
    try:
        run = FineTuningRun(replace(with_model_at_hand(job, fetch), gpus_per_trial=1.0))
        take_most_memory(run, rows)
        used = torch.cuda.max_memory_reserved() / 2**20
    except Exception as error:
        if not isinstance(error, OutOfMemory) and not is_out_of_memory(error):
            raise
    return MemoryUse(used, properties.total_memory / 2**20, properties.name)


def take_most_memory(run: FineTuningRun, rows: int) -> None:
    """Do once what needs the most memory: two steps on the longest rows, then the largest batch of validation.

    Args:
        run: What it trains here is lost.
        rows: How many rows are computed at once.

    Raises:
        OutOfMemory: They do not fit.
    """
    longest = np.argsort(run.train.lengths, kind="stable")[::-1][:rows].astype(np.int64)
    config = TrialConfig(batch_size=len(longest))
    run.reset(config, seed=0)
    run.best_weights.copy(run.classifier.weights())  # which every epoch after the first has beside it

    def give_up(tried_rows: int) -> None:
        raise OutOfMemory(f"out of memory with {tried_rows} rows at a time")

    train_steps(
        run.classifier.module,
        run.optimizer,
        [longest, longest],  # the first step makes the optimizer's moments, so only the second one has everything
        lambda rows: [run.train.take(rows, None)],
        give_up,
        loss=lambda logits, labels: run.task.loss(logits, labels, config.label_smoothing),
        rates=[config.learning_rate] * 2,
        max_grad_norm=config.max_grad_norm,
        precision=run.job.precision,
    )
    lengths = run.validation.lengths
    evaluate(
        run.classifier.module,
        [max(run.validation_order, key=lambda rows: len(rows) * int(lengths[rows].max()))],
        lambda rows: [run.validation.take(rows, None)],
        give_up,
        count=run.task.count,
        precision=run.job.precision,
    )
