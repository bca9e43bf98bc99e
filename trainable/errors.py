"""Every error that this project raises on purpose.

    FinetuneSearchError
    ├── UserError        the user can mend it: all problems at once, exit code 2, nothing started
    ├── TrialFailed      give up on this trial, go on with the sweep; the message is the reason
    └── SweepFailed      the sweep can't deliver a result, exit code 1
        └── SweepInterrupted   stopped from outside, exit code 130; the same command goes on

All of them pickle: they are built from positional arguments alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from trainable.plain import plain


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


class SweepFailed(FinetuneSearchError):
    """No trial finished, or the result could not be written."""


class SweepInterrupted(SweepFailed):
    """Ctrl-C: what is finished is kept, and the same command goes on."""

    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one if it is near, else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
