"""Train one epoch, evaluate one split: tensors in, numbers out. One device sync each.

Nothing here prints, writes, or knows of Ray.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainable.batching import Batch
from trainable.config import Precision, TrialConfig
from trainable.devices import autocast


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
    batches: Iterable[list[Batch]],
    *,
    first_step: int,
    total_steps: int,
    config: TrialConfig,
    precision: Precision,
) -> float:
    """One pass over the training rows; returns the mean training loss per row (nats), not finite if any was not.

    batches: for each optimizer step its micro-batches, one or more. The gradient is that of the mean loss over the
    step's rows, however they are divided. first_step is the number of optimizer steps done before.
    """
    model.train()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    loss_sum: Tensor | None = None
    rows = 0
    for step, micro_batches in enumerate(batches, first_step):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step, total_steps)
        step_rows = sum(map(len, micro_batches))
        for batch in micro_batches:
            loss = _summed_loss(model, batch, precision, config.label_smoothing)
            (loss / step_rows).backward()  # type: ignore[no-untyped-call]
            loss_sum = loss.detach() if loss_sum is None else loss_sum + loss.detach()
        if config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rows += step_rows
    if loss_sum is None:
        raise ValueError("an epoch needs at least one batch")
    return float(loss_sum.item()) / rows  # the epoch's one device sync


def _summed_loss(model: nn.Module, batch: Batch, precision: Precision, label_smoothing: float = 0.0) -> Tensor:
    with autocast(precision, batch.labels.device):
        logits = model(**batch.inputs).logits
    return cross_entropy(logits.float(), batch.labels, reduction="sum", label_smoothing=label_smoothing)


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[Batch], num_labels: int, precision: Precision) -> Counts:
    """Score a split; counts stay on the device until the end."""
    model.eval()
    counted: Tensor | None = None
    for batch in batches:
        with autocast(precision, batch.labels.device):
            logits = model(**batch.inputs).logits
        loss = cross_entropy(logits.float(), batch.labels, reduction="sum")
        # float64 holds every count up to 2^53, so that losses and counts cross to the host together.
        # (bincount would sync on a GPU.)
        cells = torch.zeros(num_labels**2, dtype=torch.float64, device=loss.device)
        cell = batch.labels * num_labels + logits.argmax(dim=-1)
        cells.index_add_(0, cell, torch.ones_like(cell, dtype=torch.float64))
        both = torch.cat([loss.double().view(1), cells])
        counted = both if counted is None else counted + both
    if counted is None:
        raise ValueError("an evaluation needs at least one batch")
    loss_sum, *cells_flat = counted.tolist()  # the evaluation's one device sync
    cells_int = [int(n) for n in cells_flat]
    return Counts(loss_sum, [cells_int[i : i + num_labels] for i in range(0, num_labels**2, num_labels)])
