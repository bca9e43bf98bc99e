"""AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), in torch's fused form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trainable.optimizers.base import OptimizerEntry, OptimizerSettings, decay_groups

if TYPE_CHECKING:
    import torch
    from torch import nn


def make(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Make AdamW with torch's default betas; all weights of a step are updated by one kernel."""
    import torch

    groups = decay_groups(parameters, settings.weight_decay)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def missed_decay(settings: OptimizerSettings, rates: Sequence[float]) -> float:
    """Without a gradient both moments stay zero, so that only the decoupled decay is left."""
    return math.prod(1.0 - rate * settings.weight_decay for rate in rates)


OPTIMIZER = OptimizerEntry(
    name="adamw",
    description="Adam with decoupled weight decay",
    make=make,
    moments=2,
    missed_decay=missed_decay,
)
