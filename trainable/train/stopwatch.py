"""Time a few real steps of a trial, from which the seconds of whole epochs follow.

Steps cost what their longest row costs. So an epoch's steps are sorted by cost and cut into equal parts, and each pass
times one step of each part: the mean over a pass stands for all of the epoch, whatever its rows are like.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainable.config import TrialConfig
from trainable.hub.shipping import Files
from trainable.job import Job, with_model_at_hand
from trainable.train.batching import train_order
from trainable.train.loop import Rows, evaluate, train_steps
from trainable.train.run import FineTuningRun

PARTS = 4  # of an epoch's steps; each pass times a step of each
TIMED_S = 2.5  # no further pass is begun after this time
MOST_PASSES = 16
_GOLDEN = 0.6180339887498949  # passes that are this far apart spread evenly over each part


@dataclass(frozen=True)
class Timed:
    """How long something takes in one worker."""

    seconds: float
    """Of the whole: all steps of an epoch, or one evaluation."""
    steps: int
    """How many were computed for it, those that warmed up included."""


class Stopwatch:
    """A worker as trials have it, of which nothing is kept but the time that it takes."""

    def __init__(self, job: Job, fetch: Callable[[Any], Files]) -> None:
        """Load model and data.

        Args:
            job: The sweep's.
            fetch: Gives the model's files for the job's reference to them, as `with_model_at_hand` has it.
        """
        self._run = FineTuningRun(with_model_at_hand(job, fetch))

    def device(self) -> str:
        """What computes: the GPU's name, or "cpu"."""
        is_gpu = self._run.device.type == "cuda"
        return torch.cuda.get_device_name(self._run.device) if is_gpu else "cpu"

    def epoch(self, config: TrialConfig) -> Timed:
        """Time an epoch's training, without its evaluation."""
        run = self._run
        run.reset(config, seed=0)
        order = train_order(run.train.lengths, config.batch_size, 0, 0, run.job.batching)

        def compute(steps: Sequence[Rows]) -> None:
            _, loss_sum = train_steps(
                run.classifier.module,
                run.optimizer,
                steps,
                run.take_training,
                run.micro_batch_limit.halve,
                loss=lambda logits, labels: run.task.loss(logits, labels, config.label_smoothing),
                rates=[config.learning_rate] * len(steps),
                max_grad_norm=config.max_grad_norm,
                precision=run.job.precision,
                scaler=run.scaler,
            )
            loss_sum.item()  # waits for the device

        return _timed(order, run.train.lengths, compute)

    def evaluation(self) -> Timed:
        """Time an evaluation of the validation split."""
        run = self._run

        def compute(pieces: Sequence[Rows]) -> None:
            evaluate(
                run.classifier.module,
                pieces,
                run.take_validation,
                run.micro_batch_limit.halve,
                count=run.task.count,
                precision=run.job.precision,
            )

        return _timed(run.validation_order, run.validation.lengths, compute)


def _timed(order: Sequence[Rows], lengths: Any, compute: Callable[[Sequence[Rows]], None]) -> Timed:
    """The seconds of all of `order`, from a few of its steps."""
    costs = np.array([len(rows) * int(lengths[rows].max()) for rows in order])
    parts = np.array_split(np.argsort(costs, kind="stable"), min(PARTS, len(order)))
    shares = np.array([len(part) for part in parts])
    compute([order[parts[-1][-1]]])  # the most expensive step warms up: it fetches all the memory that any step needs
    began = time.perf_counter()
    means, steps = [], 1
    for number in range(MOST_PASSES):
        at = (0.5 + number * _GOLDEN) % 1.0
        chosen = [order[part[int(at * len(part))]] for part in parts]
        started = time.perf_counter()
        compute(chosen)
        means.append((time.perf_counter() - started) / len(chosen))
        steps += len(chosen)
        if time.perf_counter() - began > TIMED_S:
            break
    # The first pass still meets shapes for the first time; an epoch hardly notices that.
    return Timed(float(np.mean(means[1:] or means)) * int(shares.sum()), steps)
