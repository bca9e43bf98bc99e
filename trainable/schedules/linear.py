"""Linear warm-up, then linear decay to zero, as transformers' schedule of that name."""

from __future__ import annotations

import math

from trainable.schedules.base import ScheduleEntry, ScheduleSettings


def rate(settings: ScheduleSettings, step: int, total_steps: int) -> float:
    """The learning rate of a step; with warm-up, step 0 trains at rate 0, as in transformers."""
    warmup_steps = math.ceil(settings.warmup_fraction * total_steps)
    if step < warmup_steps:
        return settings.learning_rate * step / max(1, warmup_steps)
    return settings.learning_rate * (total_steps - step) / max(1, total_steps - warmup_steps)


SCHEDULE = ScheduleEntry("linear", "rises over the warm-up, then falls to 0", rate)
