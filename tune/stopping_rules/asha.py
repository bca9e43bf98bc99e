"""Asynchronous successive halving over the schedule, not over epochs.

Li et al. ("A System for Massively Parallel Hyperparameter Tuning", 2020) compare trials after the same number of
epochs. Here the number of epochs is itself a hyperparameter, and the learning rate decays over each trial's own
schedule. Half of a 2-epoch trial must therefore be compared with half of a 4-epoch trial, not epoch 1 with epoch 1. So
each rung is a percentage of the schedule, and a trial's score at a rung is interpolated between its epochs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tune.stopping_rules.base import StoppingRuleEntry

RUNGS_PERCENT = (25.0, 50.0)
MIN_TRIALS_AT_RUNG = 3  # the first two trials at a rung go on: that one of them is better is no evidence


def value_at(percent: float, curve: Sequence[tuple[float, float]]) -> float | None:
    """The score at a percentage of the schedule, linear between epochs.

    Args:
        percent: Of the schedule.
        curve: Pairs of schedule percent and score, in ascending order.

    Returns:
        The score; None before the first pair and after the last one.
    """
    for (left, a), (right, b) in itertools.pairwise(curve):
        if left <= percent <= right:
            return a + (b - a) * (percent - left) / (right - left)
    return next((score for at, score in curve if at == percent), None)


class SuccessiveHalving:
    """Lets a trial go on while it is among the best 1/reduction_factor of those that reached each rung."""

    def __init__(self, mode: str, reduction_factor: float) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        self._keep = 1.0 / reduction_factor
        self._scores: dict[int, list[tuple[float, float]]] = {}
        self._losses: dict[int, list[tuple[float, float]]] = {}
        self._rungs: dict[float, dict[int, tuple[float, float]]] = {rung: {} for rung in RUNGS_PERCENT}

    def report(self, number: int, schedule_percent: float, score: float, loss: float) -> bool:
        """Note an epoch, and decide at each rung that the trial has newly reached.

        The loss decides between equal scores: all trials that predict a single class have the same accuracy and F1.
        """
        scores, losses = self._scores.setdefault(number, []), self._losses.setdefault(number, [])
        if scores and schedule_percent <= scores[-1][0]:
            return True  # a restarted trial repeats this epoch; we decided on it the first time
        scores.append((schedule_percent, self._sign * score))
        losses.append((schedule_percent, -loss))
        return all(self._survives(number, rung) for rung in RUNGS_PERCENT)

    def _survives(self, number: int, rung: float) -> bool:
        reached = self._rungs[rung]
        if number in reached:
            return True
        score, loss = value_at(rung, self._scores[number]), value_at(rung, self._losses[number])
        if score is None or loss is None:
            return True
        reached[number] = (score, loss)
        if len(reached) < MIN_TRIALS_AT_RUNG:
            return True
        kept = math.ceil(len(reached) * self._keep)
        return reached[number] >= sorted(reached.values(), reverse=True)[kept - 1]  # equals all go on


STOPPING_RULE = StoppingRuleEntry(
    "asha", "stops trials that are not among the best at a rung (ASHA)", SuccessiveHalving
)
