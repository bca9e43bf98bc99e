"""How long the texts are in tokens, and what another `max_length` would cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

PAD_TO_TOKENS = 8  # as batches are padded
BARS = 8  # of the histogram, beside the one for the longest rows
LENGTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)  # that are compared with the sweep's
HIDDEN_KEYS = ("hidden_size", "d_model", "dim", "n_embd")
USUAL_HIDDEN = 768


@dataclass(frozen=True)
class Bar:
    """A bar of the histogram: rows with so many tokens."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True)
class OtherLength:
    """What another `max_length` would do."""

    max_length: int
    cut_rows: int
    """How many training rows it would cut."""
    relative_time: float
    """An epoch's time with it, as a multiple of the time with the sweep's."""


@dataclass(frozen=True)
class Lengths:
    """The lengths of the training rows in tokens, before any was cut."""

    max_length: int
    rows: int
    cut_rows: int
    median: int
    percentile_95: int
    longest: int
    histogram: list[Bar]
    others: list[OtherLength]


def lengths_of(whole: npt.NDArray[np.int64], max_length: int, most: int | None, hidden: int) -> Lengths:
    """Describe the lengths of rows.

    Args:
        whole: Tokens of each row before it was cut.
        max_length: The sweep's.
        most: The most tokens that the model has positions for; None where it has no limit.
        hidden: The width of the model's layers.
    """
    longest = int(whole.max())
    limit = longest if most is None else most
    longer = [length for length in LENGTHS if max_length < length <= limit] if max_length < longest else []
    needed = [i for i, length in enumerate(longer) if length >= longest]
    longer = longer[: needed[0] + 1] if needed else longer  # beyond the longest row nothing changes
    shorter = [length for length in LENGTHS if length < min(max_length, longest)][-1:]
    cost = _cost(whole, max_length, hidden)
    return Lengths(
        max_length=max_length,
        rows=len(whole),
        cut_rows=int((whole > max_length).sum()),
        median=int(np.median(whole)),
        percentile_95=int(np.quantile(whole, 0.95)),
        longest=longest,
        histogram=_histogram(whole),
        others=[
            OtherLength(length, int((whole > length).sum()), _cost(whole, length, hidden) / cost)
            for length in (*shorter, *longer)
            if length != max_length
        ],
    )


def _cost(whole: npt.NDArray[np.int64], max_length: int, hidden: int) -> float:
    """What an epoch costs: a token costs the same everywhere, and its attention what the row has tokens."""
    tokens = -(-np.minimum(whole, max_length) // PAD_TO_TOKENS) * PAD_TO_TOKENS
    return float((tokens * (1 + tokens / (6 * hidden))).sum())


def _histogram(whole: npt.NDArray[np.int64]) -> list[Bar]:
    """Bars of equal width up to the length that 98 % of the rows keep to, and one for what is longer."""
    usual = max(BARS, int(np.quantile(whole, 0.98)))
    width = -(-usual // BARS)
    edges = [i * width for i in range(BARS + 1)]
    counts = np.histogram(whole, bins=[edge + 0.5 for edge in edges])[0]
    bars = [Bar(low + 1, high, int(rows)) for low, high, rows in zip(edges, edges[1:], counts, strict=False)]
    longer = int((whole > edges[-1]).sum())
    return [*bars, Bar(edges[-1] + 1, int(whole.max()), longer)] if longer else bars


def hidden_size(model_folder: Path) -> int:
    """The width of a model's layers, as its config.json has it; a usual one where that says nothing."""
    try:
        config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
        return next((int(config[key]) for key in HIDDEN_KEYS if key in config), USUAL_HIDDEN)
    except (OSError, ValueError, TypeError):
        return USUAL_HIDDEN
