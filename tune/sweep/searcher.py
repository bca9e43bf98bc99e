"""The adapter that lets Ray Tune ask the trial book for trials."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

from ray.tune.search import Searcher

from tune.process.signals import finish_asked
from tune.sweep.halt import Halt
from tune.sweep.trial_book import TrialBook


class StudySearcher(Searcher):
    """Tune's searcher. It hands out what the book issues; the results reach the book through the sweep's callback."""

    def __init__(
        self,
        book: TrialBook,
        halt: Halt,
        limit: Callable[[], int],
        when_all_issued: Callable[[], None] = lambda: None,
    ) -> None:
        """Search with a book.

        Args:
            book: Issues the trials.
            halt: Once it holds an error, no trial is handed out.
            limit: How many trials may be open now; asked before each trial.
            when_all_issued: Is called in a thread of its own when the last trial was handed out.
        """
        super().__init__(metric=book.spec.metric, mode=book.spec.mode)
        self._book = book
        self._halt = halt
        self._limit = limit
        self._when_all_issued = when_all_issued

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into a snapshot that nobody reads

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Tune's config of the next trial; None if none is to be started now, FINISHED if none is left."""
        with self._halt.on_error():
            if self._halt.error is None and not finish_asked() and self._book.remaining:
                if self._book.open >= self._limit():
                    return None
                assignment = self._book.issue()
                if assignment is None:
                    return None
                if self._book.all_issued:
                    Thread(target=self._when_all_issued, daemon=True).start()
                return {"assignment": assignment}
        return str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the callback hears of each end, with its reason."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study remembers everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study remembers everything."""
