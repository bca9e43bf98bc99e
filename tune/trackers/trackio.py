"""Trackio: the runs of a sweep are a group in a local store; TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say where else."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from typing import Any

from tune.trackers.base import PROJECT, Axis, TrackedSweep, TrackedTrial, TrackerEntry, TrialEnd


class TrackioTracker:
    """The runs of a sweep in Trackio. It finds runs by their names, so these have the sweep's id in them."""

    def __init__(self, sweep: TrackedSweep) -> None:
        """Connect to nothing yet."""
        import trackio

        for module in (trackio, trackio.run, trackio.utils):
            module.print = _nothing  # else it writes into the live table
        self._trackio = trackio
        self._project = PROJECT
        self._sweep = sweep
        self._group = f"{sweep.name} {sweep.sweep_id[:8]}"
        self._runs: dict[int, tuple[Any, TrackedTrial]] = {}

    def open_sweep(self) -> bool:
        """Look whether there is a run of the sweep. It gets its points at the sweep's end."""
        try:
            self._init(self._group, self._sweep.config, resume="must").finish()
        except ValueError:
            self._write(self._group, self._sweep.config, {"num_trials": self._sweep.num_trials}, resume="allow")
            return False
        return True

    def open_trial(self, trial: TrackedTrial) -> None:
        """Open a trial's run."""
        run = self._init(self._name(trial), {**trial.config, **trial.tags}, resume="allow")
        self._runs[trial.number] = run, trial

    def log(self, number: int, scores: Mapping[str, float], axis: Axis, step: int) -> None:
        """Add points to a trial's run."""
        self._runs[number][0].log(dict(scores), step=step)

    def close_trial(self, number: int, state: TrialEnd | None) -> None:
        """Close a trial's run; `state` in its configuration says how it ended."""
        run, trial = self._runs.pop(number)
        run.finish()
        if state is not None:
            config = {**trial.config, **trial.tags, "state": state}
            self._write(self._name(trial), config, {"state": state}, resume="must")

    def log_result(self, scores: Mapping[str, float], best: Mapping[str, Any]) -> None:
        """Write the scores to the sweep's run, and what the winner is into its configuration."""
        config = {**self._sweep.config, **{f"best.{name}": value for name, value in best.items()}}
        self._write(self._group, config, {**scores, "num_trials": self._sweep.num_trials}, resume="allow")

    def close(self, finished: bool) -> None:
        """Close the runs."""
        for number in sorted(self._runs):
            self.close_trial(number, None)

    def where(self) -> str:
        """Where the user finds the sweep's runs."""
        return f'group "{self._group}"; trackio show --project {self._project}'

    def _name(self, trial: TrackedTrial) -> str:
        return f"{self._group}: {trial.name}"

    def _write(self, name: str, config: Mapping[str, Any], last: Mapping[str, Any], resume: str) -> None:
        """Write a run's configuration anew: Trackio does so with the first point after a run is opened."""
        run = self._init(name, config, resume)
        run.log(dict(last))
        run.finish()

    def _init(self, name: str, config: Mapping[str, Any], resume: str) -> Any:
        def init() -> Any:
            return self._trackio.init(
                self._project, name=name, group=self._group, config=dict(config), resume=resume,
                embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip

        # It would finish the run that was opened before in this context, but several trials run at once.
        return contextvars.Context().run(init)


def _nothing(*words: object, **options: object) -> None:
    return None


TRACKER = TrackerEntry("trackio", TrackioTracker)
