"""Open a run directory: one in which a sweep was begun, or one whose sweep has a result."""

from __future__ import annotations

import contextlib
from pathlib import Path

from trainable.errors import UserError
from tune.run_dir.integrity import entry_problems
from tune.run_dir.layout import RunDir, open_run_dir

AGAIN = "the same `python -m tune.search` command"


def open_begun(run: str | Path, reading: bool = True) -> RunDir:
    """Open a run directory in which a sweep was begun, whether it has ended or not; what lies at a URL is fetched.

    Args:
        run: The run directory, or its URL.
        reading: Whether the caller only reads.

    Raises:
        UserError: No sweep is there, or what is there can't be read.
    """
    run_dir = open_run_dir(run, reading=reading)
    try:
        with contextlib.nullcontext() if reading or run_dir.storage.is_shared_folder else run_dir.held():
            run_dir.fetch()
    except (OSError, ValueError) as error:
        raise UserError([f"{run_dir.name}: {getattr(error, 'strerror', None) or error}"]) from error
    if run_dir.storage.is_shared_folder and not run_dir.root.is_dir():
        raise UserError([f"{run}: {'is a file, not a folder' if run_dir.root.exists() else 'no such folder'}"])
    if not run_dir.holds_sweep:
        raise UserError([f"{run_dir.name}: holds no sweep (no spec.yaml)"])
    if strange := entry_problems(run_dir.root):
        raise UserError(strange)
    return run_dir


def open_finished(run: str | Path) -> RunDir:
    """Open a run directory whose best/ is there and whole; else raise UserError."""
    from trainable.hub.model_checks import model_problems

    run_dir = open_begun(run)
    if not run_dir.best.exists():
        raise UserError([f"{run_dir.name}: holds no best model yet; {AGAIN} goes on"])
    run_dir.read_spec()
    if run_dir.best_metrics() is None or model_problems(run_dir.best):
        raise UserError([f"{run_dir.best} is damaged, or another sweep's; {AGAIN} makes it again"])
    return run_dir
