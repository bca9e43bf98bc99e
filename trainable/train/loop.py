"""Train some steps, evaluate one split: tensors in, numbers out, with one wait for the device in each evaluation.

Nothing here prints, writes files, or knows of Ray, configurations or task types. Where memory runs out, the loop
computes the rows at hand again in smaller pieces: `take` cuts rows into batches, and `halve` makes it cut finer or
gives up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainable.config import Precision
from trainable.train.batching import Batch
from trainable.train.devices import autocast
from trainable.train.memory import is_out_of_memory

Rows = npt.NDArray[np.int64]  # row numbers of a split
Take = Callable[[Rows], list[Batch]]
Halve = Callable[[int], None]  # is told how many rows at once were too many
Computed = TypeVar("Computed")
OfBatch = Callable[[Tensor, Tensor], Tensor]  # from the float32 logits and the labels of a batch


def train_steps(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    order: Sequence[Rows],
    take: Take,
    halve: Halve,
    *,
    loss: OfBatch,
    rates: Sequence[float],
    max_grad_norm: float | None,
    precision: Precision,
    scaler: torch.amp.GradScaler | None = None,
    loss_sum: Tensor | None = None,
    beat: Callable[[], None] = lambda: None,
    go_on: Callable[[Tensor], bool] = lambda loss_sum: True,
) -> tuple[int, Tensor]:
    """Take optimizer steps, an epoch's or a piece of them.

    The gradient of a step is that of the mean loss over the step's rows, however `take` divides them.

    Args:
        model: Its parameters are changed in place.
        optimizer: Over the model's parameters.
        order: The rows of each optimizer step.
        take: Cuts the rows of a step into batches.
        halve: Is called where memory ran out; raises where nothing smaller can be tried.
        loss: The loss of a batch, summed over its rows (nats).
        rates: The learning rate of each step.
        max_grad_norm: The global norm that gradients are clipped to; None turns clipping off.
        precision: Of the forward pass.
        scaler: Scales losses, so that float16 holds their small gradients; leaves out steps in which one is not finite.
        loss_sum: What the epoch's steps before these gave.
        beat: Is called after each micro-batch.
        go_on: Is called after each step with the loss so far; False leaves out the steps that follow.

    Returns:
        How many steps were taken, and the training loss summed over the epoch's rows so far (nats), on the device. It
        is not finite if the loss of any row was not.
    """
    model.train()
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def gradient(batches: list[Batch]) -> Tensor:
        """Add up the gradient of one step over its micro-batches; returns their loss, summed over the rows."""
        total: Tensor | None = None
        rows = sum(map(len, batches))
        for batch in batches:
            batch_loss = loss(_logits(model, batch, precision), batch.labels)
            scaler.scale(batch_loss / rows).backward()  # type: ignore[no-untyped-call]
            total = batch_loss.detach() if total is None else total + batch_loss.detach()
            beat()
        if total is None:
            raise ValueError("a step needs at least one row")
        return total

    taken = 0
    for rows, rate in zip(order, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        step_loss = _as_memory_allows(gradient, rows, take, halve, lambda: optimizer.zero_grad(set_to_none=True))
        loss_sum = step_loss if loss_sum is None else loss_sum + step_loss
        if max_grad_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        taken += 1
        if not go_on(loss_sum):
            break
    if loss_sum is None:
        raise ValueError("an epoch needs at least one batch")
    return taken, loss_sum


class Evaluation(NamedTuple):
    """What an evaluation found."""

    counted: list[float]
    """The sum of what was counted in each batch."""
    kept: Tensor | None
    """What was kept of each row, in the order of the split, on the device; None where nothing was to be kept."""


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    order: Sequence[Rows],
    take: Take,
    halve: Halve,
    *,
    count: OfBatch,
    precision: Precision,
    keep: OfBatch | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Count over a whole split; the counts stay on the device until the end.

    Args:
        model: Its weights stay as they are.
        order: The rows that are computed together.
        take: Cuts these rows into batches.
        halve: Is called where memory ran out; raises where nothing smaller can be tried.
        count: What is counted in a batch: a vector, of which the sum over all batches is wanted.
        precision: Of the forward pass.
        keep: What is kept of a batch: a tensor whose first dimension is the batch's rows.
        beat: Is called after each batch.
    """
    model.eval()
    kept: list[Tensor] = []

    def of_batch(batch: Batch) -> tuple[Tensor, list[Tensor]]:
        logits = _logits(model, batch, precision)
        found = count(logits, batch.labels), [] if keep is None else [keep(logits, batch.labels)]
        beat()
        return found

    def of_rows(batches: list[Batch]) -> tuple[Tensor, list[Tensor]]:
        counts, of_batches = zip(*map(of_batch, batches), strict=True)
        return torch.stack(counts).sum(dim=0), [*itertools.chain(*of_batches)]

    total: Tensor | None = None
    for rows in order:
        here, of_these = _as_memory_allows(of_rows, rows, take, halve)
        total = here if total is None else total + here
        kept += of_these
    if total is None:
        raise ValueError("an evaluation needs at least one batch")
    counted: list[float] = total.tolist()  # the evaluation's only wait for the device
    if not kept:
        return Evaluation(counted, None)
    place = torch.from_numpy(np.argsort(np.concatenate(order))).to(kept[0].device)
    return Evaluation(counted, torch.cat(kept)[place])


class LossCheck:
    """Notices within 50 steps that a loss is not finite. The host never waits for a device that is at work.

    A GPU's loss is copied every 25 steps and looked at 25 steps later, when the copy has long arrived.
    """

    EVERY_STEPS = 25

    def __init__(self) -> None:
        self._steps = 0
        self._copied: tuple[Tensor, torch.cuda.Event] | None = None

    def is_finite(self, loss_sum: Tensor) -> bool:
        """Whether no loss was seen that is not finite; to be asked after each step."""
        self._steps += 1
        if self._steps % self.EVERY_STEPS:
            return True
        if not loss_sum.is_cuda:
            return math.isfinite(loss_sum.item())
        before = self._copied
        copy = torch.empty((), dtype=loss_sum.dtype, pin_memory=True)
        copy.copy_(loss_sum, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._copied = (copy, arrived)
        if before is None:
            return True
        before[1].synchronize()
        return math.isfinite(before[0].item())


def _logits(model: nn.Module, batch: Batch, precision: Precision) -> Tensor:
    """The model's answers to a batch, float32 [rows, outputs]."""
    with autocast(precision, batch.labels.device):
        logits: Tensor = model(**batch.inputs).logits
    return logits.float()


def _as_memory_allows(
    compute: Callable[[list[Batch]], Computed],
    rows: Rows,
    take: Take,
    halve: Halve,
    undo: Callable[[], None] = lambda: None,
) -> Computed:
    """Compute something of these rows; where memory runs out, call `undo` and try again in smaller pieces."""
    while True:
        batches = take(rows)
        try:
            return compute(batches)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # This stands outside the handler: the error's frames hold the activations that are to be freed.
        undo()
        halve(max(map(len, batches)))
