"""Run the trials that remain: the only caller of ray.tune.Tuner. Ray executes, the study remembers."""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray import tune
from ray.tune import (
    Callback,
    CheckpointConfig,
    PlacementGroupFactory,
    ProgressReporter,
    RunConfig,
    Stopper,
    TuneConfig,
    Tuner,
)

from trainable.epoch_scores import EpochScores
from trainable.errors import StorageFailed, SweepFailed
from trainable.job import Assignment, Job
from trainable.redaction import one_line, plain
from trainable.storage.folders import write_text
from trainable.trial import STUCK, FineTuningTrial
from tune.cluster.nodes import autoscaler_now, nodes_now
from tune.cluster.plan import Plan, open_trials
from tune.cluster.ray_patches import no_keys_in_actors, tune_mended
from tune.cluster.temporary import temporary_folder
from tune.cluster.waiting_notice import WaitingNotices
from tune.process.signals import heed_signals
from tune.report.progress import Progress
from tune.report.tensorboard import TensorBoardLog
from tune.report.text import short
from tune.run_dir.layout import RunDir
from tune.run_dir.records import result_problem
from tune.spec.sweep_spec import SweepSpec
from tune.stopping_rules import STOPPING_RULES
from tune.sweep.halt import Halt
from tune.sweep.scheduler import StoppingScheduler
from tune.sweep.searcher import StudySearcher, TrialBook

LOOK_EVERY_S = 1.0  # for nodes that came or went
SAME_FAILURES = 5  # a sweep whose first trials all fail the same way would go on failing


def run_trials(
    spec: SweepSpec,
    plan: Plan,
    job: Job,
    run_dir: RunDir,
    book: TrialBook,
    progress: Progress,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run every trial that the book still has to issue; returns when the last one is closed.

    meanwhile: called in a thread of its own when the last trial was handed out
    Raises StorageFailed where a disk is full, SweepFailed where the first trials all fail the same way.
    """
    if book.remaining == 0:
        return
    rule = STOPPING_RULES[spec.scheduler].make(spec.mode, spec.reduction_factor)
    for record in book.records():
        for epoch in record.epochs:
            rule.report(record.number, epoch.schedule_percent, epoch.scores[spec.metric], epoch.scores["loss"])

    # One for each share, not for each trial: they are not small.
    shares = {2**i: PlacementGroupFactory([plan.resources(2**i)]) for i in range(plan.largest_multiplier.bit_length())}

    def resources(config: Mapping[str, Any]) -> PlacementGroupFactory:
        return shares[min(config["assignment"].memory_multiplier, plan.largest_multiplier)]

    halt = Halt()
    trainable = tune.with_resources(tune.with_parameters(FineTuningTrial, job=job), resources)
    # Tune writes pickles of its own; they live as long as this call, outside the run directory.
    with temporary_folder() as storage, tune_mended(), no_keys_in_actors():
        Tuner(
            trainable,
            tune_config=TuneConfig(
                search_alg=StudySearcher(book, halt, Room(spec, plan, progress), meanwhile),
                scheduler=StoppingScheduler(spec.metric, rule),
                num_samples=-1,  # the searcher says when it has finished: a trial may be run again
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial_{trial.config['assignment'].number}",
                trial_dirname_creator=lambda trial: f"{trial.config['assignment'].number}-{uuid.uuid4().hex[:8]}",
            ),
            run_config=RunConfig(
                name="sweep",
                storage_path=str(storage),
                verbose=0,
                stop=HaltStopper(halt),
                callbacks=[SweepCallback(run_dir, book, progress, halt, plan)],
                progress_reporter=SilentReporter(),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
            ),
        ).fit()
    if halt.error is not None:
        raise halt.error


class SilentReporter(ProgressReporter):
    """Tells nothing, because the sweep has a live table and a log of its own.

    In a notebook, Tune's default reporter would also erase all that the cell has printed so far.
    """

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        """Never."""
        return False


class Room:
    """How many trials may be open, as nodes come and go; tells the user when that changes what runs side by side."""

    def __init__(self, spec: SweepSpec, plan: Plan, progress: Progress) -> None:
        self._spec = spec
        self._plan = plan
        self._progress = progress
        self._slots = plan.slots
        self._limit = plan.slots
        self._looked_at: float | None = None

    def __call__(self) -> int:
        """The number of now, or of at most a second ago."""
        if not self._plan.elastic:
            return self._limit
        if self._looked_at is None or time.monotonic() > self._looked_at + LOOK_EVERY_S:
            with contextlib.suppress(Exception):  # a head that does not answer is the watch's business
                self._look()
            self._looked_at = time.monotonic()
        return self._limit

    def _look(self) -> None:
        slots = self._plan.slots_on(nodes_now())
        self._limit = open_trials(self._spec, slots, autoscaler_now())
        slots = min(slots, self._spec.num_trials, self._spec.max_concurrent or slots)
        if slots != self._slots:
            self._progress.say(f"nodes came or went: {slots} trial{'' if slots == 1 else 's'} side by side now")
            self._slots = slots


class HaltStopper(Stopper):
    """Ends Tune's loop where the sweep is to halt."""

    def __init__(self, halt: Halt) -> None:
        self._halt = halt

    def __deepcopy__(self, memo: object) -> HaltStopper:
        return self  # Tune copies its settings; there is one halt

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep is to end now."""
        return self._halt.error is not None


class SweepCallback(Callback):
    """Every event of every trial, told in one order: study, TensorBoard, user."""

    def __init__(self, run_dir: RunDir, book: TrialBook, progress: Progress, halt: Halt, plan: Plan) -> None:
        self._run_dir = run_dir
        self._book = book
        self._progress = progress
        self._halt = halt
        self._plan = plan
        self._waiting = WaitingNotices(progress.say)
        self._tensorboard = TensorBoardLog(run_dir)
        self._open: set[int] = set()
        self._closed: set[str] = set()
        self._failures: list[str] = []
        self._some_trial_ended_well = book.leader is not None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into a snapshot that nobody reads

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune's loop went round, some ten times a second whatever happens."""
        heed_signals()
        with self._halt.on_error():
            pending = [] if self._open else [trial for trial in trials if trial.status == "PENDING"]
            shares = [
                min(trial.config["assignment"].memory_multiplier, self._plan.largest_multiplier) for trial in pending
            ]
            self._waiting.tick(self._plan.resources(min(shares)) if shares else None)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker took the trial."""
        with self._halt.on_error():
            number = trial.config["assignment"].number
            self._open.add(number)
            config = trial.config["assignment"].config
            self._tensorboard.start(number, config)
            self._progress.started(number, config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch came in."""
        if self._halt.error is not None or result_problem(result) is not None:
            return
        with self._halt.on_error():
            number = trial.config["assignment"].number
            where = {name: result[name] for name in ("hostname", "pid", "start_s", "bytes_written")}
            self._book.record_epochs(number, [{**metrics, **where} for metrics in result["history"]])
            epoch = EpochScores.from_json(result["history"][-1])
            self._tensorboard.epoch(number, epoch)
            self._progress.epoch(number, epoch)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial's schedule is done, or it was stopped early, or it reported its own failure."""
        with self._halt.on_error():
            if self._is_over(trial):
                return
            result = trial.last_result
            # Tune keeps running statistics of every metric of every trial to the end, 40 KB a trial.
            trial.run_metadata.metric_analysis.clear()
            trial.run_metadata.metric_n_steps.clear()
            problem = result_problem(result)
            if problem is not None:
                self._end_badly(trial, problem, problem, result.get("kind", "failed"))
            elif result["schedule_percent"] >= 100:
                self._close(trial, TrialState.COMPLETE)
            else:
                self._close(trial, TrialState.PRUNED)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial raised, or its worker died."""
        with self._halt.on_error():
            if self._is_over(trial):
                return
            file = Path(trial.error_file) if trial.error_file else None
            text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
            text = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()  # Ray colours its tracebacks
            kind, reason = why_it_failed(text)
            stuck = self._run_dir.trial(trial.config["assignment"].number) / STUCK
            if kind == "died" and stuck.is_file() and stuck.stat().st_size:
                text = f"{text}\n\nWhere the epoch stood:\n{stuck.read_text(encoding='utf-8')}"
                reason = "an epoch took more than twice as long as earlier ones suggest"
                stuck.unlink()
            self._end_badly(trial, text or reason, reason, kind)

    def _is_over(self, trial: Any) -> bool:
        """Whether the sweep halts, or Tune tells twice of one end: then the trial stays as it is in the study."""
        over = self._halt.error is not None or trial.trial_id in self._closed
        self._closed.add(trial.trial_id)
        return over

    def _end_badly(self, trial: Any, text: str, reason: str, kind: str) -> None:
        number = trial.config["assignment"].number
        if kind == "storage":
            raise StorageFailed(f"trial {number} {reason}; what is finished is kept")
        if kind == "died":
            wait_s = self._book.run_again(number)
            if wait_s is not None:
                self._set_aside(number, f"{reason}; it goes on from its last state in {wait_s:g} s")
                return
            tries = self._book.spec.max_retries + 1
            reason = f"{reason}; it was tried {tries} times" if tries > 1 else reason
        if kind == "memory":
            share = self._book.run_with_larger_share(number, self._plan.largest_multiplier)
            if share is not None:
                self._set_aside(number, f"{reason}; it will be run with {share} times the share of the others")
                return
            reason = f"infeasible: {reason}, with all that one machine can give it"
        self._fail(trial, text, reason)

    def _set_aside(self, number: int, why: str) -> None:
        self._progress.set_aside(number, why)
        self._end_events(number)

    def _fail(self, trial: Any, text: str, reason: str) -> None:
        text, reason = plain(text), one_line(reason)
        assignment: Assignment = trial.config["assignment"]
        number, config = assignment.number, assignment.config
        where = self._run_dir.failure(number)
        where.parent.mkdir(parents=True, exist_ok=True)
        write_text(where, f"{text.rstrip()}\n\nconfiguration: {short(config)}\nseed: {assignment.seed}\n")
        told = self._run_dir.storage.name_of(where)
        self._progress.failed(number, config, text, told)
        self._close(trial, TrialState.FAIL, reason)
        self._failures.append(re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "N", reason))
        if not self._some_trial_ended_well and len(self._failures) == SAME_FAILURES and len(set(self._failures)) == 1:
            raise SweepFailed(
                f"the first {SAME_FAILURES} trials all failed the same way: {reason}\n"
                f"log: {told}\nThe same command tries the trials that are left."
            )

    def _close(self, trial: Any, state: TrialState, failure: str | None = None) -> None:
        number = trial.config["assignment"].number
        record = self._book.finish(number, state, failure)
        self._some_trial_ended_well |= state != TrialState.FAIL
        self._end_events(number)
        self._progress.finished(record, self._book.leader)

    def _end_events(self, number: int) -> None:
        if number in self._open:  # a worker that dies while it starts never took the trial
            self._open.remove(number)
            self._tensorboard.finish(number)


def why_it_failed(text: str) -> tuple[str, str]:
    """What Ray's account of an error means, "failed", "died" or "memory", and the reason in a line."""
    last = text.rpartition("\n")[2].strip() or "the worker died without a word"
    if "OutOfMemoryError" in text or "MemoryError" in text:
        return "memory", last
    # Ray heads what a worker raised with "ray::" and the worker's name; a worker that is gone told nothing.
    return ("failed", last) if "ray::" in text else ("died", f"its worker died ({last})")
