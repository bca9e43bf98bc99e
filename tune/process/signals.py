"""What ends a sweep before its time: signals, a Ray that died, a disk that is full, our own mistakes."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from trainable.errors import FinetuneSearchError, StorageFailed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_LIMIT_S = 12.0  # after the first signal; whatever is not written by then is made again when the sweep goes on
RESTARTS = "FINETUNE_SEARCH_RESTARTS"  # how often this command has restarted itself
MAX_RESTARTS = 5
COMMAND = "FINETUNE_SEARCH_COMMAND"  # what the user typed, where this process is a job's
WATCH_EVERY_S = 1.0
GIVE_UP_S = 30.0  # for Ray to shut down in order
STORAGE_ERRNOS = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.ESTALE,
)  # fmt: skip
STORAGE_WORDS = ("disk is full", "disk I/O error", "readonly database", "unable to open database", "No space left")

_stop_asked = threading.Event()


class Halt:
    """Why the sweep is to end; the first reason stands. Tune asks for it after every event."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    @contextlib.contextmanager
    def on_error(self) -> Iterator[None]:
        """Halt the sweep where an error comes up: Tune would call it the trial's."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error


def storage_trouble(error: BaseException) -> str | None:
    """Why something could not be written, in words; None where the error is of another kind."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in STORAGE_ERRNOS:
            return f"{cause.filename or 'a file'}: {cause.strerror}"
        if any(word in str(cause) for word in STORAGE_WORDS):
            return str(cause).strip().splitlines()[0]
        cause = cause.__cause__ or cause.__context__
    return None


@contextlib.contextmanager
def storage_told(where: object) -> Iterator[None]:
    """Turn what a full, broken or read-only disk raises into a StorageFailed."""
    try:
        yield
    except FinetuneSearchError:
        raise
    except Exception as error:
        reason = storage_trouble(error)
        if reason is None:
            raise
        raise StorageFailed(f"can't write to {where} ({reason}); what is finished is kept there") from error


class Signals:
    """While in use, Ctrl-C, SIGTERM and SIGHUP end the sweep in order, and a second one at once.

    The first raises KeyboardInterrupt in the main thread. Only a command line may use this: in a notebook's process
    signals are the notebook's.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        _stop_asked.clear()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            end_at_once(128 + number)
        self.received = number
        _stop_asked.set()
        timer = threading.Timer(STOP_LIMIT_S, end_at_once, [128 + number])
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt


def heed_signals() -> None:
    """Raise KeyboardInterrupt where a signal came whose own was lost: Python only prints what a finalizer raises."""
    if _stop_asked.is_set():
        raise KeyboardInterrupt


def end_at_once(code: int) -> NoReturn:
    """End this process and all that it started, without any cleaning up."""
    _end_descendants()
    os._exit(code)


def _end_descendants() -> None:
    """Without this, what is left of a Ray whose driver has gone lives on for up to a minute."""
    for pid in _descendants(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _descendants(ancestor: int) -> list[int]:
    """The processes below a process, parents before their children; none where there is no /proc."""
    found = [ancestor]
    for pid in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found[1:]


@contextlib.contextmanager
def own_handlers() -> Iterator[None]:
    """Keep this process's own signal handlers; Ray sets some when it starts."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)


class Watch:
    """While in use, ask again and again whether Ray lives; where it does not, interrupt the main thread.

    Tune waits for ever where the raylet beside it is gone, and the process ends without a word where Ray's control
    service is. What hangs even then ends by `give_up`, which is given what died.
    """

    def __init__(
        self, what_died: Callable[[], str | None], give_up: Callable[[str], None] = lambda reason: None
    ) -> None:
        self.reason: str | None = None
        self._what_died = what_died
        self._give_up = give_up
        self._end = threading.Event()
        self._ending = threading.Lock()  # held while the handler must be ours
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        if threading.current_thread() is threading.main_thread():  # no other thread can be interrupted
            self._before = signal.signal(signal.SIGUSR2, _interrupt)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._ending:
            self._end.set()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR2, self._before)

    def _watch(self) -> None:
        while not self._end.wait(WATCH_EVERY_S):
            reason = self._what_died()
            main = threading.main_thread().ident
            if reason is None or main is None:
                continue
            with self._ending:
                if self._end.is_set():  # Ray was shut down in order meanwhile
                    return
                self.reason = reason
                signal.pthread_kill(main, signal.SIGUSR2)
            time.sleep(GIVE_UP_S)
            self._give_up(reason)
            return


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def continuing_command(argv: Sequence[str]) -> str:
    """The command that goes on with a sweep that this one began."""
    return os.environ.get(COMMAND) or shlex.join(
        ["python", "-m", "tune.search", *(word for word in argv if word != "--fresh")]
    )


def restart() -> None:
    """Run this command anew in this process's place, after a pause that grows; returns where it did so too often.

    A new program, since Ray's libraries end a process whose control service is gone.
    """
    before = int(os.environ.get(RESTARTS, "0"))
    if before >= MAX_RESTARTS:
        return
    print(f"starting again ({before + 1} of at most {MAX_RESTARTS} times)", file=sys.stderr, flush=True)
    time.sleep(2.0**before)
    os.environ[RESTARTS] = str(before + 1)
    words = [word for word in sys.orig_argv[1:] if word != "--fresh"]
    _end_descendants()
    os.execv(sys.executable, [sys.executable, *words])
