"""A time limit for requests to an object store: pyarrow itself waits forever for a store that stopped answering."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

ANSWER_WITHIN_S = 30.0  # a request is given up if it makes no progress for this long
PIECE_BYTES = 8 << 20  # of a large file; each piece that was copied counts as progress

_progress = threading.local()  # .report(): tells the thread that waits for this one's request


def answered(request: Callable[[], T]) -> T:
    """Make a request in a thread of its own and return what it returns.

    A large transfer may take longer than the limit, as long as `copy_moving` reports progress. While a request is
    under way, Ctrl-C ends the wait.

    Raises:
        TimeoutError: The request has made no progress for ANSWER_WITHIN_S.
    """
    # None means progress; anything else is the result, or the exception, at the end.
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None] | None] = queue.SimpleQueue()

    def ask() -> None:
        _progress.report = lambda: answers.put(None)
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
    """Let this process exit while a request is still under way: pyarrow's exit handler would wait for it."""
    from pyarrow import fs

    if (wait := getattr(fs, "ensure_s3_finalized", None)) is not None:
        atexit.unregister(wait)


def copy_moving(source: Any, target: Any) -> None:
    """Copy one open file into another as part of a request, and report progress after each piece."""
    while piece := source.read(PIECE_BYTES):
        target.write(piece)
        _progress.report()
