"""Every error that this project raises on purpose.

    FinetuneSearchError
    ├── UserError        the user's input is wrong: all problems at once, exit code 2, nothing was started
    ├── TrialFailed      this trial ends, the sweep goes on; the message is the reason
    │   ├── OutOfMemory     not even a single row fits into memory; with more memory it might
    │   └── WeightsMissing  the model's folder lacks weights of the encoder, which would be drawn at random
    └── SweepFailed      the sweep can't deliver a result, exit code 1
        └── SweepStopped     the sweep was stopped before its end; the same command continues it
            ├── StorageFailed      a disk is full, read-only or broken
            ├── RayDied            a process of Ray that the sweep needs has died
            └── SweepInterrupted   a signal stopped it, exit code 128 + the signal's number

All of them pickle, because they are built from positional arguments alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from trainable.redaction import plain

MAX_LISTED = 50  # names that a message lists
MAX_SHOWN = 500  # characters of a value that a message shows


class FinetuneSearchError(Exception):
    """The root of the tree; it is never raised itself."""

    exit_code = 1

    def __str__(self) -> str:
        return plain(super().__str__())


class UserError(FinetuneSearchError):
    """The user's input is wrong: flags, specification, data, model, run directory or resources."""

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
    """This trial can't go on, for example because its loss is not finite. Another try would fail the same way."""


class OutOfMemory(TrialFailed):
    """Memory ran out although only one row was computed at a time."""


class WeightsMissing(TrialFailed):
    """A model's folder lacks weights of its encoder. No trial of the sweep could start from it."""


class SweepFailed(FinetuneSearchError):
    """No trial finished, or the result could not be written."""


class SweepStopped(SweepFailed):
    """The sweep was stopped before its end. What is finished is kept, and the same command continues."""


class StorageFailed(SweepStopped):
    """The run directory can't be written to: the disk is full, read-only or broken."""


class RayDied(SweepStopped):
    """A process of Ray that the sweep needs has died."""


class SweepInterrupted(SweepStopped):
    """A signal, such as that of Ctrl-C, stopped the sweep."""

    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: a known name that is similar, else all known names."""
    names = sorted(known)
    # difflib takes seconds for thousands of names, or for a name that is a long text.
    near = len(name) <= 100 and len(names) <= 1000
    bare = {each.lstrip("-"): each for each in names}  # their dashes would make all flags similar
    close = difflib.get_close_matches(name.lstrip("-"), bare, n=1, cutoff=0.6) if near else []
    return f"did you mean {bare[close[0]]!r}?" if close else f"known: {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """Names with commas between them. Of many names: the first ones, and how many there are."""
    more = f", ... ({len(names)} in all)" if len(names) > MAX_LISTED else ""
    return ", ".join(name if len(name) <= 100 else f"{name[:100]}..." for name in names[:MAX_LISTED]) + more


def shown(value: object) -> str:
    """A value as a message shows it: its repr, cut if it is long. This never raises."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits
        return f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"
