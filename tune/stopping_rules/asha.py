"""Asynchronous successive halving over the schedule, not over epochs.

Li et al. ("A System for Massively Parallel Hyperparameter Tuning", 2020) compare trials after the same number of
epochs. Here the number of epochs is itself a hyperparameter, and the learning rate decays over each trial's own
schedule. Half of a 2-epoch trial must therefore be compared with half of a 4-epoch trial, not epoch 1 with epoch 1. So
each rung is a percentage of the schedule, and a trial is scored there, also where that falls within an epoch.

The first rung compares losses: that early most trials still answer one class, which has a better F1 than a beginning.
Of 14 random configurations of MiniLM-L6 on 1,800 rows of MRPC, the rank correlation with the final F1 was -0.45 for the
F1 at 12.5 % and 0.61 for the loss there; for the F1 at 25, 50 and 75 % it was 0.70, 0.71 and 0.92.
"""

from __future__ import annotations

import math

from tune.stopping_rules.base import StoppingRuleEntry

RUNGS_PERCENT = (12.5, 25.0, 50.0, 75.0)
BY_LOSS_PERCENT = 12.5  # up to here the loss is compared first
MIN_TRIALS_AT_RUNG = 3  # the first two trials at a rung go on: that one of them is better is no evidence


class SuccessiveHalving:
    """Lets a trial go on while it is among the best 1/reduction_factor of those that reached each rung."""

    def __init__(self, mode: str, reduction_factor: float) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        self._keep = 1.0 / reduction_factor
        self._rungs: dict[float, dict[int, tuple[float, float]]] = {rung: {} for rung in RUNGS_PERCENT}

    def report(self, number: int, schedule_percent: float, score: float, loss: float) -> bool:
        """Note a score, and decide where it is the trial's first one at or behind a rung, and before the next rung.

        The loss decides between equal scores: all trials that predict a single class have the same accuracy and F1. At
        the first rung the score decides between equal losses.
        """
        if schedule_percent >= 100:
            return True
        rung = max((rung for rung in RUNGS_PERCENT if rung <= schedule_percent), default=None)
        if rung is None or number in self._rungs[rung]:
            return True
        merit = (self._sign * score, -loss)
        reached = self._rungs[rung]
        reached[number] = merit if rung > BY_LOSS_PERCENT else merit[::-1]
        if len(reached) < MIN_TRIALS_AT_RUNG:
            return True
        kept = math.ceil(len(reached) * self._keep)
        return reached[number] >= sorted(reached.values(), reverse=True)[kept - 1]  # equals all go on


STOPPING_RULE = StoppingRuleEntry(
    "asha", "stops trials that are not among the best at a rung (ASHA)", SuccessiveHalving, RUNGS_PERCENT
)
