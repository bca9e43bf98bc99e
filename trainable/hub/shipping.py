"""A model's files on their way to machines that don't have its folder, and where they lie there."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainable.config import Job
from trainable.hub.model_folder import model_files, model_fingerprint
from trainable.storage.folders import is_whole, private_folder, write_folder

Files = Mapping[str, npt.NDArray[np.uint8]]  # by name; arrays, which Ray's object store hands out without a copy


def read_files(folder: Path) -> Files:
    """The files of a model's folder, whole. Raises OSError where one can't be read."""
    return {path.name: np.fromfile(path, dtype=np.uint8) for path in model_files(folder)}


def shipped_bytes(folder: Path) -> int:
    """How much `read_files` reads."""
    return sum(path.stat().st_size for path in model_files(folder))


def with_model_at_hand(job: Job, fetch: Callable[[Any], Files]) -> Job:
    """The same job with a model folder of this machine: the one that it names, or a private copy of what was shipped.

    fetch: gives the files for the job's reference to them; asked only where they are needed
    Raises OSError where they can't be written, PermissionError where somebody else has taken their place.
    """
    if job.model_files is None or job.model_fingerprint is None or _has(Path(job.model_folder), job.model_fingerprint):
        return job
    place = private_folder()
    folder = place / job.model_fingerprint[:16]
    with (place / f"{folder.name}.lock").open("w") as lock:  # one worker of a machine writes, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_whole(folder):
            write_folder(folder, lambda aside: _write(fetch(job.model_files), aside))
    return replace(job, model_folder=str(folder))


def _write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        content.tofile(folder / name)


def _has(folder: Path, fingerprint: str) -> bool:
    try:
        return model_fingerprint(folder) == fingerprint
    except OSError:
        return False
