"""List the sweeps below a folder: what each has come to.

python -m tune.runs            those in runs/
python -m tune.runs FOLDER
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainable.errors import UserError
from trainable.redaction import one_line
from tune.process.command import exit_code_of
from tune.process.surroundings import get_ready
from tune.report.status import Status, status
from tune.report.text import clock
from tune.run_dir.layout import SPEC

DEPTH = 3  # folders below the given one in which sweeps are looked for: runs/PROJECT/NAME/spec.yaml
HEADINGS = ("run", "state", "trials", "best", "test", "last epoch", "size")


@dataclass(frozen=True)
class ListedRun:
    """A run directory, and what its files say."""

    folder: Path
    status: Status | None
    """None where it can't be read."""
    problem: str
    """Why not; else empty."""
    size_bytes: int

    def cells(self, root: Path, now: float) -> tuple[str, ...]:
        """The row of the table. `now` is in seconds since 1970."""
        name = str(self.folder.relative_to(root)) if self.folder != root else str(root)
        size = f"{self.size_bytes / 1e6:,.0f} MB"
        found = self.status
        if found is None:
            return (name, "damaged", "", "", "", "", size)
        ended = len(found.records) - found.count("RUNNING")
        metric, best, test = found.spec.metric, "", ""
        if found.best is not None and found.best.value is not None:
            best = f"{metric} {found.best.value:.4f}"
        if found.test is not None and metric in found.test.scores:
            test = f"{metric} {found.test.scores[metric]:.4f}"
        age = "" if found.last_epoch_at is None else f"{_age(now - found.last_epoch_at)} ago"
        trials = f"{ended}/{found.spec.num_trials}" if found.budget_ended_by is None else str(ended)
        return (name, found.state, trials, best, test, age, size)


def list_runs(folder: Path) -> list[ListedRun]:
    """The run directories in a folder and in its folders, the one that was written last first.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        raise UserError([f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}"])
    found = []
    for place in _run_folders(folder, DEPTH):
        try:
            found.append(ListedRun(place, status(place), "", _size_bytes(place)))
        except UserError as error:
            found.append(ListedRun(place, None, "; ".join(error.problems), _size_bytes(place)))
    return sorted(found, key=_written_at, reverse=True)


def _run_folders(folder: Path, depth: int) -> list[Path]:
    """The folders with a spec.yaml, links left out; nothing is looked for inside of them."""
    if (folder / SPEC).is_file():
        return [folder]
    if depth == 0:
        return []
    try:
        inside = sorted(Path(entry) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []  # a folder of somebody else
    return [run for each in inside if not each.name.startswith(".") for run in _run_folders(each, depth - 1)]


def _size_bytes(folder: Path) -> int:
    """The bytes of all files in a folder; what disappears meanwhile counts nothing."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return size


def _written_at(run: ListedRun) -> float:
    if run.status is not None and run.status.last_epoch_at is not None:
        return run.status.last_epoch_at
    try:
        return (run.folder / SPEC).stat().st_mtime
    except OSError:
        return 0.0


def _age(seconds: float) -> str:
    days = int(seconds // 86400)
    return clock(seconds) if days == 0 else f"{days} day{'' if days == 1 else 's'}"


def as_table(runs: Sequence[ListedRun], root: Path, now: float) -> list[str]:
    """The runs as lines of a table, with the reason below one that can't be read. `now` is in seconds since 1970."""
    rows = [tuple(map(one_line, run.cells(root, now))) for run in runs]
    widths = [max(len(row[i]) for row in (HEADINGS, *rows)) for i in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(HEADINGS, widths, strict=True)).rstrip()]
    for run, row in zip(runs, rows, strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if run.problem:
            lines.append(f"  {one_line(run.problem)}")
    return lines


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.runs", description="List the sweeps below a folder.", allow_abbrev=False
    )
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="runs", help="where they lie (default: runs)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    if argv is None:
        get_ready(partial(print, file=sys.stderr))
    folder = Path(make_parser().parse_args(argv).folder).expanduser()

    def show() -> int:
        runs = list_runs(folder)
        print("\n".join(as_table(runs, folder, time.time())) if runs else f"no sweep lies below {folder}")
        return 0

    return exit_code_of(show)


if __name__ == "__main__":
    sys.exit(main())
