"""The order in which trials run, without a study."""

from __future__ import annotations

import pytest

from tune.sweep import queue as queue_module
from tune.sweep.queue import TrialQueue


def taken(queue: TrialQueue) -> list[int]:
    """The numbers of all trials that the queue hands out now."""
    return [following.number for following in iter(queue.take, None)]


def test_what_was_left_open_comes_before_what_is_new() -> None:
    queue = TrialQueue(5, left_open=[1, 2], begun=3, finished=1)
    assert [(following.number, following.is_new) for following in iter(queue.take, None)] == [
        (1, False), (2, False), (3, True), (4, True),
    ]  # fmt: skip
    assert (queue.open, queue.remaining, queue.all_handed_out) == (4, 4, True)


def test_a_trial_that_needs_more_memory_comes_last() -> None:
    queue = TrialQueue(3, left_open=[], begun=0, finished=0)
    assert queue.take() is not None
    queue.put_last(0)
    assert not queue.all_handed_out
    assert taken(queue) == [1, 2, 0]


def test_a_retry_waits_twice_as_long_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(queue_module.time, "monotonic", lambda: now[0])
    queue = TrialQueue(1, left_open=[0], begun=1, finished=0)
    assert taken(queue) == [0]
    for retry, pause_s in ((1, 1.0), (2, 2.0), (3, 4.0)):
        assert queue.put_back(0, retry) == pause_s
        assert taken(queue) == []
        assert queue.remaining == 1
        now[0] += pause_s
        assert taken(queue) == [0]


def test_more_trials_may_be_open_than_a_smaller_sweep_has() -> None:
    """A sweep that goes on with a smaller --num-trials finishes what it has begun."""
    queue = TrialQueue(1, left_open=[1, 2], begun=3, finished=1)
    assert taken(queue) == [1, 2]
    queue.close(1)
    queue.close(2)
    assert (queue.remaining, queue.finished) == (0, 3)
