"""What is logged of trials while they run, and under which names: the same in TensorBoard and in every tracker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from trainable.epoch_scores import CurvePoint, EpochScores, RungScores
from trainable.job import Assignment
from trainable.metrics import METRICS
from tune.run_dir.records import TrialRecord
from tune.trackers.base import Axis

MAX_CLASS_CURVES = 20  # of more classes nobody compares curves, and a page would draw each for every trial


class ScoreLog(Protocol):
    """Takes scalars of the trials that run. Its methods return at once: trials wait for them."""

    def start(self, assignment: Assignment) -> None:
        """A worker begins a trial, or goes on with it."""

    def log(self, number: int, scores: Mapping[str, float], axis: Axis, step: int) -> None:
        """Add points to a running trial. Those that an earlier driver has added come again, and are left out."""

    def finish(self, number: int, record: TrialRecord | None) -> None:
        """A worker leaves a trial: the record says how it ended; None where it will be run again."""


class ScoreLogs:
    """Names the scalars of each event, and hands them to several logs."""

    def __init__(self, logs: Sequence[ScoreLog], label_names: Sequence[str] = ()) -> None:
        """Take the logs.

        Args:
            logs: Each gets every event.
            label_names: The classes, by class id.
        """
        self._logs = logs
        self._label_names = label_names if len(label_names) <= MAX_CLASS_CURVES else ()

    def start(self, assignment: Assignment) -> None:
        """A worker begins a trial, or goes on with it."""
        for log in self._logs:
            log.start(assignment)

    def epoch(self, number: int, epoch: EpochScores, f1_by_class: Sequence[float] = ()) -> None:
        """Log an epoch; the step is the epoch's number."""
        of_classes = zip(self._label_names, f1_by_class, strict=False)
        classes = {f"{METRICS['f1'].tag}/{name}": score for name, score in of_classes}
        self._log(number, epoch_scalars(epoch) | classes, "epoch", epoch.epoch)

    def rung(self, number: int, rung: RungScores) -> None:
        """Log a rung within an epoch; the step is the percentage of the schedule that was done."""
        self._log(number, rung_scalars(rung), "schedule_percent", rung_step(rung))

    def curve(self, number: int, points: Iterable[CurvePoint]) -> None:
        """Log points within an epoch; the step is the trial's optimizer step."""
        for point in points:
            scalars = {"steps/train_loss": point.train_loss, "steps/learning_rate": point.learning_rate}
            self._log(number, scalars, "optimizer_step", point.steps)

    def finish(self, number: int, record: TrialRecord | None) -> None:
        """A worker leaves a trial: the record says how it ended; None where it will be run again."""
        for log in self._logs:
            log.finish(number, record)

    def _log(self, number: int, scalars: Mapping[str, float], axis: Axis, step: int) -> None:
        for log in self._logs:
            log.log(number, scalars, axis, step)


def epoch_scalars(epoch: EpochScores) -> dict[str, float]:
    """The scalars of an epoch, as the study has it."""
    return {
        "train/loss": epoch.train_loss,
        "train/learning_rate": epoch.learning_rate,
        "train/examples_per_second": epoch.examples_per_second,
        **{METRICS[name].tag: score for name, score in epoch.scores.items()},
    }


def rung_scalars(rung: RungScores) -> dict[str, float]:
    """The scalars of a rung."""
    return {f"rungs/{name}": score for name, score in rung.scores.items()}


def rung_step(rung: RungScores) -> int:
    """A rung's place on its axis, percent of the schedule."""
    return round(rung.schedule_percent)
