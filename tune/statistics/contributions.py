"""What each row contributes to a model's score, so that a score becomes a mean and has a standard error.

A row's contribution is the score plus the row's influence: how the score changes with the row's weight (the
infinitesimal jackknife, or pseudo-values; Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982).
Influences add up to 0, so the mean of the contributions is the score; their variance over the rows, divided by the
number of rows, is the square of its standard error. Differences of contributions on the same rows give paired
standard errors in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from trainable.metrics import METRICS, ClassCounts, F1Average
from tune.statistics.bootstrap import Floats

COPIES = 1000
"""Of how many copies of each row one is left out. A class that has a single row keeps nearly all of it."""

SMALLEST_PROBABILITY = 2.0**-24
"""The smallest number above 0 in float16: probabilities are saved so, and the loss of a 0 would be infinite."""


def contributions(
    metric: str,
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    average: F1Average,
    groups: Sequence[Hashable] | None = None,
) -> Floats:
    """The contribution of each group of rows to a model's score.

    Args:
        metric: A key of METRICS.
        labels: The class id of each row.
        probabilities: [rows, classes], what the model gives each class; the first of the largest is its answer.
        average: The way F1 is averaged.
        groups: What rows are drawn together, such as those of equal texts; each row's group. None: each row alone.

    Returns:
        One number for each group, in the order in which the groups first occur. Their mean is the score, whose best
        direction is that of the metric.

    Raises:
        ValueError: There are no rows.
    """
    rows, given = np.asarray(labels, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    if not len(rows):
        raise ValueError("a score needs at least one row")
    if metric == "loss":
        of_rows = -np.log(np.maximum(given[np.arange(len(rows)), rows], SMALLEST_PROBABILITY))
    else:
        of_rows = _of_counts(metric, rows, given.argmax(axis=1), given.shape[1], average)
    return of_rows if groups is None else _of_groups(of_rows, groups)


def _of_counts(
    metric: str, labels: npt.NDArray[np.int64], answers: npt.NDArray[np.int64], classes: int, average: F1Average
) -> Floats:
    """Of a score that is computed from counts: rows of the same class and answer contribute the same."""
    compute = METRICS[metric].compute
    cells, cell_of = np.unique(labels * classes + answers, return_inverse=True)
    by_class = [
        ClassCounts(int(np.sum(labels == i)), int(np.sum(answers == i)), int(np.sum((labels == i) & (answers == i))))
        for i in range(classes)
    ]
    copies = [ClassCounts(*(COPIES * count for count in of)) for of in by_class]
    whole = compute(copies, math.nan, average)
    influences = np.empty(len(cells))
    for i, (label, answer) in enumerate(zip((cells // classes).tolist(), (cells % classes).tolist(), strict=True)):
        without = copies.copy()
        without[label] = without[label]._replace(rows=without[label].rows - 1)
        without[answer] = without[answer]._replace(answers=without[answer].answers - 1)
        if label == answer:
            without[label] = without[label]._replace(right=without[label].right - 1)
        influences[i] = (whole - compute(without, math.nan, average)) * (COPIES * len(labels) - 1)
    of_rows: Floats = influences[cell_of]
    return np.asarray(compute(by_class, math.nan, average) + of_rows - of_rows.mean())


def _of_groups(of_rows: Floats, groups: Sequence[Hashable]) -> Floats:
    """The influences summed within groups, scaled so that the mean over the groups is the score."""
    number: dict[Hashable, int] = {}
    of_row = [number.setdefault(group, len(number)) for group in groups]
    score = of_rows.mean()
    influences = np.bincount(of_row, weights=of_rows - score, minlength=len(number))
    return np.asarray(score + influences * (len(number) / len(of_rows)))
