"""Why a sweep has to end before its last trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Halt:
    """Keeps the first error that must end the sweep.

    Ray Tune treats every error that its callbacks and searchers raise as the error of one trial, and goes on. We keep
    ours here instead; Tune asks for it after every event, and the sweep raises it once Tune's loop has ended.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    @contextlib.contextmanager
    def on_error(self) -> Iterator[None]:
        """Halt the sweep if the block raises an exception, which is kept and not passed on."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
