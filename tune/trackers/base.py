"""What a tracker's file offers: how its package is found, and a face before it that is the same for all of them.

A sweep is a parent run in the tracker, and each trial a child run. The names of scalars are those of TensorBoard.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

PROJECT = "finetune-search"
"""The project, or experiment, that a sweep is logged to unless the tracker's own environment variable names one."""

Axis = Literal["epoch", "schedule_percent", "optimizer_step"]
"""What the step of a point counts."""

TrialEnd = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(frozen=True)
class TrackedSweep:
    """What a tracker is told of a sweep when it begins."""

    name: str
    """What the sweep is called."""
    sweep_id: str
    """Tells the sweep from all others; runs are found again by it."""
    config: Mapping[str, Any]
    """What never changes: model, data, metric."""
    num_trials: int
    """How many trials it has in all; a sweep that is extended gets more."""


@dataclass(frozen=True)
class TrackedTrial:
    """What a tracker is told of a trial when it begins."""

    number: int
    """The trial's number in the study."""
    config: Mapping[str, Any]
    """Its hyperparameters."""
    seed: int | None
    """The seed of its training."""
    confirms: int | None = None
    """The trial whose configuration it trains again from a fresh seed; None of a trial of the search."""

    @property
    def name(self) -> str:
        """What its run is called."""
        return f"trial {self.number}" + (f" (trial {self.confirms} again)" if self.confirms is not None else "")

    @property
    def tags(self) -> dict[str, str]:
        """What tells it from other trials."""
        tags = {"trial": str(self.number), "seed": str(self.seed)}
        return tags if self.confirms is None else {**tags, "confirms": str(self.confirms)}


class Tracker(Protocol):
    """A tracker that is open. Calls may block and may fail: one thread makes them, which the sweep never waits for."""

    def open_sweep(self) -> bool:
        """Open the parent run; returns whether the tracker may have it from an earlier driver."""

    def open_trial(self, trial: TrackedTrial) -> None:
        """Open a trial's run, or go on with it."""

    def log(self, number: int, scores: Mapping[str, float], axis: Axis, step: int) -> None:
        """Add points to an open trial's run."""

    def close_trial(self, number: int, state: TrialEnd | None) -> None:
        """Close a trial's run; None leaves it to be opened again."""

    def log_result(self, scores: Mapping[str, float], best: Mapping[str, Any]) -> None:
        """Write the winner's scores and what it is (its trial and hyperparameters) to the parent run."""

    def close(self, finished: bool) -> None:
        """Close the parent run, and those of trials that are open still."""

    def where(self) -> str:
        """Where the user finds the parent run."""


@dataclass(frozen=True)
class TrackerEntry:
    """A tracker, as `--log-to` names it."""

    name: str
    """The word that `--log-to` takes, the extra that installs it, and the package that is imported."""
    make: Callable[[TrackedSweep], Tracker]
    """Makes the tracker, in the thread that is to call it. Here its package is imported."""
    account_problems: Callable[[], list[str]] = list
    """Says why nobody can log in, where that is known without a network."""

    def problems(self) -> list[str]:
        """Say why it can't be logged to, and what to do."""
        if importlib.util.find_spec(self.name) is None:
            return [f'--log-to {self.name}: {self.name} is not installed: pip install "finetune-search[{self.name}]"']
        return self.account_problems()
