"""Asynchronous successive halving over the schedule, not over epochs.

Li et al. ("A System for Massively Parallel Hyperparameter Tuning", 2020) compare trials after the same number of
epochs. Here the number of epochs is itself a hyperparameter, and the learning rate decays over each trial's own
schedule. Half of a 2-epoch trial must therefore be compared with half of a 4-epoch trial, not epoch 1 with epoch 1. So
each rung is a percentage of the schedule, and a trial is scored there, also where that falls within an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tune.stopping_rules.base import StoppingRuleEntry

RUNGS_PERCENT = (12.5, 25.0, 50.0, 75.0)
MIN_TRIALS_AT_RUNG = 3  # the first two trials at a rung go on: that one of them is better is no evidence


class SuccessiveHalving:
    """Lets a trial go on while it is among the best 1/reduction_factor of those that reached each rung."""

    def __init__(self, mode: str, reduction_factor: float) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        self._keep = 1.0 / reduction_factor
        self._rungs: dict[float, dict[int, tuple[float, float]]] = {rung: {} for rung in RUNGS_PERCENT}

    def report(self, number: int, schedule_percent: float, score: float, loss: float) -> bool:
        """Note a score, and decide at each rung that it is the trial's first one at or behind.

        The loss decides between equal scores: all trials that predict a single class have the same accuracy and F1.
        """
        if schedule_percent >= 100:
            return True
        newly = [reached for rung, reached in self._rungs.items() if rung <= schedule_percent and number not in reached]
        for reached in newly:
            reached[number] = (self._sign * score, -loss)
        return all(self._survives(number, reached) for reached in newly)

    def _survives(self, number: int, reached: Mapping[int, tuple[float, float]]) -> bool:
        if len(reached) < MIN_TRIALS_AT_RUNG:
            return True
        kept = math.ceil(len(reached) * self._keep)
        return reached[number] >= sorted(reached.values(), reverse=True)[kept - 1]  # equals all go on


STOPPING_RULE = StoppingRuleEntry(
    "asha", "stops trials that are not among the best at a rung (ASHA)", SuccessiveHalving, RUNGS_PERCENT
)
