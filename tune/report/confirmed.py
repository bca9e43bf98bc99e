"""What training the finalists again from fresh seeds has shown, as parts of report.json.

A report has them where the sweep confirmed its result; all are None or empty where it did not, or where an earlier
version wrote the report. Scores are of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tune.report.parts import Config, Part

Final = Literal["median", "best", "soup"]
"""Which model of a finalist's fresh runs is handed over: that of the median seed, of the best one, or their average."""


class RecipeScores(Part):
    """What the winner's configuration scores when it is trained again from a new seed."""

    mean: float
    """Over its fresh seeds."""
    interval: list[float] | None
    """The low and the high end for a new seed and new texts; None where there are too few seeds."""
    seeds: int
    """How many fresh seeds it was trained from."""
    sd_seed: float | None
    """The standard deviation between them; None of one seed."""
    on: Literal["test", "validation"]
    metric: str


class OptimismScores(Part):
    """How much better the score in the search looked than it is, in points: hundredths of the metric."""

    epoch: float
    """From taking each trial's best epoch."""
    seed: float | None
    """From the seed that it had in the search; None where no fresh seed was trained."""
    selection: float
    """From taking the best of many trials."""
    total: float


class DefaultScores(Part):
    """The configuration that one would take without a search, trained beside the others."""

    trial: int
    """The search trial that has it."""
    config: Config
    validation: float
    """The mean over its fresh seeds."""
    test: float | None
    """The mean over its fresh seeds; None where there is no test split, or it was not scored there."""
    difference: float
    """The winner's score minus the default's; more than 0 in favour of the winner where the objective is maximised."""
    interval: list[float] | None
    """The low and the high end of the difference."""
    probability_better: float | None
    """How probable it is that the winner is better than the default, in [0, 1]."""
    on: Literal["test", "validation"]
    """Where the difference was measured."""
    is_winner: bool
    """Whether the winner has this very configuration: then there is nothing to compare."""


class FreshRun(Part):
    """One training of a finalist from a fresh seed."""

    trial: int
    """Its own number in the study."""
    seed: int
    value: float
    """The objective on validation at its best epoch."""
    epoch: int
    """That epoch, from 1."""
    seconds: float
    """Training and evaluation."""


class FinalistScores(Part):
    """One of the best configurations of the search, trained again."""

    trial: int
    """The search trial that found it."""
    config: Config
    found: float
    """The objective that it had in the search."""
    runs: list[FreshRun]
    mean: float | None
    """The mean over its fresh runs; None without any."""
    behind: bool
    """Whether it is clearly worse than the winner: its difference is not explained by seeds and texts."""


class Cheapest(Part):
    """The cheapest of the configurations that can't be told from the winner."""

    trial: int
    config: Config
    seconds: float
    """One training of it."""
    of_winner_s: float
    """One training of the winner's configuration, seconds."""
    words: str
    """The same in a sentence."""


@dataclass(frozen=True)
class Evidence:
    """What the report says beside the scores of the model that is handed over."""

    recipe: RecipeScores | None = None
    optimism: OptimismScores | None = None
    default: DefaultScores | None = None
    finalists: list[FinalistScores] = field(default_factory=list)
    ties: list[int] = field(default_factory=list)
    cheapest: Cheapest | None = None
