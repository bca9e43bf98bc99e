"""What happens to a trial in Ray Tune is told to the study, to the logs of scores and to the user, in one order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray.tune import Callback

from trainable.epoch_scores import WORKER_KEYS, CurvePoint, EpochScores, RungScores
from trainable.job import Assignment
from trainable.redaction import one_line
from tune.cluster.plan import Plan
from tune.cluster.waiting_notice import WaitingNotices
from tune.process.signals import finish_asked, heed_signals
from tune.report.progress import Progress
from tune.report.score_logs import ScoreLogs
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord, result_problem
from tune.sweep.failures import (
    Failure,
    FirstFailures,
    SetAside,
    failure_in_result,
    failure_of,
    what_follows,
    write_failure,
)
from tune.sweep.halt import Halt
from tune.sweep.heartbeats import Heartbeats
from tune.sweep.trial_book import TrialBook


class SweepCallback(Callback):
    """Takes every event of every trial from Tune. The methods have Tune's names and arguments.

    An error in a method halts the sweep: Tune would take it for an error of the trial.
    """

    def __init__(
        self,
        run_dir: RunDir,
        book: TrialBook,
        progress: Progress,
        halt: Halt,
        plan: Plan,
        heartbeats: Heartbeats,
        logs: ScoreLogs,
    ) -> None:
        self._run_dir = run_dir
        self._book = book
        self._progress = progress
        self._halt = halt
        self._plan = plan
        self._heartbeats = heartbeats
        self._waiting = WaitingNotices(progress.say)
        self._logs = logs
        self.running: set[int] = set()
        """The trials that a worker has begun."""
        self.errors: dict[str, BaseException] = {}
        """What trials raised, or how their workers died, by Tune's names; each is taken out where it is told of."""
        self._over: set[str] = set()  # Tune's names of trials that came to an end
        self._first_failures = FirstFailures(some_trial_ended_well=book.leader is not None)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into a snapshot that nobody reads

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune's loop went round, as it does about ten times a second."""
        heed_signals()
        self._heartbeats.tick()
        with self._halt.on_error():
            if self._book.tick():
                self._progress.limit(self._book.budget.left_s())
                self._progress.say_each(self._book.budget.news())
            pending = [] if self.running else [trial for trial in trials if trial.status == "PENDING"]
            multipliers = [
                min(assignment_of(trial).memory_multiplier, self._plan.largest_multiplier) for trial in pending
            ]
            self._waiting.tick(self._plan.resources(min(multipliers)) if multipliers else None)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker began the trial."""
        with self._halt.on_error():
            assignment = assignment_of(trial)
            self.running.add(assignment.number)
            self._logs.start(assignment)
            self._progress.started(assignment.number, assignment.config, assignment.confirms)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A worker reported an epoch, or a piece of one. Here its JSON becomes typed values."""
        if self._halt.error is not None or result_problem(result) is not None:
            return
        with self._halt.on_error():
            number = assignment_of(trial).number
            self._book.record_steps(number, result["segment"])
            self._logs.curve(number, [CurvePoint.from_json(flat) for flat in result.get("curve", ())])
            rungs = [RungScores.from_json(flat) for flat in result.get("rungs", ())]
            for rung in self._book.record_rungs(number, rungs):
                self._logs.rung(number, rung)
                self._progress.rung(number, rung)
            if "history" not in result:
                return
            worker = {name: result[name] for name in WORKER_KEYS if name in result}
            history = [EpochScores.from_json({**flat, **worker}) for flat in result["history"]]
            self._book.record_epochs(number, history)
            self._logs.epoch(number, history[-1], result.get("f1_by_class", ()))
            self._progress.epoch(number, history[-1])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial ran its whole schedule, or it was stopped early, or it reported its own failure."""
        with self._halt.on_error():
            if self._was_over(trial):
                return
            result = trial.last_result
            # Tune would keep running statistics of every metric of every trial until the sweep ends, 40 KB each.
            trial.run_metadata.metric_analysis.clear()
            trial.run_metadata.metric_n_steps.clear()
            problem = result_problem(result)
            if problem is not None:
                self._end_badly(assignment_of(trial), failure_in_result(problem, result))
            elif result.get("schedule_percent", 0) >= 100:
                self._end_well(assignment_of(trial).number, TrialState.COMPLETE)
            else:
                self._end_well(assignment_of(trial).number, TrialState.PRUNED)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial raised an exception, or its worker died."""
        with self._halt.on_error():
            if self._was_over(trial):
                return
            assignment = assignment_of(trial)
            error_file = Path(trial.error_file) if trial.error_file else None
            ended = self._heartbeats.why_it_died(assignment.number)
            self._end_badly(assignment, failure_of(self.errors.pop(trial.trial_id, None), error_file, ended))

    def _was_over(self, trial: Any) -> bool:
        """Whether a trial's end changes nothing: the sweep halts or is to finish now, or Tune tells of it twice."""
        over = self._halt.error is not None or finish_asked() or trial.trial_id in self._over
        self._over.add(trial.trial_id)
        return over

    def _end_well(self, number: int, state: TrialState) -> None:
        self._first_failures.trial_ended_well()
        self._finish(number, state)

    def _end_badly(self, assignment: Assignment, failure: Failure) -> None:
        number = assignment.number
        outcome = what_follows(failure, number, self._book, self._plan)
        if isinstance(outcome, SetAside):
            self._progress.set_aside(number, outcome.why)
            self._close_logs(number, None)
            return
        outcome = replace(outcome, reason=one_line(outcome.reason))
        log = write_failure(self._run_dir, assignment, outcome)
        self._progress.failed(number, assignment.config, outcome.text, log)
        self._finish(number, TrialState.FAIL, outcome.reason)
        self._first_failures.trial_failed(outcome.reason, log)

    def _finish(self, number: int, state: TrialState, failure: str | None = None) -> None:
        record = self._book.finish(number, state, failure)
        self._close_logs(number, record)
        self._progress.finished(record, self._book.leader)

    def _close_logs(self, number: int, record: TrialRecord | None) -> None:
        if number in self.running:  # a worker that dies while it starts has never begun the trial
            self.running.remove(number)
            self._logs.finish(number, record)


def assignment_of(trial: Any) -> Assignment:
    """What Tune's trial was told to do."""
    assignment: Assignment = trial.config["assignment"]
    return assignment
