"""Trackers that fail, hang or do not keep up: the sweep goes on, and the user is told once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_trackers import assignment, record
from tests.tune.test_searcher import epoch
from tune.report import tracker_log
from tune.report.score_logs import ScoreLogs
from tune.report.tracker_log import LoggedNotes, tracker_logs
from tune.run_dir.layout import RunDir
from tune.spec.sweep_spec import SweepSpec
from tune.trackers import TRACKERS, missing_trackers
from tune.trackers.base import TrackerEntry

Called = tuple[str, tuple[Any, ...]]


class ToyTracker:
    """Remembers its calls, and answers each as a test wants it."""

    def __init__(self, on_call: Callable[[str], None] = lambda name: None, found: bool = True) -> None:
        self.calls: list[Called] = []
        self._on_call = on_call
        self._found = found

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            self._on_call(name)
            self.calls.append((name, given))
            return {"open_sweep": self._found, "where": "there"}.get(name)

        return call

    @property
    def steps(self) -> list[int]:
        return [given[3] for name, given in self.calls if name == "log"]


def sweep(
    folder: Path, monkeypatch: pytest.MonkeyPatch, toy: ToyTracker, epochs: range = range(1, 4), **earlier: Any
) -> list[str]:
    """A trial of a driver; returns what the user is told."""
    monkeypatch.setitem(TRACKERS, "mlflow", TrackerEntry("mlflow", lambda sweep: toy))  # type: ignore[arg-type,return-value]
    spec = SweepSpec(name="s", model="m", dataset="d", log_to="mlflow")
    said: list[str] = []
    with tracker_logs(spec, "id", RunDir(folder), earlier.get("records", []), said.append) as trackers:
        logs = ScoreLogs(trackers)
        logs.start(assignment(0))
        for number in epochs:
            logs.epoch(0, epoch(number, 0.5))
        logs.finish(0, record(0, "COMPLETE", 3))
    return said


@pytest.mark.parametrize("method", ["open_sweep", "open_trial", "log", "close_trial", "close"])
@pytest.mark.parametrize("error", [OSError("the disk is full\n  line 2"), SystemExit(3)])
def test_a_tracker_that_fails_is_told_once(
    method: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        if name == method:
            raise error

    (said,) = sweep(tmp_path, monkeypatch, ToyTracker(fail))
    assert said.startswith("warning: nothing more is logged to mlflow: ")
    assert type(error).__name__ in said
    assert "\n" not in said


def test_a_tracker_that_hangs_costs_the_sweep_a_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_log, "END_LIMIT_S", 0.5)
    let_go = threading.Event()
    try:
        began = time.monotonic()
        (said,) = sweep(tmp_path, monkeypatch, ToyTracker(lambda name: let_go.wait(60) and None), range(1, 1000))
        assert time.monotonic() - began < 20
    finally:
        let_go.set()
    assert "it has not taken everything" in said


def test_a_tracker_that_is_far_behind_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_log, "MAX_WAITING", 5)
    monkeypatch.setattr(tracker_log, "END_LIMIT_S", 0.1)
    let_go = threading.Event()
    try:
        (said,) = sweep(tmp_path, monkeypatch, ToyTracker(lambda name: let_go.wait(60) and None), range(1, 100))
    finally:
        let_go.set()
    assert "5 events wait for it" in said


def test_what_a_tracker_missed_is_logged_by_the_next_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: Iterator[int] = iter(range(100))

    def fail_late(name: str) -> None:
        if name == "log" and next(logged) == 1:
            raise OSError("gone")

    first = ToyTracker(fail_late)
    sweep(tmp_path, monkeypatch, first)
    assert first.steps == [1]
    with (tmp_path / "log_to" / "mlflow.jsonl").open("a") as notes:  # a killed driver leaves half a line
        notes.write("[0, ")
    second = ToyTracker()
    ended = record(0, "COMPLETE", 3)
    (said,) = sweep(tmp_path, monkeypatch, second, range(3, 4), records=[ended])
    assert said == "mlflow: there"
    assert second.steps == [2, 3]
    third = ToyTracker(found=False)  # another server, which knows nothing of the sweep
    sweep(tmp_path, monkeypatch, third, range(3, 4), records=[ended])
    assert third.steps == [1, 2, 3]


def test_notes_after_half_a_line_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('[0, "epoch", 1]\n[0, "ep')
    LoggedNotes(file).note(0, "epoch", 2)
    assert LoggedNotes(file).has(0, "epoch", 2)
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_a_package_that_is_missing_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "mlflow", TrackerEntry("no_such_package", lambda sweep: ToyTracker()))  # type: ignore[arg-type,return-value]
    (problem,) = missing_trackers(("mlflow",))
    assert problem == (
        '--log-to no_such_package: no_such_package is not installed: pip install "finetune-search[no_such_package]"'
    )
