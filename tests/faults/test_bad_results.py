"""A metric that is no number ends its trial within the epoch, by name; it never wins and is never tried again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults.broken import BAD_VALUES, MISSING
from tests.faults.sweeps import ledger_of, sweep
from tests.tune.test_searcher import epoch, leave_model, make_book
from trainable.epoch_scores import NUMBERS
from trainable.metrics import METRICS
from tune.cluster.plan import Plan
from tune.report.progress import Progress
from tune.report.score_logs import ScoreLogs
from tune.report.tensorboard import TensorBoardLog
from tune.run_dir.records import result_problem
from tune.stopping_rules.asha import SuccessiveHalving
from tune.sweep.callback import SweepCallback
from tune.sweep.failures import SAME_FAILURES
from tune.sweep.halt import Halt
from tune.sweep.heartbeats import Heartbeats
from tune.sweep.scheduler import StoppingScheduler

REPORTED = (*METRICS, *NUMBERS)  # the numbers that a worker must report of every epoch


class Controller:
    """What Tune does with the callback: a trial a worker, epoch by epoch."""

    def __init__(self, folder: Path) -> None:
        self.book = make_book(folder)
        self.halt = Halt()
        self.progress = Progress(self.book.spec, folder / "log.txt", out=StringIO()).__enter__()
        self.callback = SweepCallback(
            self.book.run_dir,
            self.book,
            self.progress,
            self.halt,
            Plan(1, 1.0, 0.0, largest_multiplier=2),
            Heartbeats(cast(Any, SimpleNamespace(read=dict))),
            ScoreLogs([TensorBoardLog(self.book.run_dir)]),
        )
        self.scheduler = StoppingScheduler("f1", SuccessiveHalving("max", 2.0))

    def start(self) -> Any:
        assignment = self.book.issue()
        assert assignment is not None
        trial = SimpleNamespace(
            config={"assignment": assignment}, trial_id=f"{assignment.number} {id(assignment)}",
            last_result={}, error_file=None,
            run_metadata=SimpleNamespace(metric_analysis={}, metric_n_steps={}),
        )  # fmt: skip
        self.callback.on_trial_start(0, [], trial)
        return trial

    def report(self, trial: Any, number: int, **changes: Any) -> str:
        """One epoch; closes the trial where the decision is to stop or the schedule is done."""
        result = {**epoch(number, 0.5).as_json(), **changes}
        result = {name: value for name, value in result.items() if value is not MISSING}
        trial.history = [*getattr(trial, "history", []), {**epoch(number, 0.5).as_json(), **changes}]
        result |= {
            "history": trial.history,
            "hostname": "h",
            "pid": 1,
            "start_s": 0.0,
            "bytes_written": 0,
            "segment": number,
        }
        decision = self.scheduler.on_trial_result(None, trial, result)
        self.callback.on_trial_result(0, [], trial, result)
        trial.last_result = result
        if decision == "STOP" or result["schedule_percent"] == 100:
            self.callback.on_trial_complete(0, [], trial)
        return decision


Begin = Callable[[], Controller]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins the sweep in tmp_path, or goes on with it."""
    begun: list[Controller] = []

    def new() -> Controller:
        begun.append(Controller(tmp_path))
        return begun[-1]

    yield new
    for controller in begun:
        controller.progress.__exit__(None, None, None)


@pytest.mark.parametrize("metric", REPORTED)
@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize("at", [1, 3])
def test_what_is_no_number_ends_the_trial_at_once(begin: Begin, tmp_path: Path, metric: str, bad: str, at: int) -> None:
    run = begin()
    good, broken = run.start(), run.start()
    for number in range(1, at):
        run.report(broken, number, f1=0.99)
    assert run.report(broken, at, **{metric: BAD_VALUES[bad]}) == "STOP"
    leave_model(run.book, good.config["assignment"].number)
    run.report(good, 1, f1=0.2, schedule_percent=100.0)
    assert run.halt.error is None
    record, other = run.book.records()[1], run.book.records()[0]
    assert (other.state, record.state) == ("COMPLETE", "FAIL")
    assert record.failure is not None
    assert record.failure.startswith(f"{metric} of epoch {at} is ")
    assert len(record.epochs) == at - 1, "what is no number stands in the study"
    assert run.book.leader is not None
    assert run.book.leader.number == 0
    assert run.book.issue() is None or run.book.remaining == run.book.spec.num_trials - 2
    assert "must be a finite number" in (tmp_path / "trials" / "1" / "failure.txt").read_text()


def test_a_sound_result_has_no_problem() -> None:
    assert result_problem(epoch(1, 0.5).as_json()) is None
    assert result_problem({**epoch(1, 0.5).as_json(), "f1": True}) is not None


def test_the_sweep_stops_where_its_first_trials_fail_the_same_way(begin: Begin) -> None:
    run = begin()
    for number in range(SAME_FAILURES):
        assert run.halt.error is None
        run.report(run.start(), 1, loss=float("nan"), train_loss=1.0 + number)
    assert str(run.halt.error).startswith("the first 5 trials all failed the same way: loss of epoch 1 is nan")


@pytest.mark.parametrize("other", ["one that ends well", "another reason", "a model from before"])
def test_it_goes_on_where_they_differ(begin: Begin, other: str) -> None:
    if other == "a model from before":
        before = begin()
        trial = before.start()
        leave_model(before.book, 0)
        before.report(trial, 1, schedule_percent=100.0)
    run = begin()
    for number in range(SAME_FAILURES):
        trial = run.start()
        if number == 2 and other == "one that ends well":
            leave_model(run.book, trial.config["assignment"].number)
            run.report(trial, 1, schedule_percent=100.0)
        elif number == 2 and other == "another reason":
            run.report(trial, 1, f1=float("nan"))
        else:
            run.report(trial, 1, loss=float("nan"))
    assert run.halt.error is None


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_real_sweep_whose_trials_all_diverge_stops_by_itself(tmp_path: Path, tiny_model: Path) -> None:
    done = sweep(tmp_path, tiny_model, trials=9, faults=[{"what": "nan"}])
    assert done.returncode == 1
    assert "the first 5 trials all failed the same way: f1 of epoch 1 is nan" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(ledger_of(tmp_path)) <= 6, "trials ran on"
    again = sweep(tmp_path, tiny_model, trials=9)
    assert again.returncode == 0, again.stderr
    states = [row["state"] for row in json.loads((tmp_path / "run" / "report.json").read_text())["trials"]]
    assert states.count("FAIL") == 9 - states.count("COMPLETE") <= 6


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_bad_numbers_in_a_real_sweep_touch_their_trials_only(tmp_path: Path, tiny_model: Path) -> None:
    faults = [{"what": bad, "trial": number, "epoch": 2} for number, bad in enumerate(BAD_VALUES, 1)]
    faults.append({"what": "odd", "trial": 6, "epoch": 1})
    done = sweep(tmp_path, tiny_model, trials=8, faults=faults)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [row["state"] for row in report["trials"]] == ["COMPLETE", *["FAIL"] * 6, "COMPLETE"]
    assert report["trials"][6]["failure"].endswith("OddError: an error without a home")
    trained = ledger_of(tmp_path)
    assert len(trained) == len(set(trained)), "what would fail the same way was tried again"
    assert not [line for line in trained if line[0] in range(1, 6) and line[1] > 2], "a broken trial went on"


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_learning_rate_of_a_thousand_never_wins(tmp_path: Path, tiny_model: Path) -> None:
    points = [
        {"learning_rate": 1e3, "batch_size": 8, "epochs": 2},
        {"learning_rate": 3e-3, "batch_size": 8, "epochs": 4},
    ]
    done = sweep(tmp_path, tiny_model, trials=2, points=points)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "report.json").read_text())["best"]["trial"] == 1
