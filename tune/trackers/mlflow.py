"""MLflow: a parent run for the sweep, nested runs for trials. MLFLOW_TRACKING_URI says where."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from trainable.redaction import plain
from tune.trackers.base import PROJECT, Axis, TrackedSweep, TrackedTrial, TrackerEntry, TrialEnd

SWEEP_TAG, TRIAL_TAG = "finetune_search.sweep", "finetune_search.trial"
PARENT_TAG = "mlflow.parentRunId"  # by which MLflow's page nests runs
NO_NAME = re.compile(r"[^\w\-. :/]", re.ASCII)  # what MLflow refuses in the name of a metric
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}
PAGE = 1000  # runs in an answer


class MLflowTracker:
    """The runs of a sweep in MLflow. They are found again by their tags, so that nothing has to be remembered."""

    def __init__(self, sweep: TrackedSweep) -> None:
        """Connect to where MLflow's environment variables say, by default a file in the working directory."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # else it writes into the live table
        import mlflow

        self._sweep = sweep
        self._client = mlflow.MlflowClient()
        self._uri = mlflow.get_tracking_uri()
        self._experiment = ""
        self._parent = ""
        self._runs: dict[int, str] = {}  # by trial, the runs that MLflow has
        self._open: set[int] = set()

    def open_sweep(self) -> bool:
        """Open the parent run."""
        self._experiment = self._find_experiment()
        for run in self._find_runs():
            trial = run.data.tags.get(TRIAL_TAG)
            if trial is None:
                self._parent = run.info.run_id
            else:
                self._runs[int(trial)] = run.info.run_id
        found = bool(self._parent)
        if not found:
            self._parent = self._create(self._sweep.name, {}, self._sweep.config)
        self._client.update_run(self._parent, status="RUNNING")
        self._client.set_tag(self._parent, "num_trials", str(self._sweep.num_trials))
        return found

    def open_trial(self, trial: TrackedTrial) -> None:
        """Open a trial's run."""
        if trial.number not in self._runs:
            tags = {TRIAL_TAG: str(trial.number), PARENT_TAG: self._parent, **trial.tags}
            self._runs[trial.number] = self._create(trial.name, tags, trial.config)
        else:
            self._client.update_run(self._runs[trial.number], status="RUNNING")
        self._open.add(trial.number)

    def log(self, number: int, scores: Mapping[str, float], axis: Axis, step: int) -> None:
        """Add points to a trial's run."""
        self._log_metrics(self._runs[number], scores, step)

    def close_trial(self, number: int, state: TrialEnd | None) -> None:
        """Close a trial's run; the tag `state` says how it ended."""
        run = self._runs[number]
        self._open.discard(number)
        if state is not None:
            self._client.set_tag(run, "state", state)
        self._client.set_terminated(run, STATUS[state] if state is not None else "KILLED")

    def log_result(self, scores: Mapping[str, float], best: Mapping[str, Any]) -> None:
        """Write the scores as metrics of the parent, and what the winner is as tags: unlike params, they may change."""
        self._log_metrics(self._parent, scores, step=self._sweep.num_trials)
        for name, value in best.items():
            self._client.set_tag(self._parent, f"best.{name}", str(value))

    def close(self, finished: bool) -> None:
        """Close the parent run."""
        for number in sorted(self._open):
            self.close_trial(number, None)
        self._client.set_terminated(self._parent, "FINISHED" if finished else "KILLED")

    def where(self) -> str:
        """Where the user finds the parent run."""
        return plain(f"run {self._sweep.name} ({self._parent}) in {self._uri}")

    def _find_experiment(self) -> str:
        if (given := os.environ.get("MLFLOW_EXPERIMENT_ID")) is not None:
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def _find_runs(self) -> list[Any]:
        runs: list[Any] = []
        token = None
        while not runs or token:
            wanted = f"tags.`{SWEEP_TAG}` = '{self._sweep.sweep_id}'"
            page = self._client.search_runs([self._experiment], wanted, max_results=PAGE, page_token=token)
            runs += page
            token = page.token
            if not page:
                break
        return runs

    def _create(self, name: str, tags: Mapping[str, str], config: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        run = self._client.create_run(
            self._experiment, run_name=name, tags={SWEEP_TAG: self._sweep.sweep_id, **tags}
        ).info.run_id
        self._client.log_batch(run, params=[Param(key, str(value)) for key, value in config.items()])
        return str(run)

    def _log_metrics(self, run: str, scores: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        named = [Metric(NO_NAME.sub("_", name), value, now_ms, step) for name, value in scores.items()]
        self._client.log_batch(run, metrics=named)


TRACKER = TrackerEntry("mlflow", MLflowTracker)
