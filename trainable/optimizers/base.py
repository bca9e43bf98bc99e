"""What an optimizer must tell of itself: all that the training loop, the states and the embedding need to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn


class OptimizerSettings(Protocol):
    """The hyperparameters that an optimizer is made from; a TrialConfig has them."""

    @property
    def learning_rate(self) -> float:
        """Peak of the schedule; the loop sets the rate of each step."""
        ...

    @property
    def weight_decay(self) -> float:
        """Of all tensors with more than one dimension."""
        ...


class Make(Protocol):
    """Makes the optimizer of one trial."""

    def __call__(self, parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """Make a new optimizer over these parameters, without any state."""
        ...


@dataclass(frozen=True)
class OptimizerEntry:
    """One optimizer. Its state must consist of tensors, since a trial's state on disk holds them by name."""

    name: str
    """How a configuration names it."""

    description: str
    """One line for --help and the documentation."""

    make: Make
    """Makes it from the parameters and the hyperparameters."""

    moments: int
    """How many tensors of a parameter's own size it keeps for each parameter; disk space is planned with it."""

    missed_decay: Callable[[OptimizerSettings, Sequence[float]], float]
    """What it makes of a weight whose gradient is always zero: the factor on that weight after steps at these rates.

    Rows of the word embedding that the data never uses are left out of training and put back with this factor.
    """


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: tensors of one dimension (biases, normalisation weights) are not decayed."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
