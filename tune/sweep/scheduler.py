"""The adapter that lets a stopping rule decide for Ray Tune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from trainable.job import Assignment
from tune.run_dir.records import newest_scores, result_problem
from tune.stopping_rules.base import StoppingRule


class StoppingScheduler(FIFOScheduler):
    """Stops a trial where the stopping rule says so, and where the trial reports that it failed."""

    def __init__(self, metric: str, rule: StoppingRule) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric = metric  # Tune's base class expects it under this name
        self._objective = metric
        self._rule = rule

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept what Tune was told; the objective is known already."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """STOP a trial that failed or that the rule stops; CONTINUE any other."""
        assignment: Assignment = trial.config["assignment"]
        if result_problem(result) is not None:
            return str(TrialScheduler.STOP)
        scored = newest_scores(result)
        if scored is None:
            return str(TrialScheduler.CONTINUE)
        if assignment.confirms is not None:  # a finalist's fresh run is compared at its end alone
            return str(TrialScheduler.CONTINUE)
        score, loss = scored.scores[self._objective], scored.scores["loss"]
        go_on = self._rule.report(assignment.number, scored.schedule_percent, score, loss)
        return str(TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP)
