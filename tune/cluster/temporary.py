"""A temporary folder for one sweep, which no later sweep has to clean up by hand."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tune.cluster.mps import end_service


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed when the context ends, or, if this process is killed, by the next sweep.

    Only its user may enter it. Its owner holds a lock on a file in it, and the system releases that lock when the
    owner's process ends. The path is short, because the paths of Unix sockets in it must stay under 107 bytes.
    """
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix="ft-", dir="/tmp"))
    with (folder / "owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove the folders of sweeps that were killed, and end their multi-process services."""
    for owner in Path("/tmp").glob("ft-*/owner"):
        with contextlib.suppress(OSError):
            _check_that_it_is_ours(owner)
            with owner.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_service(owner.parent)
                shutil.rmtree(owner.parent, ignore_errors=True)


def _check_that_it_is_ours(owner: Path) -> None:
    """Raise PermissionError if another user, who may write to /tmp as well, put the file or its folder there."""
    for path in (owner.parent, owner):
        if path.is_symlink() or path.lstat().st_uid != os.getuid():
            raise PermissionError(f"{path} is not ours")
