"""How much too good the best of several scores is because it was chosen on the rows that scored it.

The bootstrap bias correction of Tsamardinos, Greasidou and Borboudakis ("Bootstrapping the out-of-sample predictions
for efficient and accurate cross-validation", 2018): on rows drawn with replacement the best trial is chosen, and it is
scored on the rows that were not drawn. No model is trained for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainable.metrics import Direction

SELECTION_DRAWS = 1000
_BLOCK = 4_000_000  # weights that are held at a time


def selection_optimism(
    trials: npt.ArrayLike, direction: Direction = "max", draws: int = SELECTION_DRAWS, seed: int = 0
) -> float:
    """By how much the best trial's score exceeds what is expected of a trial chosen like this on new texts.

    Args:
        trials: The contributions of every trial that ran to its end, [trials, groups], each at its chosen epoch.
        direction: Whether larger or smaller scores are better.
        draws: How often rows are drawn.
        seed: Of the draws.

    Returns:
        The best score minus the mean score on rows left out, in the metric's unit; above 0 where the best score is
        too good, whatever the direction.
    """
    of = np.atleast_2d(np.asarray(trials, dtype=np.float64)) * (1 if direction == "max" else -1)
    groups = of.shape[1]
    generator = np.random.default_rng(seed)
    left_out_scores = []
    block = max(_BLOCK // groups, 1)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = generator.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        left_out = weights == 0
        enough = left_out.any(axis=1)  # of a few groups each may be drawn
        weights, left_out = weights[enough].astype(np.float64), left_out[enough].astype(np.float64)
        chosen = np.argmax(weights @ of.T, axis=1)
        left_out_scores.append((left_out @ of.T)[np.arange(len(chosen)), chosen] / left_out.sum(axis=1))
    found = np.concatenate(left_out_scores)
    return float(of.mean(axis=1).max() - found.mean()) if len(found) else 0.0
