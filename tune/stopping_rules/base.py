"""What a stopping rule's file offers, so that the table of stopping rules can hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class StoppingRule(Protocol):
    """Decides after each epoch of a trial, and at each rung within one, whether the trial goes on or is stopped early.

    A rule sees numbers only: no Ray, no study. When a sweep is continued, a new rule is told all that the study holds
    before it decides again.
    """

    def report(self, number: int, schedule_percent: float, score: float, loss: float) -> bool:
        """Note an epoch or a rung of a trial, and decide.

        What was reported before (a trial that was restarted repeats some) must change nothing.

        Args:
            number: The trial.
            schedule_percent: How much of its own schedule the trial has run, in (0, 100].
            score: The objective on validation data, a finite number.
            loss: The validation loss, a finite number; it decides between trials of equal score.

        Returns:
            True if the trial is to go on, False if it is to be stopped.
        """


@dataclass(frozen=True)
class StoppingRuleEntry:
    """A way to stop trials early, as `--scheduler` names it."""

    name: str
    """The word that `--scheduler` takes; no other stopping rule has it."""
    description: str
    """One line for `--help`."""
    make: Callable[[str, float], StoppingRule]
    """Makes the rule for a sweep from the objective's direction ("max" or "min") and `--reduction-factor` (> 1)."""
    rungs_percent: tuple[float, ...] = ()
    """The shares of its schedule at which the rule wants a trial scored, also within an epoch; each in (0, 100)."""
