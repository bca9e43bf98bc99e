"""The state of the sweep in a run directory, read from its files while it runs and after. Nothing is written there."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainable.errors import UserError
from trainable.storage.urls import url_problem
from tune.report.results import SplitScores, SweepReport, is_whole_search, read_report
from tune.run_dir.documents import WHAT_TO_DO
from tune.run_dir.layout import RunDir, open_run_dir
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord, every_trial_failed, of_the_search
from tune.run_dir.study_file import read_study_file
from tune.spec.sources import given_from_run
from tune.spec.sweep_spec import SweepSpec, build_spec
from tune.spec.yaml_file import read_yaml

EXIT_CODES = {"finished": 0, "running": 3, "stopped": 4, "failed": 5}
MAX_REPORT_BYTES = 64 << 20
LOG_LINES, LOG_WIDTH = 5, 200


@dataclass(frozen=True)
class Status:
    """What the files of a run directory say of its sweep."""

    run: str
    """The run directory's path or URL."""
    spec: SweepSpec
    state: Literal["running", "stopped", "finished", "failed"]
    driver: str | None
    """The process that is running the sweep, like "4711 on host"; None where none is."""
    records: tuple[TrialRecord, ...]
    """The trials of the search."""
    confirming: tuple[TrialRecord, ...]
    """The trials that train its finalists again."""
    best: TrialRecord | None
    """The best of the trials that ran their whole schedule."""
    test: SplitScores | None
    """The winner's scores on the test split, once the sweep is finished."""
    last_epoch_at: float | None
    """When the last epoch ended that the study knows of, seconds since 1970."""
    log_tail: tuple[str, ...]
    """The last lines of the log."""
    budget_ended_by: str | None = None
    """The budget that ended the search of a finished sweep; None where none did."""

    @property
    def exit_code(self) -> int:
        """0 finished, 3 running, 4 stopped before its end, 5 failed: all trials ended, and none gave a result."""
        return EXIT_CODES[self.state]

    def count(self, state: str) -> int:
        """How many trials are COMPLETE, PRUNED, FAIL or RUNNING."""
        return sum(record.state == state for record in self.records)


def status(run: str | Path) -> Status:
    """Read what a run directory says of its sweep.

    This only reads, also on a file system that can't be written to. It starts nothing and disturbs no driver.

    Raises:
        UserError: The run directory holds no sweep, or is damaged.
    """
    run_dir = _opened_run_dir(run)
    problems: list[str] = []
    stored = read_yaml(run_dir.spec_file, problems)  # it has limits, which read_spec has not
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
    searched = of_the_search(records)
    ended = sum(record.state != "RUNNING" for record in records)
    report = _read_report(run_dir) if ended == len(records) else None
    whole = report is not None and is_whole_search(report, len(searched), spec)
    finished = whole and report is not None and len(report.trials) >= len(records) and report.unfinished is None
    failed = every_trial_failed(records, spec.num_trials)
    epochs = [epoch for record in records for epoch in record.epochs]
    return Status(
        run=run_dir.name,
        spec=spec,
        state="running" if driver is not None else "finished" if finished else "failed" if failed else "stopped",
        driver=driver,
        records=tuple(searched),
        confirming=tuple(record for record in records if record.confirms is not None),
        best=next(iter(rank(records, spec.metric, spec.mode)), None),
        test=report.test if report is not None and finished else None,
        last_epoch_at=max((epoch.ended_at for epoch in epochs), default=None),
        log_tail=_log_tail(run_dir.log_file),
        budget_ended_by=report.budget_ended_by if report is not None and finished else None,
    )


def _opened_run_dir(run: str | Path) -> RunDir:
    """Open the run directory; what lies at a URL is fetched. Raises UserError where it holds no sweep."""
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
    """Raise UserError where this is no run directory, or one of the files to read is a link, a pipe or a device."""
    root = run_dir.root
    try:
        if not root.is_dir():
            raise UserError([f"--status {root}: {'is a file, not a folder' if root.exists() else 'no such folder'}"])
        if not os.path.lexists(run_dir.spec_file):
            raise UserError([f"--status {root}: holds no sweep (no spec.yaml)"])
        read = (run_dir.spec_file, run_dir.study_file, run_dir.log_file, run_dir.report_json, run_dir.lock_file)
        beside = [run_dir.study_file.with_name(f"{run_dir.study_file.name}-{part}") for part in ("journal", "wal")]
        strange = [path.name for path in (*read, *beside) if not _is_file_or_missing(path)]
    except OSError as error:
        raise UserError([f"--status {root}: {error.strerror or error}"]) from error
    if strange:
        raise UserError([f"--status {root}: {', '.join(strange)}: a run directory holds plain files and folders only"])


def _is_file_or_missing(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True


def _read_report(run_dir: RunDir) -> SweepReport | None:
    with contextlib.suppress(OSError):
        if run_dir.report_json.stat().st_size <= MAX_REPORT_BYTES:
            return read_report(run_dir)
    return None


def _log_tail(path: Path) -> tuple[str, ...]:
    """Read the log's last lines, each cut to LOG_WIDTH characters."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_LINES * 4 * LOG_WIDTH))
            lines = file.read(LOG_LINES * 4 * LOG_WIDTH).decode(errors="replace").rstrip("\n").split("\n")
    except OSError:
        return ()
    return tuple(line if len(line) <= LOG_WIDTH else f"{line[:LOG_WIDTH]}..." for line in lines[-LOG_LINES:] if line)
