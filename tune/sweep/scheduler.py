"""The adapter that lets a stopping rule, and the budget, decide for Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from trainable.epoch_scores import EpochScores, RungScores
from trainable.job import Assignment
from tune.run_dir.records import newest_scores, result_problem
from tune.stopping_rules.base import StoppingRule

MustStop = Callable[[int, EpochScores | RungScores | None], bool]


class StoppingScheduler(FIFOScheduler):
    """Stops a trial where the stopping rule says so or no time is left for it, and where it reports that it failed."""

    def __init__(self, metric: str, rule: StoppingRule, must_stop: MustStop = lambda number, scored: False) -> None:
        """Schedule trials.

        Args:
            metric: The objective's name.
            rule: Stops bad trials early.
            must_stop: Whether the budget leaves no time for a trial, by its number and what it has just scored.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric = metric  # Tune's base class expects it under this name
        self._objective = metric
        self._rule = rule
        self._must_stop = must_stop

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its scheduler into a snapshot that nobody reads

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept what Tune was told; the objective is known already."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """STOP a trial that failed or that the rule stops; CONTINUE any other."""
        assignment: Assignment = trial.config["assignment"]
        if result_problem(result) is not None:
            return str(TrialScheduler.STOP)
        scored = newest_scores(result)
        if result.get("schedule_percent", 0) < 100 and self._must_stop(assignment.number, scored):
            return str(TrialScheduler.STOP)
        if scored is None:
            return str(TrialScheduler.CONTINUE)
        if assignment.confirms is not None:  # a finalist's fresh run is compared at its end alone
            return str(TrialScheduler.CONTINUE)
        score, loss = scored.scores[self._objective], scored.scores["loss"]
        go_on = self._rule.report(assignment.number, scored.schedule_percent, score, loss)
        return str(TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP)
