"""Early stopping that compares trials at the same share of their own schedule.

Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020) compares
trials after the same number of epochs. Here the number of epochs is itself searched, and the learning rate decays
over a trial's own schedule: half of 2 epochs is to be compared with half of 4, not epoch 1 with epoch 1. So a rung is
a share of the schedule, and a trial's score at a rung is read off the line between its epochs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune.run_dir.records import result_problem

RUNGS_PERCENT = (25.0, 50.0)
MIN_TRIALS_AT_RUNG = 3  # the first two at a rung go on: one better trial is no evidence


def value_at(percent: float, curve: Sequence[tuple[float, float]]) -> float | None:
    """The score at a share of the schedule, linear between epochs; None before the first or after the last.

    curve: (schedule_percent, score), ascending
    """
    for (left, a), (right, b) in itertools.pairwise(curve):
        if left <= percent <= right:
            return a + (b - a) * (percent - left) / (right - left)
    return next((score for share, score in curve if share == percent), None)


class ShareHalving:
    """Decides on scores alone: goes on with a trial while it is among the best 1/reduction_factor at every rung."""

    def __init__(self, mode: str, reduction_factor: float) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        self._keep = 1.0 / reduction_factor
        self._curves: dict[int, list[tuple[float, float]]] = {}
        self._losses: dict[int, list[tuple[float, float]]] = {}
        self._rungs: dict[float, dict[int, tuple[float, float]]] = {rung: {} for rung in RUNGS_PERCENT}

    def report(self, number: int, schedule_percent: float, score: float, loss: float) -> bool:
        """Note a trial's objective and validation loss; True if the trial is to go on.

        The loss decides between equals only: all trials that predict one class have the same accuracy and F1.
        """
        curve, losses = self._curves.setdefault(number, []), self._losses.setdefault(number, [])
        if curve and schedule_percent <= curve[-1][0]:
            return True  # an epoch run again after a restart: decided before
        curve.append((schedule_percent, self._sign * score))
        losses.append((schedule_percent, -loss))
        return all(self._survives(number, rung) for rung in RUNGS_PERCENT)

    def _survives(self, number: int, rung: float) -> bool:
        scores = self._rungs[rung]
        if number in scores:
            return True
        score, loss = value_at(rung, self._curves[number]), value_at(rung, self._losses[number])
        if score is None or loss is None:
            return True
        scores[number] = (score, loss)
        if len(scores) < MIN_TRIALS_AT_RUNG:
            return True
        kept = math.ceil(len(scores) * self._keep)
        return scores[number] >= sorted(scores.values(), reverse=True)[kept - 1]  # equals all go on


class ShareScheduler(FIFOScheduler):
    """ShareHalving for Ray Tune; with `halving` None every trial runs to its end."""

    def __init__(self, metric: str, halving: ShareHalving | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric = metric  # the name that Tune's base class keeps it under
        self._objective = metric
        self._halving = halving

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The objective is known already."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """STOP a trial that failed, or that is not among the best of its rung."""
        if result_problem(result) is not None:
            return str(TrialScheduler.STOP)
        if self._halving is None:
            return str(TrialScheduler.CONTINUE)
        score, loss = result[self._objective], result["loss"]
        go_on = self._halving.report(trial.config["number"], result["schedule_percent"], score, loss)
        return str(TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP)
