"""The state of a sweep in words.

python -m tune.search --status RUN       exit code 0 finished, 3 running, 4 stopped before its end, 5 failed
"""

from __future__ import annotations

import os
import shlex
import time

from trainable.metrics import METRICS
from trainable.redaction import one_line
from trainable.storage.urls import is_url
from tune.report.budget_words import budget_sentence
from tune.report.status import Status, status
from tune.report.text import clock, no_trial_is_left, short
from tune.spec.budgets import settings_of


def show(run: str) -> int:
    """Print the status of a run directory; returns the exit code."""
    found = status(run if is_url(run) else os.path.expanduser(run))
    print("\n".join(as_lines(found, time.time())))
    return found.exit_code


def as_lines(found: Status, now: float) -> list[str]:
    """Write a status for people. `now` is in seconds since 1970."""
    by = f" (process {found.driver})" if found.driver is not None else ""
    ended = len(found.records) - found.count("RUNNING")
    opened = f"{found.count('RUNNING')} {'running' if found.state == 'running' else 'begun'}"
    lines = [
        f"sweep {found.spec.name} in {found.run}: {found.state}{by}",
        f"trials      {ended} of {found.spec.num_trials} ended: {found.count('COMPLETE')} done, "
        f"{found.count('PRUNED')} stopped early, {found.count('FAIL')} failed; {opened}",
        *_budget_lines(found, ended),
        *_confirming_lines(found),
        _best_line(found),
        *_test_lines(found),
        _last_epoch_line(found, now),
    ]
    if found.log_tail and found.state != "finished":
        lines += ["log", *(f"  {line}" for line in found.log_tail)]
    if found.state == "stopped":
        lines.append(f"go on with  {_continuing_command(found)}")
    elif found.state == "failed":
        lines.append(f"go on with  {no_trial_is_left(found.spec.num_trials)}")
    elif found.state == "finished":
        lines.append(f"best model  {found.run}/best")
    return [one_line(line) for line in lines]


def _budget_lines(found: Status, ended: int) -> list[str]:
    settings = settings_of(found.spec)
    if found.budget_ended_by is not None:
        return [f"ended       {budget_sentence(found.budget_ended_by, settings, ended)}"]
    given = ", ".join(
        name.replace("_", " ") if on is True else f"{name.replace('_', ' ')} {on}" for name, on in settings.items()
    )
    return [f"budget      {given}"] if given else []


def _confirming_lines(found: Status) -> list[str]:
    if not found.confirming:
        return []
    ended = sum(record.state != "RUNNING" for record in found.confirming)
    of = sorted({record.confirms for record in found.confirming if record.confirms is not None})
    return [f"confirmed   {ended} of {len(found.confirming)} fresh runs ended, of trials {', '.join(map(str, of))}"]


def _best_line(found: Status) -> str:
    best = found.best
    if best is None or best.value is None:
        return "best        none yet: no trial has run its whole schedule"
    where = f"trial {best.number}, epoch {best.best_epoch}: {short(best.config)}"
    return f"best        {found.spec.metric} {best.value:.4f} on validation: {where}"


def _test_lines(found: Status) -> list[str]:
    """The scores of which more is better; a loss on its own says little."""
    if found.test is None:
        return []
    shown = [metric.name for metric in METRICS.values() if metric.while_running and metric.direction == "max"]
    scores = [f"{name} {found.test.scores[name]:.4f}" for name in shown if name in found.test.scores]
    return [f"test        {', '.join(scores)}"]


def _last_epoch_line(found: Status, now: float) -> str:
    if found.last_epoch_at is None:
        return "last epoch  none yet"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.last_epoch_at))
    return f"last epoch  ended {clock(now - found.last_epoch_at)} ago, at {at}"


def _continuing_command(found: Status) -> str:
    if is_url(found.run):
        return "the command that began it"
    on_head = "   (on the cluster's head)" if found.spec.address is not None else ""
    return f"python -m tune.search --out {shlex.quote(found.run)}{on_head}"
