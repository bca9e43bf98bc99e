"""How much too good the score is that a search found its winner with, and what made it so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from trainable.metrics import Direction
from tune.statistics.configurations import seed_spread
from tune.statistics.selection import SELECTION_DRAWS, selection_optimism

POINTS = 100


@dataclass(frozen=True)
class Optimism:
    """Parts of a winner's score that new texts and new seeds would not show, in points (hundredths of the score).

    Above 0 means too good, whatever the metric's direction. The parts overlap; only `total` is to be subtracted.
    """

    epoch: float | None
    """What the choice of the best epoch added to the last epoch's score; some of it may be real. None: not known."""

    seed: float | None
    """The score it was found with, minus the mean of its fresh seeds on the same rows. None: no fresh seeds."""

    selection: float
    """What choosing the best trial on its own validation rows added, as rows drawn again tell."""

    total: float
    """The score it was found with, minus what the configuration is expected to reach on new texts with new seeds."""


def optimism(
    found: float,
    last_epoch: float | None,
    trials: npt.ArrayLike,
    winner: int,
    fresh: Mapping[int, npt.ArrayLike],
    direction: Direction = "max",
) -> Optimism:
    """How much too good the score is that a search found its winner with.

    Args:
        found: The winner's score in the search, at its best epoch.
        last_epoch: That trial's score after its last epoch; None where it is not known.
        trials: The contributions of every trial that ran to its end, [trials, groups], each at its chosen epoch.
        winner: The winner's row in `trials`.
        fresh: Of each configuration that was trained again, by its row in `trials`: the contributions of its fresh
            seeds on the same rows, [seeds, groups]. Empty: none was.
        direction: Whether larger or smaller scores are better.
    """
    sign = POINTS if direction == "max" else -POINTS
    of = np.atleast_2d(np.asarray(trials, dtype=np.float64))
    runs = {i: np.atleast_2d(np.asarray(one, dtype=np.float64)) for i, one in fresh.items()}
    epoch = None if last_epoch is None else sign * (found - last_epoch)
    selection = POINTS * selection_optimism(of, direction)
    if winner not in runs:
        return Optimism(epoch, None, selection, selection)
    seed = sign * (found - float(runs[winner].mean()))
    shared = shared_luck(runs)
    left = shared + (1 - shared) / len(runs[winner])  # the mean over seeds keeps a part of the luck of each
    total = seed + left * selection + POINTS * _seeds_choice(list(runs.values()), direction)
    return Optimism(epoch, seed, selection, total)


def _seeds_choice(finalists: Sequence[npt.NDArray[np.float64]], direction: Direction) -> float:
    """How much too good the best mean of finalists is because it was chosen among means of few seeds.

    As in the bootstrap bias correction, noise is added before the choice and subtracted after it; it is normal here,
    with the variance that the seeds have beyond their luck with rows.
    """
    spread = seed_spread(finalists)
    if spread is None:
        return 0.0
    means = np.array([runs.mean() for runs in finalists]) * (1 if direction == "max" else -1)
    errors = np.sqrt([spread.beyond_rows / len(runs) for runs in finalists])
    noise = np.random.default_rng(0).normal(size=(SELECTION_DRAWS, len(means))) * errors
    chosen = np.argmax(means + noise, axis=1)
    return float(means.max() - (means - noise)[np.arange(len(noise)), chosen].mean())


def shared_luck(fresh: Mapping[int, npt.NDArray[np.float64]]) -> float:
    """How much of a model's luck with rows all seeds of its configuration share, in [0, 1]."""
    same, different = [], []
    for i, runs in fresh.items():
        same += [float(np.var(a - b)) for a, b in combinations(runs, 2)]
        different += [float(np.var(a - b)) for j, other in fresh.items() if j > i for a in runs for b in other]
    if not same or not different or np.mean(different) <= 0:
        return 1.0
    return float(np.clip(1 - np.mean(same) / np.mean(different), 0, 1))
