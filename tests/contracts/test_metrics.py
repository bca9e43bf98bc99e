"""What every score must do, whichever it is: a new one in METRICS is tested here without a change."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainable.runs import make_job
from tests.trainable.test_metrics import as_labels, by_class, random_confusion
from tests.tune.test_shown import report_of
from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores
from trainable.job import Assignment
from trainable.metrics import METRICS, F1Average, Metric, accuracy, majority_scores, scores
from trainable.train.run import FineTuningRun
from tune.report.html_page import html_page
from tune.report.model_card import model_card
from tune.report.progress import Progress
from tune.report.results import SweepReport
from tune.report.score_logs import ScoreLogs
from tune.report.tensorboard import TensorBoardLog
from tune.report.words import summary
from tune.run_dir.layout import RunDir
from tune.spec.sweep_spec import SweepSpec

# An independent opinion on each score that somebody else computes too: from true classes, predicted ones, the average.
REFERENCES: dict[str, Callable[[list[int], list[int], str], float]] = {
    "accuracy": lambda true, predicted, average: accuracy_score(true, predicted),
    "f1": lambda true, predicted, average: f1_score(true, predicted, average=average, zero_division=0),
    "matthews_correlation": lambda true, predicted, average: matthews_corrcoef(true, predicted),
}

every_metric = pytest.mark.parametrize("name", list(METRICS))
both_averages = pytest.mark.parametrize("average", ["binary", "macro"])

Counts = list[list[int]]


def some_confusions(seed: int, classes: int = 2) -> list[Counts]:
    """Confusion matrices, among them some with classes that have no row or are never predicted."""
    generator = random.Random(seed)
    return [
        [[generator.choice([0, 1, 7, 40]) for _ in range(classes)] for _ in range(classes - 1)] + [[1] * classes]
        for _ in range(50)
    ]


def score(name: str, confusion: Counts, average: F1Average = "macro", loss_sum: float = 0.0) -> float:
    return METRICS[name].compute(by_class(confusion), loss_sum, average)


def perfect(confusion: Counts) -> Counts:
    """The same rows, each with its right class."""
    return [[sum(row) if i == j else 0 for j in range(len(confusion))] for i, row in enumerate(confusion)]


@every_metric
def test_it_is_known_by_its_own_name(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert name.isidentifier()
    assert metric.direction in ("max", "min")
    assert metric.title.strip() == metric.title != ""


def test_no_two_look_alike() -> None:
    for shown in ({m.column for m in METRICS.values()}, {m.tag for m in METRICS.values()}):
        assert len(shown) == len(METRICS)
    assert all(metric.width > len(metric.column) for metric in METRICS.values()), "columns would touch"


@every_metric
@both_averages
def test_it_is_a_finite_number_for_all_counts(name: str, average: F1Average) -> None:
    edges = [[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]], [[0, 0], [1, 0]]]
    for confusion in [*edges, *some_confusions(1)]:
        found = score(name, confusion, average, 0.5)
        assert isinstance(found, float)
        assert math.isfinite(found)


@every_metric
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_nothing_is_better_than_being_right(name: str, classes: int) -> None:
    sign = 1.0 if METRICS[name].direction == "max" else -1.0
    for confusion in some_confusions(2, classes):
        assert sign * score(name, perfect(confusion)) >= sign * score(name, confusion) - 1e-12


@every_metric
@both_averages
def test_twice_the_same_rows_score_the_same(name: str, average: F1Average) -> None:
    for confusion in some_confusions(3):
        twice = [[2 * cell for cell in row] for row in confusion]
        assert score(name, twice, average, 3.0) == pytest.approx(score(name, confusion, average, 1.5), rel=1e-12)


@every_metric
def test_it_does_not_depend_on_the_order_of_the_classes(name: str) -> None:
    for confusion in some_confusions(4, 3):
        turned = [[confusion[i][j] for j in (2, 0, 1)] for i in (2, 0, 1)]
        assert score(name, turned, loss_sum=1.5) == pytest.approx(score(name, confusion, loss_sum=1.5), rel=1e-12)


@every_metric
@both_averages
def test_it_tells_what_always_answering_one_class_gets(name: str, average: F1Average) -> None:
    metric = METRICS[name]
    scored = majority_scores([3, 7], [4, 6], average)
    if metric.majority is None:
        assert metric.majority_score(scored) is None
    else:
        assert metric.majority_score(scored) == score(name, [[0, 4], [0, 6]], average)


def test_the_table_is_light() -> None:
    """`--help` reads it."""
    script = "import sys, trainable.metrics; assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", list(REFERENCES))
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.filterwarnings("ignore:.*single label.*:UserWarning", "ignore:A single label")
def test_it_equals_scikit_learns_to_the_last_digit(name: str, seed: int) -> None:
    generator = random.Random(seed)
    classes = generator.choice([2, 2, 3, 7])
    confusion = random_confusion(generator, classes, collapse=seed % 4 == 0)
    confusion[0][0] += 1
    averages: tuple[F1Average, ...] = ("binary", "macro") if classes == 2 else ("macro",)
    for average in averages:
        assert score(name, confusion, average) == REFERENCES[name](*as_labels(confusion), average)


TOY = Metric("errors", "min", "Errors", lambda by_class, loss_sum, average: 1 - accuracy(by_class), majority="scored")


def test_one_new_entry_adds_a_score(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is computed, kept, stored, read back and ranked by; nothing else was told of it."""
    monkeypatch.setitem(METRICS, "errors", TOY)
    run = FineTuningRun(make_job(tiny_model, metric="errors", mode="min"))
    run.reset(TrialConfig(learning_rate=3e-3, batch_size=8, epochs=3), 1)
    while not run.done:
        run.next_epoch()
    for epoch in run.history:
        assert epoch.scores["errors"] == 1 - epoch.scores["accuracy"]
        assert EpochScores.from_json(epoch.as_json()) == epoch
    assert run.best is not None
    assert run.best.scores["errors"] == min(epoch.scores["errors"] for epoch in run.history)
    assert scores(by_class([[3, 1], [0, 4]]), 1.0, "binary")["errors"] == 0.125
    assert majority_scores([1, 2], [5, 15], "binary")["errors"] == 0.25


def test_a_score_that_is_newer_than_a_study_is_missing_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "errors", TOY)
    older: dict[str, Any] = {name: 0.5 for name in METRICS if name != "errors"}
    times = dict.fromkeys([f.name for f in dataclasses.fields(EpochScores) if f.type == "float"], 1.0)
    read = EpochScores.from_json({"epoch": 1, **times, **older, "collapsed": False})
    assert "errors" not in read.scores


def test_one_new_entry_is_shown_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the report's files, on the screen, in the log and in TensorBoard; nothing else was told of it."""
    monkeypatch.setitem(METRICS, "errors", TOY)
    report = report_of("demo", trials=[])
    assert report.as_json()["test"]["errors"] == 0.5
    assert SweepReport.from_json(json.loads(json.dumps(report.as_json()))) == report
    for page in (html_page(report), model_card(report), "\n".join(summary(report))):
        assert "errors" in page.lower()

    epoch = EpochScores(1, 50.0, 0.7, dict.fromkeys(METRICS, 0.25), False, 1e-3, 9.0, 0.0, 1.0, 1.0, 100.0)
    with Progress(SweepSpec(name="s", model="m", dataset="d"), tmp_path / "log.txt", out=StringIO()) as progress:
        progress.started(0, TrialConfig(epochs=2))
        progress.epoch(0, epoch)
    assert "errors 0.2500" in (tmp_path / "log.txt").read_text()

    board = ScoreLogs([TensorBoardLog(RunDir(tmp_path))])
    board.start(Assignment(0, 1, TrialConfig(), folder=""))
    board.epoch(0, epoch)
    board.finish(0, None)
    events = EventAccumulator(str(tmp_path / "trials" / "0"))
    events.Reload()
    assert [point.value for point in events.Scalars("validation/errors")] == [0.25]
