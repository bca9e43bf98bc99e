"""A worker's heartbeat: a thread that tells the driver, through the head of Ray, what the worker does.

It uses the key-value store of Ray's head, which every worker is connected to already. A message is a few hundred bytes
every two seconds; it needs no process and no file. The driver ends a worker whose count stands still too long. It asks
for a traceback first, with a signal that faulthandler answers even where Python hangs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable
from typing import Any

from trainable.train.pulse import Pulse

EVERY_S = 2.0
NAMESPACE = b"finetune-search"  # of our keys in the head's store
STOP = "stop"  # the key below a sweep's prefix that asks the workers to stop
TRACEBACK_SIGNAL = signal.SIGUSR2


class Heartbeat:
    """Shows a worker's pulse to the driver as long as the worker lives."""

    def __init__(
        self, pulse: Pulse, prefix: str | None, trial: Callable[[], int], when_stopped: Callable[[], None]
    ) -> None:
        """Prepare the heartbeat.

        Args:
            pulse: What is shown.
            prefix: Of the sweep's keys; None means that nobody looks.
            trial: The number of the worker's trial.
            when_stopped: Is called once, in the heartbeat's thread, where the sweep is being stopped.
        """
        self._pulse = pulse
        self._prefix = prefix
        self._key = f"{prefix}/{uuid.uuid4().hex}"
        self._trial = trial
        self._when_stopped = when_stopped
        self._ended = threading.Event()
        self._shown = 0

    def start(self) -> None:
        """Begin to beat."""
        if self._prefix is None:
            return
        import psutil
        import ray

        self._traceback = tempfile.TemporaryFile()  # noqa: SIM115 - it has no name, so nothing is left of it
        faulthandler.register(TRACEBACK_SIGNAL, file=self._traceback)
        self._facts = {
            "pid": os.getpid(),
            "created": psutil.Process().create_time(),
            "node": ray.get_runtime_context().get_node_id(),
            "traceback": f"/proc/{os.getpid()}/fd/{self._traceback.fileno()}",
        }
        self.show()
        threading.Thread(target=self._beat, daemon=True).start()

    def end(self) -> None:
        """Beat no more."""
        if self._prefix is not None:
            from ray.experimental.internal_kv import _internal_kv_del

            self._ended.set()
            with contextlib.suppress(Exception):  # the head may be gone
                _internal_kv_del(self._key, namespace=NAMESPACE)

    def _beat(self) -> None:
        from ray.experimental.internal_kv import _internal_kv_exists

        while not self._ended.wait(EVERY_S):
            self.show()
            with contextlib.suppress(Exception):  # as in `show`
                if not self._pulse.stop_asked and _internal_kv_exists(f"{self._prefix}/{STOP}", namespace=NAMESPACE):
                    self._pulse.stop_asked = True
                    with contextlib.suppress(OSError):  # a full disk: the trial goes on from an earlier state
                        self._when_stopped()
                    self._pulse.activity = "stopped"
                    self.show()

    def show(self) -> None:
        """Show what the worker does now."""
        if self._prefix is None:
            return
        from ray.experimental.internal_kv import _internal_kv_put

        pulse = self._pulse
        self._shown += 1
        shown: dict[str, Any] = {
            **self._facts,
            "trial": self._trial(),
            "activity": pulse.activity,
            "count": pulse.count,
            "limit_s": pulse.limit_s,
            "shown": self._shown,
        }
        with contextlib.suppress(Exception):  # the head may be restarting
            _internal_kv_put(self._key, json.dumps(shown), overwrite=True, namespace=NAMESPACE)
