"""The precision of training and validation: as asked for, or the faster one on this hardware."""

from __future__ import annotations

from typing import NamedTuple

from trainable.config import Precision
from trainable.errors import UserError
from trainable.train.rehearsal import Rehearsal

WORTH_IT = 0.95  # half precision is chosen where it takes at most this fraction of float32's time


class ChosenPrecision(NamedTuple):
    """A precision, and why it is used."""

    name: Precision
    why: str
    """In words, as the user is told."""
    fp32_ratio: float = 1.0
    """How many times as long a step takes in float32, as far as that was measured."""


def choose_precision(asked_for: Precision | None, rehearsal: Rehearsal) -> ChosenPrecision:
    """Take the precision that is asked for; where none is, the faster one of those that the rehearsal found to work.

    Args:
        asked_for: None leaves the choice to us.
        rehearsal: Of the sweep's model, where its trials will run.

    Raises:
        UserError: The model does not work in the precision that is asked for.
    """
    failed = rehearsal.not_finite
    if asked_for is not None:
        if asked_for in failed:
            raise UserError([f"--precision {asked_for}: the model's loss is not finite in it; use --precision fp32"])
        return ChosenPrecision(asked_for, "as asked for")
    if failed:
        return ChosenPrecision("fp32", f"the model does not work in {' and '.join(failed)}")
    if len(rehearsal.seconds) == 1:
        return ChosenPrecision("fp32", "nothing else is faster on this machine")
    fastest = min(rehearsal.seconds, key=lambda name: rehearsal.seconds[name])
    worth_it = rehearsal.seconds[fastest] < WORTH_IT * rehearsal.seconds["fp32"]
    times = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in rehearsal.seconds.items())
    told = f"measured a step of {rehearsal.tokens} tokens: {times}"
    name = fastest if worth_it else "fp32"
    return ChosenPrecision(name, told, rehearsal.seconds["fp32"] / rehearsal.seconds[name])
