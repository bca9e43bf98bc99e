"""This user's own folder in the machine's temporary one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path


def private_folder() -> Path:
    """A folder in the temporary one (TMPDIR) that nobody but this user can enter; it is made if it is missing.

    Raises:
        PermissionError: Another user has made it first: everybody may write to the temporary folder.
    """
    folder = Path(tempfile.gettempdir()) / f"finetune-search-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of ours alone")
    return folder


def working_folder(url: str) -> Path:
    """Where this user's working copy of the files at a URL lies on this machine; it need not be there yet.

    Raises:
        PermissionError: Another user has made the private folder.
    """
    return private_folder() / hashlib.sha256(url.encode()).hexdigest()[:16]
