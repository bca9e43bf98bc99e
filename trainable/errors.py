"""Every error that this project raises on purpose.

    FinetuneSearchError
    ├── UserError        the user can mend it: all problems at once, exit code 2, nothing started
    ├── TrialFailed      give up on this trial, go on with the sweep; the message is the reason
    │   └── OutOfMemory  not even one row at a time fits; with a larger share it might
    └── SweepFailed      the sweep can't deliver a result, exit code 1
        └── SweepStopped     before its end, but the same command goes on
            ├── StorageFailed      a disk that is full, read-only or broken
            ├── RayDied            a process of Ray's that the sweep can't do without
            └── SweepInterrupted   by a signal, exit code 128 + its number

All of them pickle: they are built from positional arguments alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from trainable.redaction import plain

MAX_LISTED = 50  # names
MAX_SHOWN = 500  # characters of a value


class FinetuneSearchError(Exception):
    """The root of the tree; never raised itself."""

    exit_code = 1

    def __str__(self) -> str:
        return plain(super().__str__())


class UserError(FinetuneSearchError):
    """Problems in what the user gave: flags, specification, data, model, run directory, resources."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return plain(self.problems[0])
        listed = "\n".join(f"  {i}. {problem}" for i, problem in enumerate(self.problems, 1))
        return plain(f"{len(self.problems)} problems:\n{listed}")


class TrialFailed(FinetuneSearchError):
    """This trial can't go on (its loss is not finite, say); trying again would fail the same way."""


class OutOfMemory(TrialFailed):
    """Memory ran out although a single row was computed at a time."""


class SweepFailed(FinetuneSearchError):
    """No trial finished, or the result could not be written."""


class SweepStopped(SweepFailed):
    """Stopped before its end. What is finished is kept, and the same command goes on."""


class StorageFailed(SweepStopped):
    """The run directory can't be written to: the disk is full, read-only or broken."""


class RayDied(SweepStopped):
    """A process of Ray's that the sweep can't do without is gone."""


class SweepInterrupted(SweepStopped):
    """Stopped by a signal, Ctrl-C for one."""

    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one if it is near, else those that there are."""
    names = sorted(known)
    # difflib takes seconds for thousands of names or one that is a text.
    near = len(name) <= 100 and len(names) <= 1000
    bare = {each.lstrip("-"): each for each in names}  # all flags look alike by their dashes
    close = difflib.get_close_matches(name.lstrip("-"), bare, n=1, cutoff=0.6) if near else []
    return f"did you mean {bare[close[0]]!r}?" if close else f"known: {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """Names with commas; of many the first, and how many there are."""
    more = f", ... ({len(names)} in all)" if len(names) > MAX_LISTED else ""
    return ", ".join(name if len(name) <= 100 else f"{name[:100]}..." for name in names[:MAX_LISTED]) + more


def shown(value: object) -> str:
    """A value as an error shows it: its repr, cut where it is long. Never raises."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits
        return f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"
