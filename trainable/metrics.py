"""The scores of a classifier, and all that the rest of the project needs to know of each.

`METRICS` is the only list of scores. The study, the report, TensorBoard and the screen loop over it, so that a new
score is a new entry here and nothing else.

Scores are computed from counts that were summed over all batches and are divided once. The formulas and their order
of operations are scikit-learn's, so that the numbers equal those of `evaluate`'s GLUE metric to the last digit. A
ratio whose denominator is zero is 0, as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

F1Average = Literal["binary", "macro"]
Direction = Literal["max", "min"]


class ClassCounts(NamedTuple):
    """What is counted of one class. A table of all pairs of classes would grow with their square."""

    rows: int
    """Rows of the class."""

    answers: int
    """Rows of which the model says that they are of the class."""

    right: int
    """Rows of the class of which the model says so."""


ByClass = Sequence[ClassCounts]  # by class id


@dataclass(frozen=True)
class Metric:
    """One score: its name, what it is computed from, and how people are shown it."""

    name: str
    """The key in the study, in report.json and on the command line."""

    direction: Direction
    """Whether the largest or the smallest value is the best."""

    title: str
    """The heading of its column in a table; `heading` adds the average where there are several."""

    compute: Callable[[ByClass, float, F1Average], float]
    """The score from the counts of each class, the loss summed over all rows (nats), and the way F1 is averaged."""

    bounds: tuple[float, float] = (0.0, 1.0)
    """The lowest and the highest value that it can take."""

    averaged: bool = False
    """Whether the score depends on the way F1 is averaged, which its heading then names."""

    majority: Literal["scored", "zero"] | None = None
    """What always answering the most frequent class gets: a score worth telling, always 0, or (None) no score."""

    while_running: bool = True
    """Whether the live table and the log's line of each epoch show it; a terminal has no room for all."""

    tolerance: float = 0.0
    """How far two measurements of one model on the same rows may differ: threads may add floats in another order."""

    @property
    def tag(self) -> str:
        """The name of the score's curve in TensorBoard."""
        return f"validation/{self.name}"

    @property
    def column(self) -> str:
        """The heading of its column on a terminal."""
        return self.title.lower()

    @property
    def width(self) -> int:
        """The width of its column on a terminal, in characters, with the gap to the column before it."""
        return max(len(self.column) + 2, 9)

    def heading(self, average: F1Average | str) -> str:
        """The heading of its column in the report, for example "F1 (macro)"."""
        return f"{self.title} ({average})" if self.averaged else self.title

    def majority_score(self, scored: Mapping[str, float]) -> float | None:
        """The score of always answering the most frequent class; `scored` holds those of `majority_scores`."""
        return {"scored": scored.get(self.name), "zero": 0.0, None: None}[self.majority]


def accuracy(by_class: ByClass) -> float:
    """The fraction of rows that got the right answer, in [0, 1]."""
    return sum(of.right for of in by_class) / sum(of.rows for of in by_class)


def f1_of_class(of: ClassCounts) -> float:
    """2 TP / (true + predicted) of one class, in [0, 1]."""
    return 2 * of.right / (of.rows + of.answers) if of.rows + of.answers else 0.0


def f1(by_class: ByClass, average: F1Average) -> float:
    """F1 of class 1 ("binary"), or the plain mean over the classes that occur ("macro"), in [0, 1]."""
    import numpy as np  # its mean adds in the order in which scikit-learn does

    if average == "binary":
        return f1_of_class(by_class[1])
    return float(np.mean([f1_of_class(of) for of in by_class if of.rows or of.answers]))


def matthews_correlation(by_class: ByClass) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004), in [-1, 1]; 0 where it is undefined."""
    total = sum(of.rows for of in by_class)
    correct = sum(of.right for of in by_class)
    cov_tp = correct * total - sum(of.rows * of.answers for of in by_class)
    cov_tt = total**2 - sum(of.rows**2 for of in by_class)
    cov_pp = total**2 - sum(of.answers**2 for of in by_class)
    # scikit-learn takes the product in float64 before the root; integers would round differently.
    return cov_tp / math.sqrt(float(cov_tt * cov_pp)) if cov_tt * cov_pp else 0.0


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "loss",
            "min",
            "loss",
            lambda by_class, loss_sum, average: loss_sum / sum(of.rows for of in by_class),
            bounds=(0.0, math.inf),
            tolerance=1e-4,
        ),
        Metric(
            "accuracy",
            "max",
            "accuracy",
            lambda by_class, loss_sum, average: accuracy(by_class),
            majority="scored",
        ),
        Metric(
            "f1",
            "max",
            "F1",
            lambda by_class, loss_sum, average: f1(by_class, average),
            averaged=True,
            majority="scored",
        ),
        Metric(
            "matthews_correlation",
            "max",
            "Matthews",
            lambda by_class, loss_sum, average: matthews_correlation(by_class),
            bounds=(-1.0, 1.0),
            majority="zero",
            while_running=False,
        ),
    )
}
"""Every score by its name, in the order in which tables show them."""


def scores(by_class: ByClass, loss_sum: float, average: F1Average) -> dict[str, float]:
    """All scores of an evaluated split, by their names.

    Args:
        by_class: What was counted of each class.
        loss_sum: Cross-entropy summed over the rows, nats.
        average: The way F1 is averaged.
    """
    return {name: metric.compute(by_class, loss_sum, average) for name, metric in METRICS.items()}


def majority_scores(train_counts: Sequence[int], split_counts: Sequence[int], average: F1Average) -> dict[str, float]:
    """What always answering the class most frequent in training scores on a split.

    Args:
        train_counts: Rows of each class in the training split.
        split_counts: Rows of each class in the split to be scored.
        average: The way F1 is averaged.

    Returns:
        The scores by name, of those metrics whose `majority` is "scored".
    """
    guess = max(range(len(train_counts)), key=lambda i: train_counts[i])
    total = sum(split_counts)
    by_class = [ClassCounts(n, total if i == guess else 0, n if i == guess else 0) for i, n in enumerate(split_counts)]
    scored = [metric for metric in METRICS.values() if metric.majority == "scored"]
    return {metric.name: metric.compute(by_class, math.nan, average) for metric in scored}


def collapsed(by_class: ByClass) -> bool:
    """Whether the model gave every row the same class."""
    return sum(1 for of in by_class if of.answers) == 1


def merit(scores: Mapping[str, float], metric: str, direction: str) -> tuple[float, float]:
    """What epochs and trials are ranked by, larger is better: the objective, then the lower validation loss."""
    return (scores[metric] if direction == "max" else -scores[metric]), -scores["loss"]
