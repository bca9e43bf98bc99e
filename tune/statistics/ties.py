"""Which trials cannot be told from the winner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from trainable.metrics import Direction
from tune.statistics.bootstrap import LEVEL
from tune.statistics.configurations import SeedSpread


def ties(
    winner: npt.ArrayLike,
    trials: Sequence[npt.ArrayLike],
    spread: SeedSpread | None,
    direction: Direction = "max",
    level: float = LEVEL,
) -> list[int]:
    """The trials that are as good as the winner as far as these rows and seeds can tell.

    A trial is tied where the interval of its difference to the winner holds 0, and where it is ahead.

    Args:
        winner: The contributions of the winner's models, [seeds, groups]: of its fresh seeds, or of its only model.
        trials: Those of each trial that ran to its end, on the same groups of rows: [groups] of its only model, or
            [seeds, groups] of its fresh seeds.
        spread: Of the seeds on these rows (`seed_spread`). None: not known, and models of the same configuration
            count as no more alike than their rows show.
        direction: Whether larger or smaller scores are better.
        level: Of the interval, in (0, 1).

    Returns:
        Their places in `trials`, in order.
    """
    best = np.atleast_2d(np.asarray(winner, dtype=np.float64))
    far, found = NormalDist().inv_cdf((1 + level) / 2), []
    for i, trial in enumerate(trials):
        of = np.atleast_2d(np.asarray(trial, dtype=np.float64))
        ahead = (best.mean(axis=0) - of.mean(axis=0)) * (1 if direction == "max" else -1)
        variance = float(ahead.var()) / max(len(ahead) - 1, 1)
        if spread is not None:
            variance += spread.beyond_rows * (1 / len(best) + 1 / len(of))
        if float(ahead.mean()) <= far * math.sqrt(variance):
            found.append(i)
    return found


def cheapest(tied: Sequence[int], seconds: Sequence[float | None]) -> int | None:
    """Of these trials the one that trains fastest.

    Args:
        tied: Places of trials.
        seconds: What each trial took to train, by its place; None where that is not known.

    Returns:
        Its place, the first of equals; None where nothing is known of any.
    """
    known = [(of, i) for i in tied if (of := seconds[i]) is not None]
    return min(known)[1] if known else None
