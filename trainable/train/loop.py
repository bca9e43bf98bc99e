"""Train one epoch, evaluate one split: tensors in, numbers out. One device sync each.

Nothing here prints, writes, or knows of Ray. Where memory runs out, the rows at hand are computed again in smaller
pieces; `take` cuts rows into batches, and `step_down` makes it cut finer or gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainable.config import Precision, TrialConfig
from trainable.train.batching import Batch
from trainable.train.devices import autocast
from trainable.train.memory import is_out_of_memory

Rows = npt.NDArray[np.int64]  # row numbers of a split
Take = Callable[[Rows], list[Batch]]
StepDown = Callable[[int], None]  # told how many rows at once were too many


@dataclass(frozen=True)
class Counts:
    """What an evaluation counted: cross-entropy summed over rows (nats), and rows by (true, predicted) class."""

    loss_sum: float
    confusion: list[list[int]]


def make_optimizer(model: nn.Module, config: TrialConfig) -> torch.optim.AdamW:
    """Fused AdamW; biases and normalisation weights (all tensors of one dimension) are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        fused=True,
    )


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    order: Iterable[Rows],
    take: Take,
    step_down: StepDown,
    *,
    first_step: int,
    total_steps: int,
    config: TrialConfig,
    precision: Precision,
) -> float:
    """One pass over the training rows; returns the mean training loss per row (nats), not finite if any was not.

    order: the rows of each optimizer step. The gradient is that of the mean loss over the step's rows, however `take`
    divides them. first_step is the number of optimizer steps done before.
    """
    model.train()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def gradient(batches: list[Batch]) -> Tensor:
        total: Tensor | None = None
        rows = sum(map(len, batches))
        for batch in batches:
            loss = _summed_loss(model, batch, precision, config.label_smoothing)
            (loss / rows).backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
        if total is None:
            raise ValueError("a step needs at least one row")
        return total

    loss_sum: Tensor | None = None
    rows_done = 0
    for step, rows in enumerate(order, first_step):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step, total_steps)
        loss = _as_memory_allows(gradient, rows, take, step_down, lambda: optimizer.zero_grad(set_to_none=True))
        loss_sum = loss if loss_sum is None else loss_sum + loss
        if config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rows_done += len(rows)
    if loss_sum is None:
        raise ValueError("an epoch needs at least one batch")
    return float(loss_sum.item()) / rows_done  # the epoch's one device sync


def _as_memory_allows(
    compute: Callable[[list[Batch]], Tensor],
    rows: Rows,
    take: Take,
    step_down: StepDown,
    undo: Callable[[], None] = lambda: None,
) -> Tensor:
    """What `compute` makes of these rows; where memory runs out, `undo` and again in smaller pieces."""
    while True:
        batches = take(rows)
        try:
            return compute(batches)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Not in the handler: the error's frames hold the activations that are to be freed.
        undo()
        step_down(max(map(len, batches)))


def _summed_loss(model: nn.Module, batch: Batch, precision: Precision, label_smoothing: float = 0.0) -> Tensor:
    with autocast(precision, batch.labels.device):
        logits = model(**batch.inputs).logits
    return cross_entropy(logits.float(), batch.labels, reduction="sum", label_smoothing=label_smoothing)


@torch.inference_mode()
def evaluate(
    model: nn.Module, order: Iterable[Rows], take: Take, step_down: StepDown, num_labels: int, precision: Precision
) -> Counts:
    """Score a split; counts stay on the device until the end."""
    model.eval()

    def count(batches: list[Batch]) -> Tensor:
        return torch.stack([_counted(model, batch, num_labels, precision) for batch in batches]).sum(dim=0)

    counted: Tensor | None = None
    for rows in order:
        here = _as_memory_allows(count, rows, take, step_down)
        counted = here if counted is None else counted + here
    if counted is None:
        raise ValueError("an evaluation needs at least one batch")
    loss_sum, *cells_flat = counted.tolist()  # the evaluation's one device sync
    cells_int = [int(n) for n in cells_flat]
    return Counts(loss_sum, [cells_int[i : i + num_labels] for i in range(0, num_labels**2, num_labels)])


def _counted(model: nn.Module, batch: Batch, num_labels: int, precision: Precision) -> Tensor:
    """A batch's loss and its rows by (true, predicted) class, flat.

    float64 holds every count up to 2^53, so that losses and counts cross to the host together.
    """
    with autocast(precision, batch.labels.device):
        logits = model(**batch.inputs).logits
    loss = cross_entropy(logits.float(), batch.labels, reduction="sum")
    cells = torch.zeros(num_labels**2, dtype=torch.float64, device=loss.device)
    cell = batch.labels * num_labels + logits.argmax(dim=-1)
    cells.index_add_(0, cell, torch.ones_like(cell, dtype=torch.float64))  # bincount would sync on a GPU
    return torch.cat([loss.double().view(1), cells])
