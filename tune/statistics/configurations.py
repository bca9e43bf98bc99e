"""What a configuration reaches when it is trained again, and the difference of two: intervals over rows and seeds.

A score moves with the rows that it is measured on and with the seed of the training (Dodge et al., "Fine-Tuning
Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping", 2020). An interval that counts
the rows alone speaks about one trained model. These speak about the configuration, as Bouthillier et al. ("Accounting
for Variance in Machine Learning Benchmarks", 2021) ask: rows and seeds are both drawn at random, and crossed.

The variance of a mean over m seeds has a rows' part, which is how the mean contributions differ between groups of
rows, and a seeds' part, s^2 / m, where s is how the scores of the seeds differ. Luck of a seed with a row is in both,
and is subtracted once. In an interval each part has Student's quantile of its own degrees of freedom; a probability
takes those of Welch and Satterthwaite for the whole.

Everything here takes the contributions of `tune.statistics.contributions`: of a configuration [seeds, groups], one row
for each model, all on the same groups of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainable.metrics import Direction
from tune.statistics import student
from tune.statistics.bootstrap import LEVEL, Ends, Floats


@dataclass(frozen=True)
class SeedSpread:
    """How the scores of models of one configuration differ, on the same rows."""

    variance: float
    """Of their scores."""

    luck: float
    """The part of it that is luck of single seeds with single rows; the rest would remain on infinitely many rows."""

    degrees: int
    """Degrees of freedom of the variance."""

    @property
    def sd(self) -> float:
        """The standard deviation of the scores."""
        return math.sqrt(self.variance)

    @property
    def beyond_rows(self) -> float:
        """The variance without the luck with rows, which the rows' part of a standard error holds already."""
        return max(self.variance - self.luck, 0.0)


@dataclass(frozen=True)
class Recipe:
    """What a configuration reaches on new texts when it is trained again."""

    mean: float
    """The mean score of its models."""

    interval: Ends | None
    """Where the mean over all seeds and all such texts lies; None where one seed says nothing about others."""

    sd_seed: float | None
    """The standard deviation of the score from seed to seed on the same rows; None for one seed."""

    standard_error: float | None
    """Of the mean, over rows and seeds."""

    degrees: float | None
    """Degrees of freedom of the standard error."""


@dataclass(frozen=True)
class Comparison:
    """The difference of two configurations, first minus second."""

    difference: float
    """Of their mean scores."""

    interval: Ends | None
    """Where the difference over all seeds and all such texts lies; None where both have one seed."""

    probability_better: float | None
    """How probable it is that the first is better on new texts with new seeds, with a flat prior."""

    standard_error: float | None
    """Of the difference, over rows and seeds."""

    degrees: float | None
    """Degrees of freedom of the standard error."""


def seed_spread(configurations: Sequence[npt.ArrayLike]) -> SeedSpread | None:
    """How scores differ from seed to seed, pooled over configurations that were scored on the same rows.

    Args:
        configurations: The contributions of each, [seeds, groups].

    Returns:
        The pooled spread; None where no configuration has two seeds.
    """
    degrees, squares, luck = 0, 0.0, 0.0
    for runs in map(_runs, configurations):
        seeds, groups = runs.shape
        if seeds < 2:
            continue
        scores = runs.mean(axis=1)
        rest = runs - runs.mean(axis=0) - scores[:, None] + runs.mean()
        degrees += seeds - 1
        squares += float(np.sum((scores - scores.mean()) ** 2))
        luck += float(np.sum(rest**2)) / (max(groups - 1, 1) * groups)
    return SeedSpread(squares / degrees, luck / degrees, degrees) if degrees else None


def recipe(runs: npt.ArrayLike, spread: SeedSpread | None = None, level: float = LEVEL) -> Recipe:
    """What a configuration reaches on new texts when it is trained again.

    Args:
        runs: The contributions of its models, [seeds, groups]. The seeds must be fresh: a model that was chosen for
            its score has luck that others lack.
        spread: Of the seeds, where more is known of it than these models tell (`seed_spread` of several
            configurations on the same rows). None: from these models.
        level: How often such an interval holds the truth, in (0, 1).
    """
    of = _runs(runs)
    mean = float(of.mean())
    own = seed_spread([of])
    known = spread or own
    sd_seed = own.sd if own else None
    if known is None:
        return Recipe(mean, None, sd_seed, None, None)
    error, degrees, far = _standard_error(of.mean(axis=0), [(known, len(of))], level)
    return Recipe(mean, (mean - far, mean + far), sd_seed, error, degrees)


def compare(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    direction: Direction = "max",
    spread: SeedSpread | None = None,
    level: float = LEVEL,
) -> Comparison:
    """The difference of two configurations that were scored on the same rows.

    Where only one of them has several seeds, the other's spread is taken to be the same.

    Args:
        first: The contributions of its models, [seeds, groups].
        second: Those of the other's models, on the same groups of rows.
        direction: Whether larger or smaller scores are better.
        spread: Of the seeds of both, as for `recipe`.
        level: How often such an interval holds the truth, in (0, 1).
    """
    pair = (_runs(first), _runs(second))
    by_group = pair[0].mean(axis=0) - pair[1].mean(axis=0)
    difference = float(by_group.mean())
    pooled = spread or seed_spread(pair)
    if pooled is None:
        return Comparison(difference, None, None, None, None)
    arms = [(spread or seed_spread([runs]) or pooled, len(runs)) for runs in pair]
    return _compared(by_group, arms, direction, level)


def compare_models(
    first: npt.ArrayLike, second: npt.ArrayLike, direction: Direction = "max", level: float = LEVEL
) -> Comparison:
    """The difference of two very models on the same rows; it says nothing of what other seeds would give.

    Args:
        first: The contributions of the one model, [groups].
        second: Those of the other, on the same groups of rows.
        direction: Whether larger or smaller scores are better.
        level: How often such an interval holds the truth, in (0, 1).
    """
    return _compared(_runs(first).mean(axis=0) - _runs(second).mean(axis=0), [], direction, level)


def _compared(
    by_group: Floats, arms: Sequence[tuple[SeedSpread, int]], direction: Direction, level: float
) -> Comparison:
    """The comparison that follows from differences by group; `arms` as for `_standard_error`."""
    difference = float(by_group.mean())
    error, degrees, far = _standard_error(by_group, arms, level)
    ahead = difference if direction == "max" else -difference
    better = student.cdf(ahead / error, degrees) if error else (1 + np.sign(ahead)) / 2
    return Comparison(difference, (difference - far, difference + far), float(better), error, degrees)


def _runs(contributions: npt.ArrayLike) -> Floats:
    """As [seeds, groups], also where one model's are given flat."""
    return np.atleast_2d(np.asarray(contributions, dtype=np.float64))


def _standard_error(
    by_group: Floats, arms: Sequence[tuple[SeedSpread, int]], level: float
) -> tuple[float, float, float]:
    """The standard error of the mean of `by_group` over rows and seeds, its degrees of freedom, half an interval.

    Each part has its own Student's quantile. One quantile for the sum, with the degrees of the whole, would make
    intervals too short where few seeds happen to lie close together.

    Args:
        by_group: Contributions, averaged over seeds.
        arms: Of each configuration in them the spread of its seeds, and how many there are.
        level: Of the interval.
    """
    groups = len(by_group)
    parts: list[tuple[float, int]] = [(float(by_group.var()) / max(groups - 1, 1), max(groups - 1, 1))]
    parts += [(spread.beyond_rows / seeds, spread.degrees) for spread, seeds in arms]
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return 0.0, math.inf, 0.0
    far = math.sqrt(sum(part * student.quantile((1 + level) / 2, degrees) ** 2 for part, degrees in parts))
    return math.sqrt(variance), variance**2 / sum(part**2 / degrees for part, degrees in parts), far
