"""How many trials may be open at a time, as nodes come and go."""

from __future__ import annotations

import contextlib
import time

from tune.cluster.nodes import autoscaler_now, nodes_now
from tune.cluster.plan import Plan, open_trials
from tune.report.progress import Progress
from tune.spec.sweep_spec import SweepSpec

LOOK_EVERY_S = 1.0  # how often we ask Ray for its nodes


class Slots:
    """Follows the cluster: says how many trials may be open, and tells the user when their number changes."""

    def __init__(self, spec: SweepSpec, plan: Plan, progress: Progress) -> None:
        self._spec = spec
        self._plan = plan
        self._progress = progress
        self._slots = plan.slots
        self._limit = plan.slots
        self._gpus = plan.gpus
        self._looked_at: float | None = None

    @property
    def now(self) -> int:
        """How many trials run side by side."""
        return self._slots

    @property
    def gpus(self) -> float:
        """How many GPUs the nodes have that run trials, used or not."""
        return self._gpus

    def limit(self) -> int:
        """How many trials may be open now, or might at most a second ago."""
        if not self._plan.elastic:
            return self._limit
        if self._looked_at is None or time.monotonic() > self._looked_at + LOOK_EVERY_S:
            with contextlib.suppress(Exception):  # if Ray's head does not answer, the watch over Ray notices
                self._look()
            self._looked_at = time.monotonic()
        return self._limit

    def _look(self) -> None:
        nodes = nodes_now()
        slots, self._gpus = self._plan.slots_on(nodes), self._plan.gpus_on(nodes)
        self._limit = open_trials(self._spec, slots, autoscaler_now())
        slots = min(slots, self._spec.num_trials, self._spec.max_concurrent or slots)
        if slots != self._slots:
            self._progress.say(f"nodes came or went: {slots} trial{'' if slots == 1 else 's'} side by side now")
            self._slots = slots
