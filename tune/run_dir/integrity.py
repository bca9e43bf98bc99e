"""Whether a run directory holds what a sweep left there, and all of it: a loss is told, never silently begun anew."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainable.errors import UserError
from trainable.storage.folders import is_aside, sweep_asides
from tune.run_dir.documents import WHAT_TO_DO
from tune.run_dir.layout import RunDir
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord
from tune.run_dir.study import open_study, read_records
from tune.run_dir.study_file import holds_study, study_problem
from tune.spec.sweep_spec import SweepSpec

SHOWN = 3  # strange entries; more are counted


# Files and folders


def entry_problems(root: Path) -> list[str]:
    """Symbolic links, pipes, sockets and devices below `root`: a link could lead reading and writing elsewhere.

    `root` itself may be a link, and need not be there.
    """
    strange = []
    for folder, folders, files in os.walk(root):  # which follows no links
        for name in (*folders, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                strange.append(f"{path.relative_to(root)} is a symbolic link to {os.readlink(path)}")
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                strange.append(f"{path.relative_to(root)} is no plain file")
    if not strange:
        return []
    listed = "; ".join(sorted(strange)[:SHOWN]) + (f"; and {len(strange) - SHOWN} more" if strange[SHOWN:] else "")
    return [f"{root}: a run directory holds plain files and folders only, but {listed}"]


def place_problems(run_dir: RunDir, fresh: bool = False) -> list[str]:
    """Why a sweep can't be run in a folder. One that is not there yet is fine.

    Args:
        run_dir: The run directory on this machine.
        fresh: Whether what lies there is going to be moved aside.
    """
    root = run_dir.root
    if root.exists() and not root.is_dir():
        return [f"--out {root}: is a file, not a folder"]
    if root.is_dir() and not run_dir.holds_sweep:
        # A driver that was killed in its first moment leaves the lock and unfinished files.
        others = [path for path in root.iterdir() if path != run_dir.lock_file and not is_aside(path)]
        if not fresh and (run_dir.study_file in others or run_dir.trials in others):
            return [f"--out {root}: spec.yaml is gone, but a sweep's other files are there; {WHAT_TO_DO}"]
        if others:
            return [f"--out {root}: holds files but no sweep; give a new folder"]
    existing = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return [f"--out {root}: {existing} can't be written to; give another --out"]
    return _kind_problems(run_dir) if run_dir.holds_sweep and not fresh else []


def _kind_problems(run_dir: RunDir) -> list[str]:
    """Files in the place of folders, folders in the place of files, and those that can't be read or written."""
    files = [run_dir.spec_file, run_dir.study_file, run_dir.log_file, run_dir.incumbent_file, run_dir.lock_file]
    files += [run_dir.report_json, run_dir.report_html]
    files += [run_dir.study_file.with_name(f"{run_dir.study_file.name}-{part}") for part in ("journal", "wal", "shm")]
    folders = [run_dir.best, run_dir.trials]
    for number in run_dir.trial_numbers() if run_dir.trials.is_dir() else []:
        files.append(run_dir.failure(number))
        folders += [run_dir.trial(number), run_dir.model(number), run_dir.state(number)]
    found = []
    for path in filter(os.path.lexists, [*files, *folders]):
        is_file = path in files
        if not (path.is_file() if is_file else path.is_dir()):
            wanted, kind = ("file", "folder") if is_file else ("folder", "file")
            found.append(f"{path} is a {kind}, not a {wanted}; {WHAT_TO_DO}")
        elif not os.access(path, os.R_OK | os.W_OK | (0 if is_file else os.X_OK)):
            found.append(f"{path} can't be read and written; give yourself the right to, or another --out")
    return found


# The study, and what must agree with it


def find_records(run_dir: RunDir, spec: SweepSpec, problems: list[str]) -> tuple[TrialRecord, ...]:
    """Put in order what a killed driver left half done, and read the trials of the sweep.

    Args:
        run_dir: A run directory that holds this sweep.
        spec: The sweep.
        problems: Gets a sentence for each loss: the study is not whole, the other files know of more trials than it
            does, or its best model is gone; also if another driver is at work.

    Returns:
        The trials in the order of numbers; none if they can't be read.
    """
    try:
        with run_dir.held():
            sweep_asides(run_dir.root)
            records = _read_study(run_dir, spec)
            problems += [*_what_the_study_lacks(run_dir, records), *_what_the_leader_lacks(run_dir, spec, records)]
            return records
    except UserError as error:
        problems += error.problems
    except OSError as error:
        problems.append(f"--out {run_dir.root}: {error}")
    return ()


def _read_study(run_dir: RunDir, spec: SweepSpec) -> tuple[TrialRecord, ...]:
    """Every trial. Raises UserError if the file is damaged. A file that holds no study is not written to."""
    file = run_dir.study_file
    begun = run_dir.read_spec()["resolved"]["precision"] is not None  # written once the study was there
    if not file.exists():
        if begun:
            raise UserError([f"{file} is gone, and with it what every trial gave; {WHAT_TO_DO}"])
        return ()
    if (problem := study_problem(file)) is not None:
        raise UserError([f"{file} is damaged ({problem}); {WHAT_TO_DO}"])
    if not holds_study(file):
        if begun:
            raise UserError([f"{file} is damaged (it is empty); {WHAT_TO_DO}"])
        return ()
    try:
        records = read_records(open_study(file, spec.mode, run_dir.sweep_id), spec.metric, spec.mode)
        rank(records, spec.metric, spec.mode)
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy, Optuna and JSON raise many kinds for a file that another hand has changed
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError([f"{file} is damaged ({reason}); {WHAT_TO_DO}"]) from error
    return records


def _what_the_study_lacks(run_dir: RunDir, records: tuple[TrialRecord, ...]) -> list[str]:
    """Trials that only other files know of: somebody put an older study in its place, which would run them again."""
    file, problems = run_dir.study_file, []
    if [record.number for record in records] != list(range(len(records))):
        problems.append(f"{file} is damaged (its trials are not numbered from 0 on); {WHAT_TO_DO}")
    unknown = [str(number) for number in run_dir.trial_numbers() if number >= len(records)]
    # In an object store, the study may be 30 seconds older than what workers have published beside it. Those trials
    # are proposed again.
    if unknown and run_dir.storage.is_shared_folder:
        listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        problems.append(
            f"{file} has {len(records)} trials and none of number {listed}, whose folders are in {run_dir.trials}: "
            f"it is older than they are; {WHAT_TO_DO}"
        )
    report = run_dir.read_report()
    told = sum(row.get("state") != "RUNNING" for row in report["trials"]) if report is not None else 0
    found = sum(record.state != "RUNNING" for record in records)
    if told > found:
        problems.append(
            f"{file} has {found} finished trials where {run_dir.report_json} tells of {told}: it is older; {WHAT_TO_DO}"
        )
    return problems


def _what_the_leader_lacks(run_dir: RunDir, spec: SweepSpec, records: tuple[TrialRecord, ...]) -> list[str]:
    ranked = rank(records, spec.metric, spec.mode)
    if any(record.confirms is not None for record in records):  # what is missing is trained again
        return []
    if not ranked or run_dir.model_of(ranked[0].number, ranked[0].model_sha256) is not None:
        return []
    return [leaders_model_is_gone(run_dir, ranked[0].number)]


def leaders_model_is_gone(run_dir: RunDir, number: int) -> str:
    """The problem of a best trial whose model neither its own folder nor best/ holds, in words."""
    return (
        f"the best trial's model, {run_dir.model(number)}, is gone or damaged, and so is {run_dir.best}; {WHAT_TO_DO}"
    )
