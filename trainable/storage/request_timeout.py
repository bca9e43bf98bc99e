"""A time limit for what is asked of an object store."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

ANSWER_WITHIN_S = 30.0  # a request of which nothing has moved for so long is given up
PIECE_BYTES = 8 << 20

_moved = threading.local()  # .now(): tells whoever waits for this thread's request that some of it was done


def answered(request: Callable[[], T]) -> T:
    """Do that in a thread of its own; pyarrow itself would wait for ever for a store that stopped answering.

    Raises TimeoutError where nothing has moved for ANSWER_WITHIN_S. Ctrl-C need not wait for an answer either.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None] | None] = queue.SimpleQueue()

    def ask() -> None:
        _moved.now = lambda: answers.put(None)
        try:
            answers.put((request(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    while True:
        try:
            answer = answers.get(timeout=ANSWER_WITHIN_S)
        except queue.Empty:
            _end_without_it()
            raise TimeoutError(f"no answer for {ANSWER_WITHIN_S:.0f} s") from None
        if answer is not None:
            value, error = answer
            if error is not None:
                raise error
            return value  # type: ignore[return-value]


def _end_without_it() -> None:
    """Let this process end while a request is under way; pyarrow would wait for it then, too."""
    from pyarrow import fs

    if (wait := getattr(fs, "ensure_s3_finalized", None)) is not None:
        atexit.unregister(wait)


def copy_moving(source: Any, target: Any) -> None:
    """Copy one open file into another within a request, which may take as long as something moves."""
    while piece := source.read(PIECE_BYTES):
        target.write(piece)
        _moved.now()
