"""Which trial runs next."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass

BACK_OFF_S = 1.0  # the pause before a trial's first retry; each further pause is twice as long


@dataclass(frozen=True)
class NextTrial:
    """A trial that is to run now."""

    number: int
    """Its number in the study."""
    is_new: bool
    """Whether the study does not have it yet, so that its configuration is still to be proposed."""


class TrialQueue:
    """Decides which trial runs next. It knows the trials by their numbers only.

    First come trials that were begun before: those that a dead driver left open, and those whose worker died, once
    their pause is over. Then come new trials. Trials that ran out of memory come last, when others leave them more.
    """

    def __init__(
        self, num_trials: int, left_open: Iterable[int], begun: int, finished: int, repeats: Iterable[int] = ()
    ) -> None:
        """Start with what the study holds.

        Args:
            num_trials: How many trials the search has in all.
            left_open: The trials that a dead driver left open.
            begun: How many trials of the search the study has, finished or not.
            finished: How many of them are finished.
            repeats: The trials that train a finalist again.
        """
        self._repeats = set(repeats)
        self._num_trials = num_trials
        self._begun = begun
        self._finished = finished
        self._again = [(0.0, number) for number in left_open]  # (not before, number), soonest first
        self._need_more_memory: list[int] = []
        self._open: set[int] = set()

    @property
    def open(self) -> int:
        """How many trials are handed out and not finished."""
        return len(self._open)

    @property
    def finished(self) -> int:
        """How many trials of the search are finished."""
        return self._finished

    @property
    def search_is_over(self) -> bool:
        """Whether every trial of the search is finished."""
        begun = {number for _, number in self._again} | {*self._need_more_memory} | self._open
        return self._begun >= self._num_trials and begun <= self._repeats

    @property
    def remaining(self) -> int:
        """How many trials are still to be finished."""
        begun = len(self._again) + len(self._need_more_memory) + len(self._open)
        return max(begun, self._num_trials - self._finished)

    @property
    def all_handed_out(self) -> bool:
        """Whether every trial was handed out at least once and none waits to be run again."""
        return not self._again and not self._need_more_memory and self._begun >= self._num_trials

    @property
    def next_is_new(self) -> bool:
        """Whether the next trial that is handed out is one that the study does not have yet."""
        waits = bool(self._again) and self._again[0][0] <= time.monotonic()
        return not waits and self._begun < self._num_trials

    @property
    def waiting(self) -> list[int]:
        """The trials that were begun and are to be run again."""
        return [*(number for _, number in self._again), *self._need_more_memory]

    def is_repeat(self, number: int) -> bool:
        """Whether a trial trains a finalist again."""
        return number in self._repeats

    def withdraw(self, number: int) -> None:
        """Take a trial out that waits to be run again; from now on it is open."""
        self._again = [(not_before, other) for not_before, other in self._again if other != number]
        self._need_more_memory = [other for other in self._need_more_memory if other != number]
        self._open.add(number)

    def end_search(self) -> None:
        """Begin no further trial of the search."""
        self._num_trials = self._begun

    def repeat(self, number: int) -> None:
        """Note that a trial was begun, and handed out, which trains a finalist again."""
        self._repeats.add(number)
        self._open.add(number)

    def take(self) -> NextTrial | None:
        """Hand out the next trial; None if there is nothing to run now."""
        following = self._next()
        if following is not None:
            self._open.add(following.number)
        return following

    def _next(self) -> NextTrial | None:
        if self._again and self._again[0][0] <= time.monotonic():
            return NextTrial(self._again.pop(0)[1], is_new=False)
        if self._begun < self._num_trials:
            self._begun += 1
            return NextTrial(self._begun + len(self._repeats) - 1, is_new=True)
        if self._need_more_memory:
            return NextTrial(self._need_more_memory.pop(0), is_new=False)
        return None

    def put_back(self, number: int, retry: int) -> float:
        """Run an open trial again after a pause, which is returned, seconds.

        Args:
            number: The trial.
            retry: Which retry this will be, from 1.
        """
        pause_s: float = BACK_OFF_S * 2.0 ** (retry - 1)
        self._open.remove(number)
        insort(self._again, (time.monotonic() + pause_s, number))
        return pause_s

    def put_last(self, number: int) -> None:
        """Run an open trial again when all others have been handed out."""
        self._open.remove(number)
        self._need_more_memory.append(number)

    def close(self, number: int) -> None:
        """Note that an open trial is finished."""
        self._open.remove(number)
        self._finished += number not in self._repeats
