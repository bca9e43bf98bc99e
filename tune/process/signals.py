"""Ctrl-C and its relatives: the first signal ends the sweep in order, the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# From the first signal to the end of the process. What is not written by then is computed again when the sweep is
# continued.
STOP_LIMIT_S = 12.0

# `timeout` and batch systems send a signal to a process and again to its group: so soon it is the same one. Ctrl-C is
# typed by somebody, who means each.
SAME_STOP_S = 1.0

# `--stop RUN --finish` sends it. Tune takes SIGUSR1 for itself, and our watch SIGUSR2; macOS has no real-time signals.
FINISH_SIGNAL: int = getattr(signal, "SIGRTMIN", None) or signal.SIGURG

_stop_asked = threading.Event()
_finish_asked = threading.Event()


class Signals:
    """While this context is open, Ctrl-C, SIGTERM and SIGHUP end the sweep in order, and a second one ends it at once.

    The first signal raises KeyboardInterrupt in the main thread. Where SIGHUP is ignored it stays so: nohup ignores it
    for the sweep to outlive its terminal. Only a command line may use this class: in a notebook the signals belong to
    the notebook.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The number of the first signal; None as long as none came."""
        self._received_at = 0.0

    def __enter__(self) -> Signals:
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        heard = [number for number in SIGNALS if not (nohup and number == signal.SIGHUP)]
        self._before: dict[int, Any] = {number: signal.signal(number, self._receive) for number in heard}
        self._before[FINISH_SIGNAL] = signal.signal(FINISH_SIGNAL, lambda number, frame: _finish_asked.set())
        return self

    def __exit__(self, *_: object) -> None:
        _stop_asked.clear()
        _finish_asked.clear()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number != signal.SIGINT and time.monotonic() - self._received_at < SAME_STOP_S:
                return
            end_at_once(128 + number)
        self.received, self._received_at = number, time.monotonic()
        _stop_asked.set()
        timer = threading.Timer(STOP_LIMIT_S, end_at_once, [128 + number])
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt


def heed_signals() -> None:
    """Raise KeyboardInterrupt if a signal came but its KeyboardInterrupt got lost.

    Python only prints an exception that is raised inside a finalizer, and goes on. A signal that arrives at such a
    moment would have no effect if nobody asked again.
    """
    if _stop_asked.is_set():
        raise KeyboardInterrupt


def ask_to_finish() -> None:
    """End the search before it begins, and make the result from what is done; while `Signals` is open."""
    _finish_asked.set()


def finish_asked() -> bool:
    """Whether somebody asked to end the search, and to make the result from what is done."""
    return _finish_asked.is_set()


def end_at_once(code: int) -> NoReturn:
    """End this process and every process that it started, without any cleaning up."""
    end_descendants()
    os._exit(code)


def end_descendants() -> None:
    """Kill every process that this one started, and theirs.

    The processes of a private Ray would otherwise live on for up to a minute after their driver.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextlib.contextmanager
def own_handlers() -> Iterator[None]:
    """Keep this process's own signal handlers over a block in which Ray starts, which sets some of its own."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, FINISH_SIGNAL)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None:  # one that C code has set can't be set again from here
                signal.signal(number, handler)
