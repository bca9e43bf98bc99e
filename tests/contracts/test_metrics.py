"""What every score must do, whichever it is: a new one in METRICS is tested here without a change."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import pytest

from trainable.metrics import METRICS, F1Average, majority_scores

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
    return METRICS[name].compute(confusion, loss_sum, average)


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
