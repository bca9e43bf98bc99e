"""Weights & Biases: the runs of a sweep are a group. WANDB_MODE=offline writes files for `wandb sync`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tune.trackers.base import PROJECT, Axis, TrackedSweep, TrackedTrial, TrackerEntry, TrialEnd

AXIS_OF = {"train/*": "epoch", "validation/*": "epoch", "rungs/*": "schedule_percent", "steps/*": "optimizer_step"}
FAILED, INTERRUPTED = 1, 255  # exit codes, of which W&B makes the states failed and crashed


class WandbTracker:
    """The runs of a sweep in W&B. Their ids follow from the sweep's, so that a later driver continues them."""

    def __init__(self, sweep: TrackedSweep) -> None:
        """Connect to nothing yet; W&B's own environment variables say where."""
        # The package waits for a server that does not answer, also when the process ends: seconds, not its 90 and more.
        os.environ.setdefault("WANDB_INIT_TIMEOUT", "20")
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", "20")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._wandb = wandb
        self._sweep = sweep
        self._parent: Any = None
        self._runs: dict[int, Any] = {}

    def open_sweep(self) -> bool:
        """Open the run of the sweep. Offline nobody knows what an earlier driver wrote: it is taken to be there."""
        config = {**self._sweep.config, "num_trials": self._sweep.num_trials}
        self._parent = self._init("sweep", self._sweep.name, "sweep", config)
        return bool(self._parent.resumed) or self._parent.settings.mode != "online"

    def open_trial(self, trial: TrackedTrial) -> None:
        """Open a trial's run."""
        kind = "trial" if trial.confirms is None else "confirmation"
        run = self._init(str(trial.number), trial.name, kind, {**trial.config, **trial.tags})
        for axis in set(AXIS_OF.values()):
            run.define_metric(axis, hidden=True)
        for names, axis in AXIS_OF.items():
            run.define_metric(names, step_metric=axis)
        self._runs[trial.number] = run

    def log(self, number: int, scores: Mapping[str, float], axis: Axis, step: int) -> None:
        """Add points to a trial's run."""
        self._runs[number].log({**scores, axis: step})

    def close_trial(self, number: int, state: TrialEnd | None) -> None:
        """Close a trial's run; a tag says how it ended, and so does `state` in its summary."""
        run = self._runs.pop(number)
        if state is not None:
            run.summary["state"] = state
            run.tags = (*(tag for tag in run.tags or () if tag != state), state)
        run.finish(exit_code={None: INTERRUPTED, "FAIL": FAILED}.get(state, 0))

    def log_result(self, scores: Mapping[str, float], best: Mapping[str, Any]) -> None:
        """Write the scores and what the winner is to the summary of the sweep's run."""
        self._parent.summary.update({**scores, **{f"best.{name}": value for name, value in best.items()}})

    def close(self, finished: bool) -> None:
        """Close the runs."""
        for number in sorted(self._runs):
            self.close_trial(number, None)
        self._parent.finish(exit_code=0 if finished else INTERRUPTED)

    def where(self) -> str:
        """Where the user finds the sweep's run."""
        if self._parent.settings.mode == "online":
            return str(self._parent.url)
        folder = os.path.dirname(self._parent.settings.sync_dir)
        return f"offline; upload with wandb sync {folder}/offline-run-*"

    def _init(self, what: str, name: str, kind: str, config: Mapping[str, Any]) -> Any:
        quiet = self._wandb.Settings(
            console="off", disable_code=True, disable_git=True, quiet=True, silent=True, x_disable_stats=True
        )
        return self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=f"{self._sweep.sweep_id}-{what}",
            name=name,
            group=os.environ.get("WANDB_RUN_GROUP", f"{self._sweep.name} {self._sweep.sweep_id[:8]}"),
            job_type=kind,
            config=dict(config),
            resume="allow" if mode() == "online" else None,
            reinit="create_new",  # the runs of several trials are open at once
            settings=quiet,
        )


def mode() -> str:
    """What WANDB_MODE or W&B's files of settings say: online, offline or disabled."""
    import wandb

    return str(wandb.setup().settings.mode)


def account_problems() -> list[str]:
    """Say that nobody is logged in: the package would ask on the terminal, or fail."""
    import wandb

    if mode() != "online" or wandb.api.api_key:
        return []
    told = "run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline to write files"
    return [f"--log-to wandb: no API key; {told}"]


TRACKER = TrackerEntry("wandb", WandbTracker, account_problems)
