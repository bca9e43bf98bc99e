"""Rehearse a trial before any starts: can this model be trained on these texts, and in which precision is it fastest?

The real model computes the data's longest rows forward and backward. What no reading of its configuration could foresee
shows here: weights that are missing, positions that run out, inputs that the model does not take, a loss that is not
finite.
"""

from __future__ import annotations

import gc
import math
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainable.config import Precision
from trainable.data.tokens import TokenizedSplit
from trainable.errors import WeightsMissing
from trainable.hub.shipping import Files
from trainable.job import Job, with_model_at_hand
from trainable.model.classifier import Classifier
from trainable.tasks import TASKS
from trainable.train.batching import Batch, Batches
from trainable.train.devices import autocast, cpu_threads, pick_device, precisions_of
from trainable.train.memory import is_out_of_memory

CPU_ROWS_TOKENS = 256  # a CPU is as fast with more tokens at once, but the rehearsal would take longer
PASSES = 3  # in each precision, in turns, after one that warms up
ENOUGH_S = 2.0  # no further pass is begun after this time


@dataclass(frozen=True)
class Rehearsal:
    """What the rehearsal showed."""

    problem: str | None = None
    """Why no trial could be trained, as a sentence for the user; None if it can."""

    seconds: dict[Precision, float] = field(default_factory=dict)
    """Of the fastest forward and backward pass in each precision that the device has and that gave finite numbers."""

    not_finite: tuple[Precision, ...] = ()
    """The precisions of which the loss or a gradient is not finite, or that the model cannot compute in."""

    tokens: int = 0
    """Tokens of the batch that was computed, padding included."""

    neighbour_effect: float = 0.0
    """How much a row's logits change when a longer row stands beside it, as a fraction of the largest logit."""


def rehearse(
    job: Job, rows: int, fetch: Callable[[Any], Files], precisions: Sequence[Precision] | None = None
) -> Rehearsal:
    """Compute the longest rows forward and backward a few times. Call it where trials run.

    Args:
        job: The sweep's. Only `longest_rows` of its data are used.
        rows: The largest batch of the search space; a CPU takes fewer.
        fetch: Gives the model's files for the job's reference to them, as `with_model_at_hand` has it.
        precisions: What to try, float32 first; None means what may be the fastest on the device.
    """
    job = with_model_at_hand(job, fetch)
    device = pick_device(job.gpus_per_trial > 0)
    if (broken := _device_problem(device)) is not None:
        return Rehearsal(broken)
    with cpu_threads(job.threads), torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        try:
            return _rehearse(job, rows, device, precisions or precisions_of(device))
        except WeightsMissing as error:
            return Rehearsal(str(error))
        except Exception as error:  # the model's code raises many kinds, and each of them ends every trial
            return Rehearsal(_cannot_be_trained(job, error))
        finally:
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _device_problem(device: torch.device) -> str | None:
    """Why this machine's device can't compute at all, whatever the model; None if it can."""
    try:
        torch.zeros(1, device=device).add_(1).item()
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0].strip()
        return f"the GPU of {socket.gethostname()} can't compute ({said}); --gpus-per-trial 0 trains on the CPU"
    return None


def longest_rows(split: TokenizedSplit, rows: int) -> TokenizedSplit:
    """The longest rows of a split and its shortest one, the longest first."""
    order = np.argsort(split.lengths, kind="stable")[::-1]
    return _rows_of(split, np.concatenate([order[:rows], order[-1:]]))


def _rows_of(split: TokenizedSplit, rows: npt.NDArray[np.int64]) -> TokenizedSplit:
    places = [np.arange(split.offsets[row], split.offsets[row + 1]) for row in rows]
    where = np.concatenate(places)
    return TokenizedSplit(
        ids=split.ids[where],
        offsets=np.concatenate([[0], np.cumsum([len(of_row) for of_row in places])]).astype(np.int64),
        token_types=None if split.token_types is None else split.token_types[where],
        labels=split.labels[rows],
    )


def _rehearse(job: Job, rows: int, device: torch.device, precisions: Sequence[Precision]) -> Rehearsal:
    split = longest_rows(job.train, rows)
    classifier = Classifier(job.model_folder, job.label_names, device, (split,), job.pad_id, TASKS[job.task])
    classifier.reset(0, None)
    batches = Batches(split, job.pad_id, device, sliced=classifier.sliced, pads_left=classifier.pads_left)
    if device.type == "cpu":
        rows = max(1, CPU_ROWS_TOKENS // int(split.lengths[0]))
    many = np.arange(min(rows, len(split) - 1))
    loss = TASKS[job.task].loss
    effect = _neighbour_effect(classifier, batches, len(split) - 1)
    while True:
        try:
            batch = batches.take(many)
            seconds, failed = _time_precisions(classifier, batch, precisions, loss)
            _one_pass(
                classifier, batches.take(np.array([len(split) - 1])), "fp32", loss
            )  # a short row may be too short
            break
        except Exception as error:
            if not is_out_of_memory(error) or len(many) == 1:
                raise
        many = many[: len(many) // 2]  # outside the handler: the error's frames hold the memory
    if "fp32" in failed:
        raise ValueError("the loss or a gradient of the first step is not finite; are there such weights in its file?")
    return Rehearsal(None, seconds, failed, batch.labels.shape[0] * int(split.lengths[0]), effect)


def _time_precisions(
    classifier: Classifier, batch: Batch, precisions: Sequence[Precision], loss: Callable[..., torch.Tensor]
) -> tuple[dict[Precision, float], tuple[Precision, ...]]:
    """Seconds of the fastest pass in each precision; and the precisions that give no finite numbers."""
    seconds: dict[Precision, float] = dict.fromkeys(precisions, math.inf)
    failed: list[Precision] = []
    began = time.perf_counter()
    turns = PASSES + 1 if len(precisions) > 1 else 1  # with one precision there is nothing to compare
    for turn in range(turns):
        for precision in precisions:
            if precision in failed:
                continue
            started = time.perf_counter()
            if not _one_pass(classifier, batch, precision, loss):
                failed.append(precision)
            elif turn or turns == 1:  # the first of several passes warms up
                seconds[precision] = min(seconds[precision], time.perf_counter() - started)
        if turn and time.perf_counter() - began > ENOUGH_S:
            break
    return {name: s for name, s in seconds.items() if name not in failed}, tuple(failed)


def _one_pass(classifier: Classifier, batch: Batch, precision: Precision, loss: Callable[..., torch.Tensor]) -> bool:
    """Whether the loss and all gradients of a forward and backward pass are finite."""
    model = classifier.module
    try:
        with autocast(precision, classifier.device):
            logits = model(**batch.inputs).logits
        batch_loss = loss(logits.float(), batch.labels, 0.0)
        batch_loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        if precision == "fp32" or is_out_of_memory(error):
            raise
        return False  # some models have operations that this precision lacks
    sums = [p.grad.sum() for p in model.parameters() if p.grad is not None]
    is_finite = bool(torch.stack([*sums, batch_loss.detach()]).isfinite().all())  # waits for the device
    model.zero_grad(set_to_none=True)
    return is_finite


@torch.inference_mode()
def _neighbour_effect(classifier: Classifier, batches: Batches, shortest: int) -> float:
    """How much the shortest row's logits change when the longest row stands beside it."""
    model = classifier.module.eval()
    alone = model(**batches.take(np.array([shortest])).inputs).logits
    beside = model(**batches.take(np.array([shortest, 0])).inputs).logits[:1]
    model.train()
    return float((beside - alone).abs().max() / alone.abs().max().clamp(min=1e-6))


def _cannot_be_trained(job: Job, error: Exception) -> str:
    if is_out_of_memory(error):
        return f"--model {job.model_folder}: one row of {int(job.train.lengths.max())} tokens does not fit into memory"
    said = (str(error).strip() or type(error).__name__).splitlines()[0].strip()
    what = f"its first step raised {type(error).__name__}: {said}"
    return f"--model {job.model_folder}: it can't be trained on this data; {what}"


def for_rehearsal(job: Job, rows: int) -> Job:
    """The same job with the rows alone that a rehearsal needs, to be sent to a node."""
    return replace(job, train=longest_rows(job.train, rows), validation=longest_rows(job.validation, 1))
