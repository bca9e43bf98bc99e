"""The report is read back as it was written, and what is not a report is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.tune.test_shown import report_of
from trainable.config import TrialConfig
from trainable.metrics import METRICS
from tune.report.building import warnings_of
from tune.report.results import SweepReport, Winner
from tune.report.words import summary

WHOLE = report_of("harmless", trials=[]).as_json()


def test_a_report_is_read_back_as_it_was_written() -> None:
    again = SweepReport.from_json(json.loads(json.dumps(WHOLE)))
    assert again.as_json() == WHOLE
    assert again.best.config == TrialConfig.from_values(WHOLE["best"]["config"])
    assert list(WHOLE["test"]) == [*METRICS, "rows"]


def test_best_is_told_the_same_as_the_report() -> None:
    report = SweepReport.from_json(WHOLE)
    told = report.best_as_json()
    assert told == {**WHOLE["best"], "test": WHOLE["test"], "majority": WHOLE["majority"], "sweep": WHOLE["sweep"]}


@pytest.mark.parametrize("key", [key for key in WHOLE if key == "sweep" or SweepReport.model_fields[key].is_required()])
def test_a_report_that_lacks_a_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        SweepReport.from_json({name: value for name, value in WHOLE.items() if name != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("wall_s", "12"),
        ("wall_s", float("nan")),
        ("best", []),
        ("best", {**WHOLE["best"], "trial": "0"}),
        ("best", {**WHOLE["best"], "config": {"learning_rate": -1}}),
        ("best", {**WHOLE["best"], "config": None}),
        ("test", {"loss": 0.5}),
        ("test", {**WHOLE["test"], "loss": None}),
        ("majority", {"test": {}}),
        ("trials", [{}]),
        ("mode", "best"),
        ("label_names", "ab"),
        ("warnings", [1]),
    ],
)
def test_a_report_with_a_wrong_value_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        SweepReport.from_json({**WHOLE, key: value})


def test_a_winner_that_learned_nothing_is_told() -> None:
    guess = WHOLE["majority"]["test"]
    low = Winner.model_validate(
        {**WHOLE["best"], "validation": {**WHOLE["best"]["validation"], **guess}, "collapsed": True}
    )
    warnings = warnings_of(report_of("harmless", best=low, trials=[]))
    assert [line.partition(" (")[0] for line in warnings] == [
        "the winner does not beat always answering the most frequent class on validation",
        "the winner does not beat always answering the most frequent class on test",
        "the winner gives every validation row the same class",
    ]


def test_every_metric_has_its_column_on_the_terminal() -> None:
    heading, *rows = [line for line in summary(report_of("harmless", warnings=[])) if line.startswith((" ", "test"))]
    assert heading.split() == [metric.column for metric in METRICS.values()]
    assert len(rows[0].split()) == 1 + len(METRICS)


@pytest.mark.parametrize(("metric", "is_told"), [("f1", False), ("accuracy", True), ("loss", False)])
def test_a_winner_on_unequal_classes_is_judged_by_the_metric_that_was_searched(metric: str, is_told: bool) -> None:
    """Nine rows of ten are of one class: the guess has accuracy 0.9 and macro F1 0.47."""
    guess = {"accuracy": 0.9, "f1": 0.47}
    scores = {**dict.fromkeys(METRICS, 0.5), "accuracy": 0.88, "f1": 0.7}
    report = report_of("harmless", metric=metric, trials=[])
    report = report_of(
        "harmless",
        metric=metric,
        trials=[],
        best=report.best.model_copy(update={"validation": scores}),
        test=report.test and report.test.model_copy(update={"scores": scores}),
        majority=report.majority.model_copy(update={"validation": guess, "test": guess}),
    )
    told = [line for line in warnings_of(report) if "learned little" in line]
    assert len(told) == 2 * is_told
