"""A model's files on their way to machines that don't have its folder, and where they lie there."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainable.hub.model_folder import model_files, model_fingerprint
from trainable.storage.folders import is_whole, write_folder
from trainable.storage.private_folder import private_folder

Files = Mapping[str, npt.NDArray[np.uint8]]  # by name; arrays, which Ray's object store hands out without a copy


def read_files(folder: Path) -> Files:
    """The files of a model's folder, whole. Raises OSError where one can't be read."""
    return {path.name: np.fromfile(path, dtype=np.uint8) for path in model_files(folder)}


def shipped_bytes(folder: Path) -> int:
    """How much `read_files` reads."""
    return sum(path.stat().st_size for path in model_files(folder))


def folder_at_hand(folder: Path, fingerprint: str, fetch: Callable[[], Files]) -> Path:
    """A model folder on this machine: `folder` where it holds the model, else a private copy of the files sent here.

    Args:
        folder: Where the model may lie.
        fingerprint: Of the model.
        fetch: Gives the model's files; called only where they are needed.

    Raises:
        OSError: The files can't be written.
        PermissionError: Somebody else has taken their place.
    """
    if _has(folder, fingerprint):
        return folder
    place = private_folder()
    copy = place / fingerprint[:16]
    with (place / f"{copy.name}.lock").open("w") as lock:  # one worker of a machine writes, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_whole(copy):
            write_folder(copy, lambda aside: _write(fetch(), aside))
    return copy


def _write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        content.tofile(folder / name)


def _has(folder: Path, fingerprint: str) -> bool:
    try:
        return model_fingerprint(folder) == fingerprint
    except OSError:
        return False
