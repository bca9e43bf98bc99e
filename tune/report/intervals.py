"""The intervals of a scored split, as the report holds them."""

from __future__ import annotations

import itertools

from trainable.data.tokens import TokenizedSplit
from trainable.metrics import F1Average
from trainable.train.scoring import Scored
from tune.report.results import Intervals
from tune.statistics.bootstrap import LEVEL, accuracy_and_f1_intervals


def text_groups(split: TokenizedSplit) -> list[bytes]:
    """Of each row something that rows of equal texts share."""
    return [split.ids[start:end].tobytes() for start, end in itertools.pairwise(split.offsets)]


def intervals_of(scored: Scored, split: TokenizedSplit, f1_average: F1Average) -> Intervals | None:
    """Of the very model that was scored; texts that stand twice tell no more than one.

    Args:
        scored: What it answered.
        split: The rows that it was scored on.
        f1_average: The way F1 is averaged.

    Returns:
        The intervals; None where a row has several classes.
    """
    if not scored.labels:
        return None
    found = accuracy_and_f1_intervals(
        scored.labels, scored.answers, text_groups(split), 1 if f1_average == "binary" else None
    )
    return Intervals(accuracy=[*found["accuracy"]], f1=[*found["f1"]], level=LEVEL)
