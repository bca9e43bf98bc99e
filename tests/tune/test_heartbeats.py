"""The driver ends workers that stand still, and no others. Time is simulated; the rule and the counting are real."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from trainable.train import pulse as pulse_module
from trainable.train.pulse import Pulse
from tune.sweep.heartbeats import Heartbeats


class World:
    """A store, a clock and some workers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.answers = True
        self.pulses: dict[str, Pulse] = {}
        self.shown: dict[str, dict[str, Any]] = {}
        self.ended: list[str] = []
        self.asked_to_stop = threading.Event()
        monkeypatch.setattr(pulse_module.time, "monotonic", lambda: self.now)
        self.heartbeats = Heartbeats(self, clock=lambda: self.now)

    def read(self) -> Mapping[str, Mapping[str, Any]]:
        if not self.answers:
            raise ConnectionError("the head is busy")
        return dict(self.shown)

    def forget(self, key: str) -> None:
        self.shown.pop(key)

    def ask_to_stop(self) -> None:
        self.asked_to_stop.set()

    def end(self, shown: Mapping[str, Any]) -> str:
        self.ended.append(shown["key"])
        return "in hang"

    def worker(self, name: str = "a", trial: int = 0) -> Pulse:
        self.pulses[name] = Pulse()
        self.shown[name] = {"key": name, "trial": trial, "shown": 0}
        return self.pulses[name]

    def run(self, seconds: float, every: float = 1.0, beats: Callable[[float], bool] = lambda at: False) -> None:
        """Let time pass; `beats` says whether worker "a" finishes something in a second."""
        for second in range(int(seconds / every)):
            self.now += every
            if beats(second * every):
                self.pulses["a"].beat()
            for name, pulse in self.pulses.items():
                if name in self.shown:
                    self.shown[name] |= {
                        "activity": pulse.activity, "count": pulse.count, "limit_s": pulse.limit_s,
                        "shown": self.shown[name]["shown"] + 1,
                    }  # fmt: skip
            self.heartbeats.tick()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


SLOW_DOWNS = {
    "micro_batch_size of 1: 32 times as many pieces": lambda at: True,
    "memory ran out: smaller and smaller pieces": lambda at: at % 8 < 4,
    "longer data: each step takes longer than the one before": lambda at: at in (1, 3, 7, 15, 31, 63, 100, 150, 200),
    "neighbours start: steps of 1 s take 30 s": lambda at: at < 60 or at % 30 == 0,
    "a machine that swaps: steps of 1 s take 55 s": lambda at: at < 60 or at % 55 == 0,
}


@pytest.mark.parametrize("slow_down", SLOW_DOWNS)
def test_no_slow_down_ends_a_worker_in_five_minutes(world: World, slow_down: str) -> None:
    with world.worker().doing("training"):
        world.run(300, beats=SLOW_DOWNS[slow_down])
    assert world.ended == []


def test_a_hang_in_the_very_first_step_is_ended_within_two_minutes(world: World) -> None:
    with world.worker(trial=7).doing("training"):
        world.run(120)
        died = world.heartbeats.why_it_died(7)
    assert died is not None
    assert died.traceback == "in hang"
    assert world.ended == ["a"]
    assert world.heartbeats.why_it_died(7) is None, "the trial's next worker died of it, too"


def test_a_hang_after_an_hour_of_short_steps_is_ended_within_two_minutes(world: World) -> None:
    with world.worker().doing("training"):
        world.run(3600, beats=lambda at: True)
        assert world.ended == []
        world.run(60)
        assert world.ended == []
        world.run(60)
        assert world.heartbeats.why_it_died(0) is not None
    assert world.ended == ["a"]


def test_a_worker_that_shows_nothing_new_is_ended_and_its_neighbour_is_not(world: World) -> None:
    with world.worker().doing("training"), world.worker("b", trial=1).doing("training"):
        world.run(10, beats=lambda at: True)
        del world.pulses["b"]  # SIGSTOP: what it showed last stays
        world.run(120, beats=lambda at: True)
        assert world.heartbeats.why_it_died(1) is not None
    assert world.ended == ["b"]


def test_a_worker_that_was_stopped_while_it_showed_that_it_waits_is_ended(world: World) -> None:
    world.worker()
    world.run(10)
    del world.pulses["a"]
    world.run(110)
    assert world.heartbeats.why_it_died(0) is not None
    assert world.ended == ["a"]


def test_loading_has_a_longer_limit_and_waiting_none(world: World) -> None:
    with world.worker().doing("loading"):
        world.run(600)
        assert world.ended == []
        world.run(600)
        assert world.heartbeats.why_it_died(0) is not None
    world.ended.clear()
    world.worker("b")
    world.run(7200)
    assert world.ended == []


def test_a_driver_that_was_suspended_or_could_not_look_ends_nobody(world: World) -> None:
    with world.worker().doing("training"):
        world.run(10, beats=lambda at: True)
        world.run(3600, every=3600)  # Ctrl-Z, fg
        world.run(30)
        assert world.ended == []
        world.answers = False
        world.run(300)
        world.answers = True
        world.run(30)
    assert world.ended == []


def test_states_are_asked_for_and_waited_for(world: World) -> None:
    pulse = world.worker(trial=3)
    pulse.activity = "training"
    world.run(1)

    def write() -> None:
        world.asked_to_stop.wait(5)
        world.shown["a"]["activity"] = "stopped"

    thread = threading.Thread(target=write)
    thread.start()
    world.heartbeats.write_states({3})
    assert world.shown["a"]["activity"] == "stopped"
    thread.join()
