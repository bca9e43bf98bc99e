"""Over simulated sweeps whose truth is known, intervals hold it as often as they say, and corrections remove bias."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.tune.simulated_sweeps import Setting, simulate
from tune.statistics.configurations import compare, recipe, seed_spread
from tune.statistics.optimism import optimism
from tune.statistics.ties import cheapest, ties

SETTINGS = {
    "400 rows, 12 trials": Setting(),
    "400 rows, 6 trials": Setting(trials=6),
    "200 rows, 24 trials": Setting(rows=200, trials=24),
    "1700 rows, 12 trials": Setting(rows=1700, test_rows=1700),
    "noisy seeds": Setting(seed_sd=0.12),
    "half of the trials are the same": Setting(ties=True, trials=24, between=0.02),
    "nothing stopped early": Setting(pruned=0.0),
    "2 seeds": Setting(seeds=2),
    "5 seeds": Setting(seeds=5),
    "F1 of 6 classes": Setting(classes=6, metric="f1", accuracy=0.72),
    "F1 of 2 classes": Setting(metric="f1"),
}


@dataclass
class Found:
    """What came of many simulated sweeps, an entry each."""

    recipe_held: list[bool] = field(default_factory=list)
    difference_held: list[bool] = field(default_factory=list)
    raw_held: list[bool] = field(default_factory=list)
    """The control: the usual interval around the score of the search."""
    total_off: list[float] = field(default_factory=list)
    raw_off: list[float] = field(default_factory=list)
    """The control: the score of the search, points."""
    said_better: list[float] = field(default_factory=list)
    is_better: list[bool] = field(default_factory=list)


def simulated(of: Setting, sweeps: int) -> Found:
    generator, found = np.random.default_rng(11), Found()
    for _ in range(sweeps):
        sweep = simulate(of, generator)
        spread = seed_spread([sweep.test, sweep.default])  # as the report does
        again, against = recipe(sweep.test, spread), compare(sweep.test, sweep.default, "max", spread)
        assert again.interval is not None
        assert against.interval is not None
        assert against.probability_better is not None
        difference = sweep.truth - sweep.default_truth
        found.recipe_held.append(again.interval[0] <= sweep.truth <= again.interval[1])
        found.difference_held.append(against.interval[0] <= difference <= against.interval[1])
        found.said_better.append(against.probability_better)
        found.is_better.append(difference > 0)
        raw_far = 1.96 * sweep.trials[sweep.winner].std() / math.sqrt(of.rows)
        found.raw_held.append(abs(sweep.found - sweep.truth) <= raw_far)
        found.raw_off.append(100 * (sweep.found - sweep.truth))
        told = optimism(sweep.found, sweep.last_epoch, sweep.trials, sweep.winner, sweep.fresh)
        found.total_off.append(told.total - found.raw_off[-1])
    return found


def broken(found: Found) -> list[str]:
    """Which laws do not hold, within twice the standard error of so many sweeps."""
    sweeps = len(found.total_off)
    noise, off = 2 * math.sqrt(0.95 * 0.05 / sweeps), abs(float(np.mean(found.total_off)))
    held = {"recipe": np.mean(found.recipe_held), "difference": np.mean(found.difference_held)}
    laws = {f"{name} holds {share:.3f}": 0.93 - noise <= share <= 0.97 + noise for name, share in held.items()}
    laws[f"optimism.total is off by {off:.2f} points"] = off < 0.3 + 2 * np.std(found.total_off) / math.sqrt(sweeps)
    laws["the control holds the truth as often"] = np.mean(found.raw_held) < held["recipe"] - 0.03
    laws["the control is no farther off"] = np.mean(found.raw_off) > off
    return [law for law, holds in laws.items() if not holds]


@pytest.mark.parametrize("name", ["200 rows, 24 trials", "2 seeds", "F1 of 6 classes"])
def test_a_few_simulated_sweeps(name: str) -> None:
    assert broken(simulated(SETTINGS[name], 80)) == []


@pytest.mark.slow
def test_many_simulated_sweeps_in_every_setting() -> None:
    said, better = [], []
    for name, setting in SETTINGS.items():
        found = simulated(setting, 500 if setting.metric == "accuracy" else 250)
        assert broken(found) == [], name
        said += found.said_better
        better += found.is_better
    probabilities, came_true = np.array(said), np.array(better)
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.97), (0.97, 1.01)):
        chosen = (probabilities >= low) & (probabilities < high)
        # Its prior knows nothing, and most winners are better than the default: it says a little too little.
        assert -0.02 <= came_true[chosen].mean() - probabilities[chosen].mean() <= 0.2


def test_equal_models_are_tied_and_neither_is_better() -> None:
    runs = np.random.default_rng(0).normal(size=(3, 200))
    same = compare(runs, runs)
    assert same.difference == 0
    assert same.probability_better == pytest.approx(0.5)
    assert ties(runs, [runs, runs - 1, runs + 1], seed_spread([runs])) == [0, 2]
    assert ties(runs, [runs, runs - 1, runs + 1], seed_spread([runs]), direction="min") == [0, 1]


def test_one_seed_says_nothing_of_others() -> None:
    one = np.random.default_rng(0).normal(size=(1, 200))
    assert recipe(one).interval is None
    assert compare(one, one).interval is None
    assert optimism(0.9, None, one, 0, {}).seed is None


def test_the_cheapest_of_the_tied() -> None:
    assert cheapest([0, 2, 3], [5.0, 1.0, 2.0, None]) == 2
    assert cheapest([3], [5.0, 1.0, 2.0, None]) is None
