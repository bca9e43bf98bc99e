"""Bring a model's files to machines that don't have its folder.

The driver reads them into Ray's object store; a worker that lacks them writes a private copy.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainable.hub.model_folder import model_files, model_fingerprint
from trainable.storage.folders import is_whole, write_folder
from trainable.storage.private_folder import private_folder

Files = Mapping[str, npt.NDArray[np.uint8]]  # by name. Arrays, because Ray's object store shares them without a copy


def read_files(folder: Path) -> Files:
    """The files of a model's folder, whole.

    Raises:
        OSError: A file can't be read.
    """
    return {path.name: np.fromfile(path, dtype=np.uint8) for path in model_files(folder)}


def shipped_bytes(folder: Path) -> int:
    """The number of bytes that `read_files` reads."""
    return sum(path.stat().st_size for path in model_files(folder))


def folder_at_hand(folder: Path, fingerprint: str, fetch: Callable[[], Files]) -> Path:
    """A folder of this machine that holds the model: `folder` itself, or a private copy.

    Args:
        folder: The model's folder on the driver's machine; here it may hold nothing, or another model.
        fingerprint: The model's.
        fetch: Gives the model's files; called only if a copy must be written.

    Raises:
        OSError: The copy can't be written.
        PermissionError: Another user owns the place of the copy.
    """
    if _has(folder, fingerprint):
        return folder
    place = private_folder()
    copy = place / fingerprint[:16]
    with (place / f"{copy.name}.lock").open("w") as lock:  # one worker of the machine writes, the others wait
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
