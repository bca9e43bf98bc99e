"""No early stopping: every trial runs its whole schedule."""

from __future__ import annotations

from tune.stopping_rules.base import StoppingRuleEntry


class NoStopping:
    """Lets every trial go on."""

    def __init__(self, mode: str, reduction_factor: float) -> None:
        pass

    def report(self, number: int, schedule_percent: float, score: float, loss: float) -> bool:
        """Always True."""
        return True


STOPPING_RULE = StoppingRuleEntry("none", "runs every trial to the end of its schedule", NoStopping)
