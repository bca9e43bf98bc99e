"""Ends workers that stand still, and asks all workers to write their states when the sweep is stopped.

A worker counts the batches that it finishes, and shows the count in the key-value store of Ray's head
(`trainable.heartbeat`). It is ended where the count stands still for longer than the worker itself allows
(`trainable.train.pulse`): for a minute, or for thirty of its slowest steps. No other trial's speed is asked, so that
nothing that makes a trial slow ends it. A worker that is stopped as a whole (SIGSTOP) shows nothing any more, and is
ended for that.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainable.heartbeat import EVERY_S, NAMESPACE, STOP, TRACEBACK_SIGNAL

READ_EVERY_S = 5.0
GRACE_S = READ_EVERY_S + 2 * EVERY_S  # what we see may be so old
SILENT_LIMIT_S = 75.0  # a worker shows something every two seconds, whatever it does
END_TIMEOUT_S = 30.0  # a node that does not answer is dead, which Ray notices itself
STATES_TIMEOUT_S = 9.0  # how long the workers may take to write their states, of the 12 s that an orderly stop has


class Store(Protocol):
    """Where workers show their pulses."""

    def read(self) -> Mapping[str, Mapping[str, Any]]:
        """What each worker showed last, by its key."""

    def forget(self, key: str) -> None:
        """Remove what a worker showed."""

    def ask_to_stop(self) -> None:
        """Ask all workers to write their states, and to go no further."""

    def end(self, shown: Mapping[str, Any]) -> str:
        """End a worker's process; returns where it stood, a traceback, if it could say."""


class HeadsStore:
    """The key-value store of Ray's head."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def read(self) -> Mapping[str, Mapping[str, Any]]:
        """What each worker showed last, by its key."""
        from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list

        keys = _internal_kv_list(f"{self._prefix}/", namespace=NAMESPACE)
        values = {key.decode(): _internal_kv_get(key, namespace=NAMESPACE) for key in keys}
        return {key: json.loads(value) for key, value in values.items() if value and not key.endswith(f"/{STOP}")}

    def forget(self, key: str) -> None:
        """Remove what a worker showed."""
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(key, namespace=NAMESPACE)

    def ask_to_stop(self) -> None:
        """Ask all workers to write their states, and to go no further."""
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(f"{self._prefix}/{STOP}", "1", overwrite=True, namespace=NAMESPACE)

    def end(self, shown: Mapping[str, Any]) -> str:
        """End a worker's process by a task on its machine; returns where it stood, if it could say."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(shown["node"], soft=False)
        task = ray.remote(_end_process).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
        told = task.remote(shown["pid"], shown["created"], shown["traceback"])
        return str(ray.get(told, timeout=END_TIMEOUT_S))


def _end_process(pid: int, created: float, traceback_file: str) -> str:
    import psutil

    told = ""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if abs(process.create_time() - created) > 1:  # the number is another process's by now
            return ""
        process.send_signal(TRACEBACK_SIGNAL)
        time.sleep(1.0)
        with contextlib.suppress(OSError), open(traceback_file, encoding="utf-8", errors="replace") as file:
            told = file.read()
        process.kill()
    return told


@dataclass
class _Seen:
    """A worker as it was seen last."""

    count: int
    shown: int
    """How often it had shown something."""
    count_since: float
    """When its count was first seen, by our clock, seconds."""
    shown_since: float
    """When it last showed something, by our clock, seconds."""


@dataclass
class Ended:
    """A worker that was ended because it stood still."""

    still_s: float
    """How long its count stood still, seconds."""

    traceback: str = ""
    """Where it stood; empty where it could not say."""

    told: threading.Event = field(default_factory=threading.Event)
    """Set once the worker is ended, or can't be."""


class Heartbeats:
    """Watches the workers of a sweep."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._looked_at = clock()
        self._ended: dict[int, Ended] = {}  # by trial

    def tick(self) -> None:
        """Look at the workers, if it is time to; to be called several times a second."""
        now = self._clock()
        if now - self._looked_at < READ_EVERY_S:
            return
        if now - self._looked_at > 3 * READ_EVERY_S:  # this process stood still itself, and so may the workers
            self._seen.clear()
        self._looked_at = now
        try:
            shown = self._store.read()
        except Exception:  # the head does not answer; what it held may be old when it does again
            self._seen.clear()
            return
        self._seen = {key: seen for key, seen in self._seen.items() if key in shown}
        for key, worker in shown.items():
            self._judge(key, worker, now)

    def _judge(self, key: str, worker: Mapping[str, Any], now: float) -> None:
        seen = self._seen.setdefault(key, _Seen(worker["count"], worker["shown"], now, now))
        if seen.shown != worker["shown"]:
            seen.shown, seen.shown_since = worker["shown"], now
        if seen.count != worker["count"] or worker["limit_s"] is None:
            seen.count, seen.count_since = worker["count"], now
        still_s = now - seen.count_since
        is_hung = worker["limit_s"] is not None and still_s > worker["limit_s"] + GRACE_S
        if not is_hung and now - seen.shown_since <= SILENT_LIMIT_S + GRACE_S:
            return
        ended = self._ended[worker["trial"]] = Ended(still_s if is_hung else now - seen.shown_since)
        threading.Thread(target=self._end, args=(key, worker, ended), daemon=True).start()
        seen.count_since = seen.shown_since = now  # if it can't be ended, we try again

    def _end(self, key: str, worker: Mapping[str, Any], ended: Ended) -> None:
        with contextlib.suppress(Exception):  # its node is gone, or the head is
            ended.traceback = self._store.end(worker)
            self._store.forget(key)
        ended.told.set()

    def why_it_died(self, trial: int) -> Ended | None:
        """How a trial's worker stood still, if it was ended for that; asked once, when the worker is dead."""
        ended = self._ended.pop(trial, None)
        if ended is not None:
            ended.told.wait(5.0)
        return ended

    def write_states(self, trials: set[int]) -> None:
        """Have the workers of these trials write their states where they stand, and wait for it, but not for long."""
        end = self._clock() + STATES_TIMEOUT_S
        with contextlib.suppress(Exception):  # without the head, the trials go on from their last states
            self._store.ask_to_stop()
            while self._clock() < end and any(
                worker["trial"] in trials and worker["activity"] not in ("stopped", "loading")
                for worker in self._store.read().values()
            ):
                time.sleep(0.1)


def new_prefix() -> str:
    """The prefix of a sweep's keys in the head's store; another driver of the same sweep gets another one."""
    return f"heartbeats/{uuid.uuid4().hex}"
