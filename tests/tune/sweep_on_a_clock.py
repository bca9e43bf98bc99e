"""Sweeps whose trials take no time but that of a clock that the test turns: the real book, without Ray."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.tune.test_searcher import SPACE, epoch, leave_model
from trainable.epoch_scores import EpochScores
from trainable.job import Assignment
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.trial_book import TrialBook

EVAL_S = 1.0
TICK_S = 4.0  # the driver looks at the clock far more often


@dataclass
class ClockedSweep:
    """A sweep on a clock: its trials' epochs take `epoch_s`, and score what `value` says."""

    folder: Path
    clock: list[float]
    fields: dict[str, Any]
    slots: int = 2
    epoch_s: Callable[[random.Random], float] = lambda rng: 10.0
    value: Callable[[Assignment], float] = lambda trial: 0.5
    gpus: float = 0.0
    noise: float = 0.0
    early_percent: float = 0.0  # of the trials, which a stopping rule ends after their first epoch
    test_share: float = 1.0
    began_after_end: list[int] = field(default_factory=list)
    longest_epoch_s: float = 0.0

    def run(self, until_s: float = float("inf")) -> TrialBook:
        """Run a driver until the end, or until it is killed at a time of the clock."""
        self.folder.mkdir(exist_ok=True)
        given = {"name": "s", "model": "m", "dataset": "d", "space": SPACE, "num_trials": 1000, "sampler": "random"}
        spec = SweepSpec(**{**given, **self.fields})
        book = TrialBook(spec, RunDir(self.folder), test_share=self.test_share)
        book.watch(lambda: self.slots, lambda: self.gpus, lambda record: self.noise)
        running: list[tuple[float, int, Assignment, list[EpochScores], float]] = []
        while True:
            book.tick()
            while book.remaining and book.open < self.slots and (trial := book.issue()) is not None:
                if book.budget.ended_by is not None and trial.confirms is None and trial.number >= self._known(book):
                    self.began_after_end.append(trial.number)
                took = self.epoch_s(random.Random(trial.number))
                self.longest_epoch_s = max(self.longest_epoch_s, took + EVAL_S)
                history = list(book.records()[trial.number].epochs)
                heapq.heappush(running, (self.clock[0] + took + EVAL_S, trial.number, trial, history, took))
            if not book.remaining and not book.open:
                return book
            self.clock[0] = min(self.clock[0] + TICK_S, running[0][0]) if running else self.clock[0] + TICK_S
            if self.clock[0] >= until_s:
                return book
            while running and running[0][0] <= self.clock[0]:
                _, _, trial, history, took = heapq.heappop(running)
                if self._report(book, trial, history, took):
                    heapq.heappush(running, (self.clock[0] + took + EVAL_S, trial.number, trial, history, took))

    def _known(self, book: TrialBook) -> int:
        return sum(record.confirms is None for record in book.records())

    def _report(self, book: TrialBook, trial: Assignment, history: list[EpochScores], took: float) -> bool:
        """Report an epoch as a worker does; returns whether the trial goes on."""
        percent = 100 * (len(history) + 1) / trial.config.epochs
        scored = replace(
            epoch(len(history) + 1, self.value(trial)), schedule_percent=percent, train_s=took, eval_s=EVAL_S
        )
        history.append(scored)
        early = trial.confirms is None and random.Random(-trial.number - 1).random() < self.early_percent / 100
        stops = percent < 100 and (early or book.budget.must_stop(trial.number, scored))
        book.record_epochs(trial.number, history)
        if percent >= 100:
            leave_model(book, trial.number)
            book.finish(trial.number, TrialState.COMPLETE)
        elif stops:
            book.finish(trial.number, TrialState.PRUNED)
        return percent < 100 and not stops


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that every module takes for now; the test turns it on. Studies lie in memory, one for each folder."""
    now, studies = [1000.0], dict[Path, optuna.Study]()

    def in_memory(path: Path, mode: str, sweep_id: str | None) -> optuna.Study:
        if path not in studies:
            studies[path] = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
        return studies[path]

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr("tune.sweep.trial_book.open_study", in_memory)
    return now


def fresh_runs(records: tuple[TrialRecord, ...]) -> list[TrialRecord]:
    """The runs that train a finalist again."""
    return [record for record in records if record.confirms is not None]
