"""Contributions of rows: their mean is the score, and their spread is its standard error."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from trainable.metrics import METRICS, ClassCounts, F1Average
from tune.statistics import student
from tune.statistics.bootstrap import accuracy_and_f1_intervals
from tune.statistics.contributions import contributions

CASES: list[tuple[str, int, F1Average]] = [
    ("accuracy", 2, "binary"),
    ("f1", 2, "binary"),
    ("f1", 6, "macro"),
    ("matthews_correlation", 2, "binary"),
    ("matthews_correlation", 6, "macro"),
    ("loss", 6, "macro"),
]


def model(rows: int, classes: int, seed: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels, and the probabilities of a model that is often right."""
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.integers(classes + 1, size=rows), classes - 1)
    logits = generator.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def score(metric: str, labels: npt.NDArray[np.int64], given: npt.NDArray[np.float64], average: F1Average) -> float:
    answers = given.argmax(axis=1)
    by_class = [
        ClassCounts(int((labels == i).sum()), int((answers == i).sum()), int(((labels == i) & (answers == i)).sum()))
        for i in range(given.shape[1])
    ]
    loss = -np.log(given[np.arange(len(labels)), labels]).sum()
    return METRICS[metric].compute(by_class, float(loss), average)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("metric", "classes", "average"), CASES)
def test_the_mean_of_the_contributions_is_the_score(
    metric: str, classes: int, average: F1Average, grouped: bool
) -> None:
    labels, given = model(157, classes)
    groups = [f"text {i // 3}" for i in range(157)] if grouped else None
    of = contributions(metric, labels, given, average, groups)
    assert len(of) == (53 if grouped else 157)
    assert of.mean() == pytest.approx(score(metric, labels, given, average), abs=1e-12)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("metric", "classes", "average"), CASES)
def test_their_spread_is_the_standard_error_that_the_bootstrap_finds(
    metric: str, classes: int, average: F1Average, grouped: bool
) -> None:
    labels, given = model(600, classes)
    if grouped:  # every text stands twice
        labels, given = np.repeat(labels[:300], 2), np.repeat(given[:300], 2, axis=0)
    groups = [i // 2 for i in range(600)] if grouped else None
    of = contributions(metric, labels, given, average, groups)
    generator, drawn = np.random.default_rng(1), []
    for _ in range(1500):
        if grouped:
            pairs = generator.integers(300, size=300)
            rows = np.concatenate([2 * pairs, 2 * pairs + 1])
        else:
            rows = generator.integers(600, size=600)
        drawn.append(score(metric, labels[rows], given[rows], average))
    assert of.std() / math.sqrt(len(of)) == pytest.approx(np.std(drawn), rel=0.08)


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_they_agree_with_the_corrected_intervals(metric: Literal["accuracy", "f1"]) -> None:
    labels, given = model(800, 6)
    of = contributions(metric, labels, given, "macro")
    answers = given.argmax(axis=1).tolist()
    low, high = accuracy_and_f1_intervals(labels.tolist(), answers, range(800), None)[metric]
    assert 2 * 1.96 * of.std() / math.sqrt(800) == pytest.approx(high - low, rel=0.08)


def test_the_order_of_rows_changes_nothing() -> None:
    labels, given = model(90, 6)
    order = np.random.default_rng(2).permutation(90)
    of = contributions("matthews_correlation", labels, given, "macro")
    assert contributions("matthews_correlation", labels[order], given[order], "macro") == pytest.approx(of[order])


def test_a_class_with_a_single_row_makes_no_jump() -> None:
    labels = np.array([0] * 60 + [1] * 60 + [2])
    given = np.eye(3)[np.r_[labels[:-1], 0]]
    of = contributions("f1", labels, given, "macro")
    assert of.mean() == pytest.approx((120 / 121 + 1 + 0) / 3)
    assert np.abs(of - of.mean()).max() < 1  # were the class dropped without its row, this would be 40


def test_a_saved_probability_of_zero_has_a_finite_loss() -> None:
    of = contributions("loss", [1, 0], np.array([[1, 0], [1, 0]], dtype=np.float16), "binary")
    assert of == pytest.approx([24 * math.log(2), 0])


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        contributions("accuracy", [], np.zeros((0, 2)), "binary")


# From tables of Student's distribution.
@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (30, 2.04227), (1e9, 1.95996)]
)
def test_students_quantiles(degrees: float, quantile: float) -> None:
    assert student.quantile(0.975, degrees) == pytest.approx(quantile, rel=1e-5)
    assert student.quantile(0.025, degrees) == pytest.approx(-quantile, rel=1e-5)
    assert student.cdf(quantile, degrees) == pytest.approx(0.975, abs=1e-6)


def test_students_distribution_of_any_degrees() -> None:
    from scipy.stats import t  # scikit-learn brings it

    for degrees in (1.0, 1.3, 3.7, 45.2, 1e5):
        for at in (-40.0, -1.2, 0.0, 0.4, 6.0):
            assert student.cdf(at, degrees) == pytest.approx(t.cdf(at, degrees), abs=1e-8)
    assert student.cdf(1.0, math.inf) == pytest.approx(0.841344746)
    assert student.quantile(0.975, math.inf) == pytest.approx(1.959963985)
