"""Loss, accuracy, F1 and Matthews correlation from counts: summed over batches, divided once.

The formulas and their order of operations are scikit-learn's, so the numbers equal those of `evaluate`'s
GLUE metric to the last digit. A ratio without a denominator is 0, as there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainable.config import F1Average

Confusion = Sequence[Sequence[int]]  # rows: true class, columns: predicted class

METRICS = {"loss": "min", "accuracy": "max", "f1": "max", "matthews_correlation": "max"}


def accuracy(confusion: Confusion) -> float:
    """Share of rows on the diagonal, in [0, 1]."""
    return sum(row[i] for i, row in enumerate(confusion)) / sum(map(sum, confusion))


def f1_of_class(confusion: Confusion, label: int) -> float:
    """2 TP / (true + predicted) of one class, in [0, 1]."""
    true = sum(confusion[label])
    predicted = sum(row[label] for row in confusion)
    return 2 * confusion[label][label] / (true + predicted) if true + predicted else 0.0


def f1(confusion: Confusion, average: F1Average) -> float:
    """F1 of class 1 ("binary") or the plain mean over the classes that occur ("macro"), in [0, 1]."""
    if average == "binary":
        return f1_of_class(confusion, 1)
    occurring = [i for i in range(len(confusion)) if sum(confusion[i]) or sum(row[i] for row in confusion)]
    return float(np.mean([f1_of_class(confusion, i) for i in occurring]))


def matthews_correlation(confusion: Confusion) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004), in [-1, 1]; 0 where undefined."""
    classes = range(len(confusion))
    true = [sum(confusion[i]) for i in classes]
    predicted = [sum(confusion[i][j] for i in classes) for j in classes]
    total = sum(true)
    correct = sum(confusion[i][i] for i in classes)
    cov_tp = correct * total - sum(t * p for t, p in zip(true, predicted, strict=True))
    cov_tt = total**2 - sum(t * t for t in true)
    cov_pp = total**2 - sum(p * p for p in predicted)
    # scikit-learn takes the product in float64 before the root; integers would round differently.
    return cov_tp / math.sqrt(float(cov_tt * cov_pp)) if cov_tt * cov_pp else 0.0


def scores(confusion: Confusion, loss_sum: float, average: F1Average) -> dict[str, float]:
    """All metrics of an evaluated split: `loss` (mean cross-entropy per row, nats) and the three above."""
    return {
        "loss": loss_sum / sum(map(sum, confusion)),
        "accuracy": accuracy(confusion),
        "f1": f1(confusion, average),
        "matthews_correlation": matthews_correlation(confusion),
    }


def majority_scores(train_counts: Sequence[int], split_counts: Sequence[int], average: F1Average) -> dict[str, float]:
    """What always answering the class most frequent in training scores on a split, given rows per class."""
    guess = max(range(len(train_counts)), key=lambda i: train_counts[i])
    confusion = [[n if j == guess else 0 for j in range(len(split_counts))] for n in split_counts]
    return {"accuracy": accuracy(confusion), "f1": f1(confusion, average)}


def collapsed(confusion: Confusion) -> bool:
    """Whether every row was given the same class."""
    return sum(1 for j in range(len(confusion)) if any(row[j] for row in confusion)) == 1


def merit(scores: Mapping[str, Any], metric: str, mode: str) -> tuple[float, float]:
    """What epochs and trials are ranked by, larger is better: the objective, between equals the validation loss."""
    return (scores[metric] if mode == "max" else -scores[metric]), -scores["loss"]
