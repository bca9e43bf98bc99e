"""The state of the sweep in a run directory, told from its files while it runs and after. Writes nothing there.

python -m tune.search --status RUN       exit code 0 finished, 3 running, 4 stopped before its end
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainable.errors import UserError
from trainable.redaction import one_line
from trainable.storage.urls import is_url, url_problem
from tune.report.progress import clock, short
from tune.run_dir.layout import WHAT_TO_DO, RunDir, open_run_dir
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord
from tune.run_dir.study_file import read_study_file
from tune.spec.sources import given_from_run
from tune.spec.sweep_spec import SweepSpec, build_spec
from tune.spec.yaml_file import read_yaml

EXIT_CODES = {"finished": 0, "running": 3, "stopped": 4}
MAX_REPORT_BYTES = 64 << 20
LOG_LINES, LOG_WIDTH = 5, 200


@dataclass(frozen=True)
class Status:
    """What the files of a run directory say of its sweep.

    run: its path or URL; driver: the process at work there, like "4711 on host"
    best: of the trials that ran their whole schedule; test: the winner's scores, once the sweep is finished
    last_epoch_at: when the last epoch ended that the study knows of, seconds since 1970
    """

    run: str
    spec: SweepSpec
    state: Literal["running", "stopped", "finished"]
    driver: str | None
    records: tuple[TrialRecord, ...]
    best: TrialRecord | None
    test: Mapping[str, Any] | None
    last_epoch_at: float | None
    log_tail: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 finished, 3 running, 4 stopped before its end."""
        return EXIT_CODES[self.state]

    def count(self, state: str) -> int:
        """How many trials are COMPLETE, PRUNED, FAIL or RUNNING."""
        return sum(record.state == state for record in self.records)


def status(run: str | Path) -> Status:
    """What a run directory says of its sweep. Raises UserError where it holds none, or is damaged.

    Reads only, on a file system that can't be written to as well, and neither starts nor disturbs anything.
    """
    run_dir = _opened_run_dir(run)
    problems: list[str] = []
    stored = read_yaml(run_dir.spec_file, problems)  # within limits, which read_spec has not
    if stored is None:
        raise UserError([f"{problem}; {WHAT_TO_DO}" for problem in problems])
    resolved = run_dir.read_spec()["resolved"]
    spec = build_spec(given_from_run(stored), problems)
    if problems:
        raise UserError([f"{run_dir.spec_file} is damaged ({problem}); {WHAT_TO_DO}" for problem in problems])
    driver = run_dir.owner()
    # `resolved` has a precision once the study is there.
    begun = resolved["precision"] is not None
    records = read_study_file(run_dir.study_file, spec.metric, spec.mode, resolved.get("sweep"), begun)
    ended = sum(record.state != "RUNNING" for record in records)
    report = _read_report(run_dir) if ended == len(records) >= spec.num_trials else None
    finished = report is not None and len(report["trials"]) >= len(records)
    epochs = [epoch for record in records for epoch in record.epochs]
    return Status(
        run=run_dir.name,
        spec=spec,
        state="running" if driver is not None else "finished" if finished else "stopped",
        driver=driver,
        records=records,
        best=next(iter(rank(records, spec.metric, spec.mode)), None),
        test=report["test"] if report is not None and finished else None,
        last_epoch_at=max((epoch.ended_at for epoch in epochs), default=None),
        log_tail=_log_tail(run_dir.log_file),
    )


def _opened_run_dir(run: str | Path) -> RunDir:
    """The run directory, with here what lies at a URL. Raises UserError where it holds no sweep."""
    if (problem := url_problem(run)) is not None:
        raise UserError([f"--status {problem}"])
    run_dir = open_run_dir(run, reading=True)
    if run_dir.storage.is_shared_folder:
        _refuse_what_holds_no_sweep(run_dir)
        return run_dir
    try:
        for path in (run_dir.spec_file, run_dir.study_file, run_dir.log_file, run_dir.report_json):
            run_dir.storage.fetch(path)
    except (OSError, ValueError) as error:
        raise UserError([f"--status {run_dir.name}: {getattr(error, 'strerror', None) or error}"]) from error
    if not run_dir.holds_sweep:
        raise UserError([f"--status {run_dir.name}: holds no sweep (no spec.yaml)"])
    return run_dir


def _refuse_what_holds_no_sweep(run_dir: RunDir) -> None:
    root = run_dir.root
    try:
        if not root.is_dir():
            raise UserError([f"--status {root}: {'is a file, not a folder' if root.exists() else 'no such folder'}"])
        if not os.path.lexists(run_dir.spec_file):
            raise UserError([f"--status {root}: holds no sweep (no spec.yaml)"])
        read = (run_dir.spec_file, run_dir.study_file, run_dir.log_file, run_dir.report_json, run_dir.lock_file)
        beside = [run_dir.study_file.with_name(f"{run_dir.study_file.name}-{part}") for part in ("journal", "wal")]
        strange = [path.name for path in (*read, *beside) if not _plain_or_missing(path)]
    except OSError as error:
        raise UserError([f"--status {root}: {error.strerror or error}"]) from error
    if strange:
        raise UserError([f"--status {root}: {', '.join(strange)}: a run directory holds plain files and folders only"])


def _plain_or_missing(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True


def _read_report(run_dir: RunDir) -> dict[str, Any] | None:
    with contextlib.suppress(OSError):
        if run_dir.report_json.stat().st_size <= MAX_REPORT_BYTES:
            return run_dir.read_report()
    return None


def _log_tail(path: Path) -> tuple[str, ...]:
    """The log's last lines, cut where they are long."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_LINES * 4 * LOG_WIDTH))
            lines = file.read(LOG_LINES * 4 * LOG_WIDTH).decode(errors="replace").rstrip("\n").split("\n")
    except OSError:
        return ()
    return tuple(line if len(line) <= LOG_WIDTH else f"{line[:LOG_WIDTH]}..." for line in lines[-LOG_LINES:] if line)


# In words


def as_lines(found: Status, now: float) -> list[str]:
    """Write a status as lines for people; `now` is in seconds since 1970."""
    spec, run = found.spec, found.run
    by = f" (process {found.driver})" if found.driver is not None else ""
    ended = len(found.records) - found.count("RUNNING")
    opened = f"{found.count('RUNNING')} {'running' if found.state == 'running' else 'begun'}"
    lines = [
        f"sweep {spec.name} in {run}: {found.state}{by}",
        f"trials      {ended} of {spec.num_trials} ended: {found.count('COMPLETE')} done, {found.count('PRUNED')} "
        f"stopped early, {found.count('FAIL')} failed; {opened}",
    ]
    best = found.best
    if best is not None and best.value is not None:
        lines.append(
            f"best        {spec.metric} {best.value:.4f} on validation: trial {best.number}, epoch {best.best_epoch}: "
            f"{short(best.config.named())}"
        )
    else:
        lines.append("best        none yet: no trial has run its whole schedule")
    if found.test is not None:
        scores = (
            f"{name} {found.test[name]:.4f}" for name in ("accuracy", "f1") if isinstance(found.test.get(name), float)
        )
        lines.append(f"test        {', '.join(scores)}")
    if found.last_epoch_at is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.last_epoch_at))
        lines.append(f"last epoch  ended {clock(now - found.last_epoch_at)} ago, at {at}")
    else:
        lines.append("last epoch  none yet")
    if found.log_tail and found.state != "finished":
        lines += ["log", *(f"  {line}" for line in found.log_tail)]
    command = f"python -m tune.search {shlex.quote(f'{run}/spec.yaml')} --out {shlex.quote(run)}"
    command += "   (on the cluster's head)" if spec.address is not None else ""
    if is_url(run):
        command = "the command that began it"
    if found.state == "stopped":
        lines.append(f"go on with  {command}")
    elif found.state == "finished":
        lines.append(f"best model  {run}/best")
    return [one_line(line) for line in lines]


def show(run: str) -> int:
    """Print the status of a run directory; returns the exit code."""
    found = status(run if is_url(run) else os.path.expanduser(run))
    print("\n".join(as_lines(found, time.time())))
    return found.exit_code
