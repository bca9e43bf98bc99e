"""Sweeps of simulated models whose true scores are known.

A model is right about a row where the sum of five normal parts is above 0: the configuration's quality, the model's own
(its seed's), the row's difficulty, the configuration's luck with the row, and the model's luck with the row. The last
three have a variance of 1 together, so a model of quality q is right about a share Phi(q) of all rows. Epochs of a
model have parts of their luck in common. Wrong answers are spread evenly over the other classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from trainable.metrics import METRICS, ClassCounts, F1Average
from tune.statistics.contributions import contributions

Floats = npt.NDArray[np.float64]
EPOCHS = 3
MANY = 40  # models that tell what a configuration reaches


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    rows: int = 400
    test_rows: int = 1000
    trials: int = 12
    finalists: int = 3
    seeds: int = 3
    accuracy: float = 0.85
    between: float = 0.1  # sd of the configurations' qualities
    seed_sd: float = 0.05  # sd of the models' own qualities; 0.05 is a point of accuracy or so
    difficulty: float = 0.7  # variances of the parts of a row's latent, which add up to 1
    shared: float = 0.15
    own: float = 0.15
    same_epochs: float = 0.7  # share of a model's own luck that all of its epochs have
    classes: int = 2
    metric: str = "accuracy"
    pruned: float = 0.4  # share of the trials stopped after their first epoch
    ties: bool = False  # half of the configurations are the same

    @property
    def average(self) -> F1Average:
        return "binary" if self.classes == 2 else "macro"


@dataclass(frozen=True)
class Sweep:
    """What a search of simulated models saw, and what is true."""

    trials: Floats  # contributions of the complete trials
    winner: int
    found: float
    last_epoch: float
    fresh: dict[int, Floats]
    test: Floats  # contributions of the winner's fresh models on test rows
    default: Floats
    truth: float
    default_truth: float
    model_truths: Floats  # of the fresh models


class World:
    """Rows, configurations and models of one sweep."""

    def __init__(self, setting: Setting, generator: np.random.Generator) -> None:
        self.of, self.generator = setting, generator
        self.validation, self.test = self._split(setting.rows), self._split(setting.test_rows)
        middle = NormalDist().inv_cdf(setting.accuracy)
        quality = middle + setting.between * generator.normal(size=setting.trials + 1)
        if setting.ties:
            quality[: setting.trials // 2] = quality.max()
        self.quality = quality[:, None] + np.array([-0.3, 0.0, 0.0])  # of each configuration and epoch

    def _split(self, rows: int) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
        of = self.of
        labels = self.generator.integers(of.classes, size=rows)
        difficulty = math.sqrt(of.difficulty) * self.generator.normal(size=rows)
        shared = math.sqrt(of.shared) * self.generator.normal(size=(of.trials + 1, rows))
        return labels, difficulty, shared

    def models(self, configuration: int, number: int) -> Floats:
        """The true qualities of new models, [number, epochs]; each epoch moves a little."""
        seed = self.of.seed_sd * self.generator.normal(size=(number, 1))
        moves = 0.5 * self.of.seed_sd * self.generator.normal(size=(number, EPOCHS))
        return np.asarray(self.quality[configuration] + seed + moves)

    def right(self, configuration: int, models: Floats, on_test: bool = False) -> npt.NDArray[np.bool_]:
        """Where models are right, [number, epochs, rows]."""
        _, difficulty, shared = self.test if on_test else self.validation
        number, epochs = models.shape
        same = self.of.same_epochs
        luck = self.generator.standard_normal((number, 1, len(difficulty)), np.float32) * math.sqrt(same * self.of.own)
        luck = luck + self.generator.standard_normal((number, epochs, len(difficulty)), np.float32) * math.sqrt(
            (1 - same) * self.of.own
        )
        return np.asarray(models[:, :, None] + difficulty + shared[configuration] + luck > 0)

    def contributions(self, right: npt.NDArray[np.bool_], on_test: bool = False) -> Floats:
        """Of models, [number, rows]."""
        if self.of.metric == "accuracy":  # the same as below, faster
            return right.astype(np.float64)
        labels = (self.test if on_test else self.validation)[0]
        found = []
        for one in right:
            wrong = (labels + self.generator.integers(1, self.of.classes, size=len(labels))) % self.of.classes
            given = np.eye(self.of.classes)[np.where(one, labels, wrong)]
            found.append(contributions(self.of.metric, labels, given, self.of.average))
        return np.array(found)

    def truths(self, qualities: Floats) -> Floats:
        """What models of these qualities score on infinitely many rows."""
        return np.array([_true_score(self.of, round(float(q), 3)) for q in qualities])

    def chosen(self, configuration: int, number: int) -> tuple[npt.NDArray[np.bool_], Floats]:
        """New models at their best epochs on validation, by the share that is right: the right rows, the qualities."""
        models = self.models(configuration, number)
        right = self.right(configuration, models)
        best, every = right.mean(axis=2).argmax(axis=1), np.arange(number)
        return right[every, best], models[every, best]


@cache
def _true_score(of: Setting, quality: float) -> float:
    """From the counts of ten million rows."""
    share, each = NormalDist().cdf(quality), 10**7
    by_class = [ClassCounts(each, each, round(share * each))] * of.classes  # wrong answers are as many of each class
    return METRICS[of.metric].compute(by_class, math.nan, of.average)


def simulate(of: Setting, generator: np.random.Generator) -> Sweep:
    """One sweep: the best of several trials, fresh seeds of the finalists, the winner by their mean."""
    world = World(of, generator)
    complete, last = [], []
    stopped = int(of.pruned * of.trials)
    first = [world.right(i, world.models(i, 1)[:, :1]).mean() for i in range(of.trials)] if stopped else []
    kept = sorted(np.argsort(first)[stopped:].tolist()) if stopped else list(range(of.trials))
    for i in kept:
        models = world.models(i, 1)
        right = world.right(i, models)
        of_epochs = world.contributions(right[0])
        complete.append(of_epochs[of_epochs.mean(axis=1).argmax()])
        last.append(float(of_epochs[-1].mean()))
    trials = np.array(complete)
    ranked = np.argsort(-trials.mean(axis=1), kind="stable")[: of.finalists].tolist()
    chosen = {i: world.chosen(kept[i], of.seeds) for i in ranked}
    fresh = {i: world.contributions(right) for i, (right, _) in chosen.items()}
    winner = max(ranked, key=lambda i: float(fresh[i].mean()))
    qualities = chosen[winner][1]
    _, default = world.chosen(of.trials, of.seeds)
    on_test = world.right(kept[winner], qualities[:, None], on_test=True)[:, 0]
    default_right = world.right(of.trials, default[:, None], on_test=True)[:, 0]
    return Sweep(
        trials,
        winner,
        float(trials[winner].mean()),
        last[winner],
        fresh,
        world.contributions(on_test, on_test=True),
        world.contributions(default_right, on_test=True),
        float(world.truths(world.chosen(kept[winner], MANY)[1]).mean()),
        float(world.truths(world.chosen(of.trials, MANY)[1]).mean()),
        world.truths(qualities),
    )
