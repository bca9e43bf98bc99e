"""Intervals of a model's scores on new texts: the bootstrap over the rows of a split.

Efron ("Better Bootstrap Confidence Intervals", 1987) corrects the quantiles of resampled scores for bias and skewness
(BCa). Without that correction the intervals of a macro F1 over many classes are too low: a resampled split lacks rows
of some classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
DRAWS = 2000

Floats = npt.NDArray[np.float64]
Ends = tuple[float, float]


@dataclass(frozen=True)
class _Counts:
    """Of each class, in the last dimension: its rows, its answers and the right ones."""

    rows: Floats
    answers: Floats
    right: Floats

    def weighted(self, weights: Floats) -> _Counts:
        """The sums over kinds of groups, [..., kinds] @ [kinds, classes]."""
        return _Counts(weights @ self.rows, weights @ self.answers, weights @ self.right)


def accuracy_and_f1_intervals(
    labels: Sequence[int],
    answers: Sequence[int],
    groups: Sequence[Hashable],
    positive: int | None,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Ends]:
    """In which range a model's accuracy and F1 lie on texts such as these.

    Args:
        labels: The class of each row.
        answers: The class that the model gave it.
        groups: What rows are drawn together, such as those of equal texts; each row's group.
        positive: The class whose F1 is wanted; None means the mean over the classes that occur.
        level: How often such an interval holds the true score, in (0, 1).
        seed: Of the draws.

    Returns:
        `accuracy` and `f1`, each with its low and its high end in [0, 1].

    Raises:
        ValueError: There are no rows.
    """
    if not labels:
        raise ValueError("an interval needs at least one row")
    counts, of_kind, positive_column = _count_kinds(labels, answers, groups, positive)
    metrics: dict[str, Callable[[_Counts], Floats]] = {
        "accuracy": lambda of: of.right.sum(-1) / of.rows.sum(-1),
        "f1": lambda of: _f1(of, positive_column),
    }
    how_many = int(of_kind.sum())
    draws = np.random.default_rng(seed).multinomial(how_many, of_kind / how_many, size=DRAWS).astype(np.float64)
    whole, drawn = counts.weighted(of_kind), counts.weighted(draws)
    without_one = _Counts(whole.rows - counts.rows, whole.answers - counts.answers, whole.right - counts.right)
    found = {}
    for name, metric in metrics.items():
        with np.errstate(divide="ignore", invalid="ignore"):  # a split of one group has nothing without it
            left_out = np.nan_to_num(metric(without_one))
        found[name] = _corrected(float(metric(whole)), metric(drawn), left_out, of_kind, level)
    return found


def _count_kinds(
    labels: Sequence[int], answers: Sequence[int], groups: Sequence[Hashable], positive: int | None
) -> tuple[_Counts, Floats, int | None]:
    """What each kind of group counts; how many groups are of each kind; and the column of the positive class.

    Groups whose rows have the same classes and answers are of one kind. There are few kinds, however many rows.
    """
    members: dict[Hashable, list[tuple[int, int]]] = {}
    for label, answer, group in zip(labels, answers, groups, strict=True):
        members.setdefault(group, []).append((label, answer))
    kinds: dict[tuple[tuple[int, int], ...], int] = {}
    for cells in members.values():
        kind = tuple(sorted(cells))
        kinds[kind] = kinds.get(kind, 0) + 1
    classes = sorted({*labels, *answers} | ({positive} if positive is not None else set()))
    column = {of_class: i for i, of_class in enumerate(classes)}
    shape = (len(kinds), len(classes))
    counts = _Counts(np.zeros(shape), np.zeros(shape), np.zeros(shape))
    for i, kind in enumerate(kinds):
        for label, answer in kind:
            counts.rows[i, column[label]] += 1
            counts.answers[i, column[answer]] += 1
            counts.right[i, column[label]] += label == answer
    return counts, np.array([*kinds.values()], dtype=np.float64), None if positive is None else column[positive]


def _f1(of: _Counts, positive: int | None) -> Floats:
    """F1 of a class, or the mean over the classes that have rows or answers."""
    both = of.rows + of.answers
    by_class = np.divide(2 * of.right, both, out=np.zeros_like(both), where=both > 0)
    if positive is not None:
        return np.asarray(by_class[..., positive])
    return np.asarray(by_class.sum(-1) / np.maximum((both > 0).sum(-1), 1))


def _corrected(score: float, drawn: Floats, without_one: Floats, of_kind: Floats, level: float) -> Ends:
    """The bias-corrected and accelerated interval; where every draw has the same score, Wilson's for a proportion.

    Args:
        score: Of all rows.
        drawn: Of each draw.
        without_one: Of all rows but those of a group of each kind.
        of_kind: How many groups are of each kind.
        level: As above.
    """
    normal, ends = NormalDist(), ((1 - level) / 2, (1 + level) / 2)
    if drawn.min() == drawn.max():  # it tells nothing: all rows right, or all wrong
        groups, z2 = float(of_kind.sum()), normal.inv_cdf(ends[1]) ** 2
        return (groups / (groups + z2), 1.0) if score > 0.5 else (0.0, z2 / (groups + z2))
    below = (np.mean(drawn < score) + np.mean(drawn <= score)) / 2
    bias = normal.inv_cdf(float(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn))))
    far = np.average(without_one, weights=of_kind) - without_one
    spread = float(np.sum(of_kind * far**2))
    skewness = float(np.sum(of_kind * far**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    quantiles = []
    for end in ends:
        z = bias + normal.inv_cdf(end)
        quantiles.append(normal.cdf(bias + z / max(1 - skewness * z, math.ulp(1.0))))
    low, high = np.quantile(drawn, quantiles).tolist()
    return float(low), float(high)
