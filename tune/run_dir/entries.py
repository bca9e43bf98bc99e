"""What lies in a run directory is a plain file or a folder: a link there could lead reading and writing elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

SHOWN = 3


def entry_problems(root: Path) -> list[str]:
    """Symbolic links, pipes, sockets and devices below `root`, which may be a link itself or not be there."""
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
