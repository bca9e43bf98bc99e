"""Durations and configurations in a few characters, as terminal, log, page and card show them."""

from __future__ import annotations

from collections.abc import Collection

from trainable.config import TrialConfig


def clock(seconds: float) -> str:
    """Seconds as 2:05 or 1:02:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(config: TrialConfig, without: Collection[str] = ()) -> str:
    """A configuration in a line: the hyperparameters that were given, without some of them."""
    values = [(name, value) for name, value in config.named().items() if name not in without]
    return " ".join(f"{name}={compact(value)}" for name, value in values)


def compact(value: object) -> str:
    """A hyperparameter's value in a few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def no_trial_is_left(num_trials: int) -> str:
    """Say how a sweep can go on whose trials all ended without a result."""
    return (
        f"No trial is left of the {num_trials}: mend what made them fail, then --fresh begins anew, or --num-trials N "
        "goes on to N."
    )
