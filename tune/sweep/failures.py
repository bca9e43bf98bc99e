"""Why a trial failed, and what follows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayTaskError

from trainable.errors import StorageFailed, SweepFailed, UserError
from trainable.job import Assignment
from trainable.redaction import plain
from trainable.storage.folders import write_text
from trainable.train.memory import is_out_of_memory
from tune.cluster.plan import Plan
from tune.report.text import short
from tune.run_dir.layout import RunDir
from tune.sweep.heartbeats import Ended
from tune.sweep.trial_book import TrialBook

SAME_FAILURES = 5  # if the first so many trials all fail the same way, further ones would fail that way, too

FailureKind = Literal["failed", "died", "node", "memory", "storage", "model"]
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Ray colours its tracebacks
# What Ray's memory monitor says of a worker that it ended. Ray's own error has no class for it while a worker starts.
_SHORT_OF_MEMORY = re.compile(r"running low on memory|memory usage threshold|memory monitor")
# What Ray says of a worker whose machine was lost or taken back.
_NODE_WENT = re.compile(r"its node has died|node was terminated|was preempted", re.IGNORECASE)
_NUMBERS = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True)
class Failure:
    """Why a trial did not come to its end."""

    kind: FailureKind
    """The trial failed by its nature, its worker died, its node went, memory ran out, the storage could not be
    written, or no trial can start from the model.
    """
    reason: str
    """In a line."""
    text: str
    """In full: a traceback, if there is one."""


@dataclass(frozen=True)
class SetAside:
    """A trial that failed for now; it was put back and will be run again."""

    why: str
    """The reason, and what happens next, for the user."""


def failure_in_result(problem: str, result: Mapping[str, Any]) -> Failure:
    """The failure that a worker reported itself, or that its numbers show.

    Args:
        problem: What `result_problem` says of the result.
        result: What the worker reported.
    """
    return Failure(result.get("kind", "failed"), problem, problem)


def failure_of(error: BaseException | None, error_file: Path | None, ended: Ended | None = None) -> Failure:
    """The failure of a trial that raised an exception or whose worker died.

    Args:
        error: Ray's error; None if there is none.
        error_file: Ray's account of it; None if Ray wrote none.
        ended: How its worker stood still, if it was ended for that.
    """
    text = error_file.read_text(encoding="utf-8") if error_file is not None and error_file.is_file() else ""
    text = _COLOURS.sub("", text).strip()
    kind, reason = why_it_failed(error, text)
    if kind == "died" and ended is not None:
        reason = f"its worker finished nothing for {ended.still_s:.0f} s and was ended"
        text = f"{text}\n\nWhere it stood:\n{ended.traceback or 'it could not say'}"
    return Failure(kind, reason, text or reason)


def why_it_failed(error: BaseException | None, text: str) -> tuple[FailureKind, str]:
    """The kind and the reason of a failure. The error's class decides; Ray has none of its own for some deaths.

    Args:
        error: Ray's error; None if there is none.
        text: Ray's account of it.
    """
    last = text.rpartition("\n")[2].strip() or "the worker died without a word"
    if isinstance(error, RayTaskError):
        return ("memory" if is_out_of_memory(error.cause) else "failed"), last
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return "failed", last
    # The worker could not say anything: the words are Ray's, and hold no traceback of the trial's.
    cause = error and error.__cause__
    if isinstance(cause, OutOfMemoryError) or _SHORT_OF_MEMORY.search(text):
        return "memory", "the machine was short of memory, and Ray ended the trial's worker"
    went = isinstance(cause, NodeDiedError) or (isinstance(error, RayActorError) and error.preempted)
    if went or _NODE_WENT.search(text):
        return "node", f"its node went ({last})"
    return "died", f"its worker died ({last})"


def what_follows(failure: Failure, number: int, book: TrialBook, plan: Plan) -> SetAside | Failure:
    """Put a trial back if it can be run again.

    A trial whose worker died is run again after a pause, `max_retries` times without getting any further; a node that
    went does not count. A trial that ran out of memory is run
    again with twice the resources, up to all that one machine can give it.

    Returns:
        SetAside if the trial will be run again; else the failure with the reason that the study is to keep.

    Raises:
        StorageFailed: The trial could not write its files. Others could not, either.
        UserError: The model's weights are not its own.
    """
    match failure.kind:
        case "storage":
            raise StorageFailed(f"trial {number} {failure.reason}; what is finished is kept")
        case "model":
            raise UserError([failure.reason])
        case "died" | "node":
            pause_s = book.run_again(number, counts=failure.kind == "died")
            if pause_s is not None:
                return SetAside(f"{failure.reason}; it goes on from its last state in {pause_s:g} s")
            deaths = book.spec.max_retries + 1
            if deaths == 1:
                return failure
            return replace(failure, reason=f"{failure.reason}; it died {deaths} times without getting any further")
        case "memory":
            multiplier = book.run_with_more_memory(number, plan.largest_multiplier)
            if multiplier is not None:
                return SetAside(f"{failure.reason}; it will be run with {multiplier} times the resources of the others")
            return replace(failure, reason=f"infeasible: {failure.reason}, with all that one machine can give it")
        case "failed":
            return failure


def write_failure(run_dir: RunDir, assignment: Assignment, failure: Failure) -> str:
    """Write a trial's failure.txt; returns the file as the user calls it."""
    file = run_dir.failure(assignment.number)
    file.parent.mkdir(parents=True, exist_ok=True)
    config = short(assignment.config)
    write_text(file, f"{plain(failure.text).rstrip()}\n\nconfiguration: {config}\nseed: {assignment.seed}\n")
    return run_dir.storage.name_of(file)


class FirstFailures:
    """Ends a sweep whose first trials all fail the same way."""

    def __init__(self, some_trial_ended_well: bool) -> None:
        self._some_trial_ended_well = some_trial_ended_well
        self._reasons: list[str] = []

    def trial_ended_well(self) -> None:
        """Note a trial that did not fail: from now on no failure ends the sweep."""
        self._some_trial_ended_well = True

    def trial_failed(self, reason: str, log: str) -> None:
        """Note a trial that failed.

        Args:
            reason: In a line. Reasons that differ in their numbers only count as the same.
            log: Where the user finds more.

        Raises:
            SweepFailed: It was one failure too many.
        """
        self._reasons.append(_NUMBERS.sub("N", reason))
        if self._some_trial_ended_well or len(self._reasons) != SAME_FAILURES or len(set(self._reasons)) > 1:
            return
        raise SweepFailed(
            f"the first {SAME_FAILURES} trials all failed the same way: {reason}\n"
            f"log: {log}\nThe same command tries the trials that are left."
        )
