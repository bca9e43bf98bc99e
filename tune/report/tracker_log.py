"""Hands what happens to a tracker, in a thread of its own: a tracker that fails or hangs costs the sweep nothing.

What a tracker has is noted in the run directory, in log_to/NAME.jsonl. From these notes and the study, a driver that
goes on logs what is missing, and nothing twice: after a kill, after a tracker's failure, or where `--log-to` is new.
"""

from __future__ import annotations

import contextlib
import json
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, cast

from trainable.job import Assignment
from trainable.redaction import one_line
from tune.report.results import SweepReport
from tune.report.score_logs import epoch_scalars, rung_scalars, rung_step
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec
from tune.trackers import TRACKERS
from tune.trackers.base import Axis, TrackedSweep, TrackedTrial, Tracker, TrialEnd

MAX_WAITING = 20_000  # events; a tracker that is so far behind does not answer
END_LIMIT_S = 30.0  # how long a finished sweep waits for a tracker
INTERRUPT_LIMIT_S = 10.0  # how long a sweep that is stopped waits
Event = Callable[[Tracker], None]


class LoggedNotes:
    """What a tracker has of each trial: the last step on each axis, and how the trial ended. A line for each note."""

    def __init__(self, file: Path) -> None:
        """Read the notes that there are; a half line that a killed driver left is left out."""
        self._file = file
        self._steps: dict[tuple[int, str], int] = {}
        self._ends: dict[int, str] = {}
        written = file.read_text(encoding="utf-8") if file.exists() else ""
        whole, end, half = written.rpartition("\n")
        if half:
            file.write_text(whole + end, encoding="utf-8")
        for line in whole.splitlines():
            self._take(*json.loads(line))

    def forget(self) -> None:
        """Begin anew: the tracker has nothing."""
        self._file.unlink(missing_ok=True)
        self._steps.clear()
        self._ends.clear()

    def has(self, number: int, axis: str, step: int) -> bool:
        """Whether a trial's points at a step were logged."""
        return step <= self._steps.get((number, axis), -1)

    def has_ended(self, number: int) -> bool:
        """Whether a trial's end was logged."""
        return number in self._ends

    def note(self, number: int, what: str, value: int | str) -> None:
        """Note a step on an axis, or the `end` of a trial."""
        self._take(number, what, value)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as notes:
            notes.write(json.dumps([number, what, value]) + "\n")

    def _take(self, number: int, what: str, value: int | str) -> None:
        if isinstance(value, str):
            self._ends[number] = value
        else:
            self._steps[number, what] = max(value, self._steps.get((number, what), -1))


class TrackerLog:
    """A ScoreLog over a tracker. After the first failure it takes events and does nothing with them."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Tracker],
        notes_file: Path,
        earlier: Sequence[TrialRecord],
        say: Callable[[str], None],
    ) -> None:
        """Start the thread. First it logs what the study has and the tracker lacks.

        Args:
            name: The tracker's.
            make: Connects to it.
            notes_file: What the tracker has, by the notes of earlier drivers.
            earlier: The trials that earlier drivers have run.
            say: Tells the user; is called where events come from.
        """
        self._name = name
        self._make = make
        self._notes_file = notes_file
        self._earlier = earlier
        self._say = say
        self._events: queue.Queue[Event | None] = queue.Queue(MAX_WAITING)
        self._problem: str | None = None
        self._where: str | None = None
        self._told = False
        self._open: set[int] = set()  # trials with a run that is open; the thread's
        self._thread = Thread(target=self._work, name=f"log to {name}", daemon=True)
        self._thread.start()

    def start(self, assignment: Assignment) -> None:
        """Open a trial's run."""
        config, number = assignment.config.named(), assignment.number
        trial = TrackedTrial(number, config, assignment.seed, assignment.confirms)
        self._put(lambda tracker: self._open_trial(tracker, trial))

    def log(self, number: int, scores: Mapping[str, float], axis: Axis, step: int) -> None:
        """Add points to a trial's run."""
        self._put(lambda tracker: self._log_once(tracker, number, scores, axis, step))

    def finish(self, number: int, record: TrialRecord | None) -> None:
        """Close a trial's run."""
        state = None if record is None else record.state
        self._put(lambda tracker: self._close_trial(tracker, number, state))

    def result(self, report: SweepReport) -> None:
        """Write the result to the parent run."""
        scores = {f"validation/{name}": score for name, score in report.best.validation.items()}
        if report.test is not None:
            scores |= {f"test/{name}": score for name, score in report.test.scores.items()}
        best = {"trial": report.best.trial, **report.best.config.named()}
        self._put(lambda tracker: tracker.log_result(scores, best))

    def end(self, finished: bool) -> None:
        """Let the tracker close, once it has taken everything; `finished` says whether the sweep is."""
        self._put(lambda tracker: tracker.close(finished))
        with contextlib.suppress(queue.Full):
            self._events.put_nowait(None)

    def wait(self, limit_s: float) -> None:
        """Wait for the end, for a limited time."""
        self._thread.join(limit_s)
        if self._thread.is_alive():
            self._problem = self._problem or "it has not taken everything in the time that it was given"
        self._tell()
        if self._problem is None and self._where is not None:
            self._say(f"{self._name}: {self._where}")

    def _put(self, event: Event) -> None:
        if self._problem is None:
            try:
                self._events.put_nowait(event)
            except queue.Full:
                self._problem = f"it does not answer, and {MAX_WAITING} events wait for it"
        self._tell()

    def _tell(self) -> None:
        """Say, once, that the tracker was given up."""
        if self._problem is not None and not self._told:
            self._told = True
            what = "the same command logs what is missing, once that is mended"
            self._say(f"warning: nothing more is logged to {self._name}: {self._problem}; {what}")

    # In the thread

    def _work(self) -> None:
        try:
            notes = self._notes = LoggedNotes(self._notes_file)
            tracker = self._make()
            if not tracker.open_sweep():
                notes.forget()
            self._where = tracker.where()
            for record in self._earlier:
                self._catch_up(tracker, record)
            while (event := self._events.get()) is not None and self._problem is None:
                event(tracker)
        except BaseException as error:  # whatever a tracker does, SystemExit too, is no matter of the sweep
            self._problem = one_line(f"{type(error).__name__}: {error}")[:500]

    def _catch_up(self, tracker: Tracker, record: TrialRecord) -> None:
        number = record.number
        if record.state == "WAITING" or self._notes.has_ended(number) or self._problem is not None:
            return
        self._open_trial(tracker, TrackedTrial(number, record.config.named(), record.seed, record.confirms))
        for rung in record.rungs:
            self._log_once(tracker, number, rung_scalars(rung), "schedule_percent", rung_step(rung))
        for epoch in record.epochs:
            self._log_once(tracker, number, epoch_scalars(epoch), "epoch", epoch.epoch)
        if record.state != "RUNNING":  # else it is going to run again
            self._close_trial(tracker, number, record.state)

    def _open_trial(self, tracker: Tracker, trial: TrackedTrial) -> None:
        if trial.number not in self._open:
            tracker.open_trial(trial)
            self._open.add(trial.number)

    def _log_once(self, tracker: Tracker, number: int, scores: Mapping[str, float], axis: Axis, step: int) -> None:
        if not self._notes.has(number, axis, step):
            tracker.log(number, scores, axis, step)
            self._notes.note(number, axis, step)

    def _close_trial(self, tracker: Tracker, number: int, state: str | None) -> None:
        self._open.discard(number)
        tracker.close_trial(number, cast(TrialEnd | None, state))
        if state is not None:
            self._notes.note(number, "end", state)


@contextlib.contextmanager
def tracker_logs(
    spec: SweepSpec,
    sweep_id: str | None,
    run_dir: RunDir,
    earlier: Sequence[TrialRecord],
    say: Callable[[str], None],
) -> Iterator[list[TrackerLog]]:
    """The logs that `--log-to` asks for, open inside the context.

    Args:
        spec: The sweep.
        sweep_id: Tells it from all others.
        run_dir: Its run directory.
        earlier: The trials that earlier drivers have run.
        say: Tells the user.
    """
    same: dict[str, Any] = {name: getattr(spec, name) for name in ("model", "dataset", "metric", "mode", "seed")}
    sweep = TrackedSweep(spec.name, sweep_id or spec.name, same, spec.num_trials)
    logs = [
        TrackerLog(name, partial(TRACKERS[name].make, sweep), run_dir.tracker_notes(name), earlier, say)
        for name in spec.log_to or ()
    ]
    finished = False
    try:
        yield logs
        finished = True
    finally:
        ends_at = time.monotonic() + (END_LIMIT_S if finished else INTERRUPT_LIMIT_S)
        for log in logs:
            log.end(finished)
        for log in logs:
            log.wait(max(ends_at - time.monotonic(), 0))
