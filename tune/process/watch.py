"""A watch over something that this process needs: when it dies, the main thread is interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

WATCH_EVERY_S = 1.0
GIVE_UP_S = 30.0  # how long the main thread may take to end in order after it was interrupted


class Watch:
    """While this context is open, a thread asks again and again whether something died.

    A sweep watches Ray this way. Tune waits forever when the raylet on its machine is gone, and Ray ends the process
    without a message when its control service is gone.
    """

    def __init__(
        self, what_died: Callable[[], str | None], give_up: Callable[[str], None] = lambda reason: None
    ) -> None:
        """Prepare the watch; it begins when the context is entered.

        Args:
            what_died: Says in words what died; None as long as nothing has.
            give_up: Is called with these words if the main thread still hangs half a minute after it was interrupted.
        """
        self.reason: str | None = None
        """What died, in words; None as long as nothing has."""
        self._what_died = what_died
        self._give_up = give_up
        self._end = threading.Event()
        self._ending = threading.Lock()  # whoever holds it can rely on our signal handler
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
                if self._end.is_set():  # the context was left in order while we asked
                    return
                self.reason = reason
                signal.pthread_kill(main, signal.SIGUSR2)
            time.sleep(GIVE_UP_S)
            self._give_up(reason)
            return


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
