"""How long a worker's count may stand still."""

from __future__ import annotations

import pytest

from trainable.train import pulse as module
from trainable.train.pulse import FIRST_LIMIT_S, SHORTEST_LIMIT_S, SLOW_LIMIT_S, STEPS, Pulse


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def test_the_limit_follows_the_workers_own_slowest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pulse = Pulse()
    assert pulse.limit_s is None
    with pulse.doing("loading"):
        assert pulse.limit_s == SLOW_LIMIT_S
    with pulse.doing("training"):
        assert pulse.limit_s == FIRST_LIMIT_S
        clock.now += 0.1
        pulse.beat()
        assert pulse.limit_s == SHORTEST_LIMIT_S
        clock.now += 10
        pulse.beat()
        clock.now += 0.1
        pulse.beat()
        assert pulse.limit_s == STEPS * 10
    assert pulse.limit_s is None


def test_the_time_in_which_a_process_was_suspended_is_no_steps_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pulse = Pulse()
    with pulse.doing("training"):
        clock.now += 1
        pulse.beat()
        clock.now += 3600
        pulse.beat()
        assert pulse.limit_s == SHORTEST_LIMIT_S


def test_the_time_between_segments_is_no_steps_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pulse = Pulse()
    for _ in range(2):
        with pulse.doing("training"):
            clock.now += 1
            pulse.beat()
        clock.now += 50
    assert pulse.slowest_s == 1
