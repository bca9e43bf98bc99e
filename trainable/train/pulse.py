"""How a worker shows that it works: it counts what it finishes, and says how long its count may stand still."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

Activity = Literal["idle", "loading", "training", "writing", "stopped"]

SHORTEST_LIMIT_S = 60.0  # on a busy machine a short step may take many times its usual time
STEPS = 30.0  # a count may stand still for as long as this many of the worker's slowest steps
FIRST_LIMIT_S = 90.0  # before the first step is finished: how long steps take is not known, and kernels are loaded
SLOW_LIMIT_S = 900.0  # for imports, the model and the data, and for files: disks may be slow


class Pulse:
    """What a worker does, and how many steps it has finished. Another thread may read it at any time."""

    def __init__(self) -> None:
        self.activity: Activity = "idle"
        """What the worker does."""
        self.count = 0
        """Grows with every micro-batch and evaluation batch, and when the worker turns to something else."""
        self.slowest_s = 0.0
        """The longest time between two beats of training or evaluation, seconds; 0 before the first."""
        self.stop_asked = False
        """Whether the trial is to end its segment, since the sweep is being stopped."""
        self._last_beat = time.monotonic()

    @property
    def limit_s(self) -> float | None:
        """For how long the count may stand still, seconds; None where the worker waits to be told what to do."""
        match self.activity:
            case "training":
                return max(SHORTEST_LIMIT_S, STEPS * self.slowest_s) if self.slowest_s else FIRST_LIMIT_S
            case "loading" | "writing":
                return SLOW_LIMIT_S
            case "idle" | "stopped":
                return None

    def beat(self) -> None:
        """Count something that is finished."""
        now = time.monotonic()
        took_s = now - self._last_beat
        limit_s = self.limit_s
        if limit_s is not None and took_s <= limit_s:  # longer ones are of a process that was suspended
            self.slowest_s = max(self.slowest_s, took_s)
        self._last_beat = now
        self.count += 1

    @contextlib.contextmanager
    def doing(self, activity: Activity) -> Iterator[None]:
        """Say what the worker does in the block; before and after it, it does what it did before."""
        before = self.activity
        self._turn_to(activity)
        try:
            yield
        finally:
            self._turn_to(before)

    def _turn_to(self, activity: Activity) -> None:
        self.activity = activity
        self._last_beat = time.monotonic()
        self.count += 1
