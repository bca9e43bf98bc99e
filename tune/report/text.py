"""Durations and configurations in a few characters, as terminal, log, page and card show them."""

from __future__ import annotations

from trainable.config import TrialConfig


def clock(seconds: float) -> str:
    """Seconds as 2:05 or 1:02:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(config: TrialConfig) -> str:
    """A configuration in a line: the hyperparameters that were given."""
    values = config.named().items()
    return " ".join(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in values)
