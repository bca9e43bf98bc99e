"""What a learning rate schedule must tell of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class ScheduleSettings(Protocol):
    """The hyperparameters that a schedule depends on; a TrialConfig has them."""

    @property
    def learning_rate(self) -> float:
        """The peak."""
        ...

    @property
    def warmup_fraction(self) -> float:
        """Fraction of all steps spent warming up, in [0, 1)."""
        ...


@dataclass(frozen=True)
class ScheduleEntry:
    """One schedule."""

    name: str
    """How a configuration names it."""

    description: str
    """One line for --help and the documentation."""

    rate: Callable[[ScheduleSettings, int, int], float]
    """The learning rate of optimizer step `step` in 0..total_steps-1: rate(settings, step, total_steps)."""
