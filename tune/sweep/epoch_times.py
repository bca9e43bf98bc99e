"""How long an epoch takes at most, by what earlier epochs took."""

from __future__ import annotations

from collections.abc import Iterable

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores


class EpochTimes:
    """Remembers the slowest epoch of each batch size, so that a worker can tell when an epoch hangs."""

    def __init__(self) -> None:
        self._slowest_s: dict[int, float] = {}  # by batch size

    def note(self, config: TrialConfig, epochs: Iterable[EpochScores]) -> None:
        """Note how long epochs of a configuration took."""
        size = config.batch_size
        for epoch in epochs:
            self._slowest_s[size] = max(self._slowest_s.get(size, 0.0), epoch.seconds)

    def expected_s(self, config: TrialConfig) -> float | None:
        """How long an epoch of a configuration takes at most, seconds; None before the first epoch.

        A smaller batch size means more steps, each of which is expected to take no longer than any step so far.
        """
        size = config.batch_size
        return max((s * max(1.0, other / size) for other, s in self._slowest_s.items()), default=None)
