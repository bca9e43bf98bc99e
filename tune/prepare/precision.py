"""The precision of training and validation: as asked for, or the faster one on this hardware."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trainable.train.devices import EncoderShape, measure_precision
from tune.cluster.placement import where_trials_run
from tune.cluster.plan import Plan

WORTH_IT = 0.95  # bfloat16 is chosen where it takes at most this fraction of float32's time


class ChosenPrecision(NamedTuple):
    """A precision, and why it is used."""

    name: str
    """`bf16` or `fp32`."""
    why: str
    """In words, as the user is told."""


def choose_precision(
    asked_for: str, plan: Plan, shape: EncoderShape, say: Callable[[str], None] = print
) -> ChosenPrecision:
    """Take the precision that is asked for; for `auto`, time one layer where trials run and take the faster one.

    Args:
        asked_for: `bf16`, `fp32` or `auto`.
        plan: Where trials run.
        shape: Widths of the model's layers.
        say: Gets a line while the cluster has no room.
    """
    if asked_for != "auto":
        return ChosenPrecision(asked_for, "as asked for")
    seconds = where_trials_run(plan, measure_precision, shape, plan.threads, plan.gpus_per_trial > 0, say=say)
    if "bf16" not in seconds:
        return ChosenPrecision("fp32", "the GPU has no bfloat16 of its own")
    chosen = "bf16" if seconds["bf16"] < WORTH_IT * seconds["fp32"] else "fp32"
    told = f"measured a layer: bf16 {seconds['bf16'] * 1000:.1f} ms, fp32 {seconds['fp32'] * 1000:.1f} ms"
    return ChosenPrecision(chosen, told)
