"""One process at a time in a run directory, by a lock on a file there that says who holds it.

`filelock` would not do: it says nothing of the owner, and whoever only asks must be able to write.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from trainable.errors import UserError

ATTEMPTS, PAUSE_S = 3, 0.05  # `owner` has the lock for a moment when it asks


@contextlib.contextmanager
def held(lock_file: Path, name: str) -> Iterator[None]:
    """Hold the lock while the context lasts. The system gives it back when the process dies, however it dies.

    Args:
        lock_file: Made if it is not there, and left there.
        name: What the user calls the run directory.

    Raises:
        UserError: Another process holds the lock. The error names it and its machine.
    """
    handle = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not attempts_left:
                    told = f"--out {name}: another sweep is running here (process {_written_owner(handle)})"
                    raise UserError([told]) from None
                time.sleep(PAUSE_S)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)  # gives the lock back


def owner(lock_file: Path) -> str | None:
    """The process that holds the lock, like "4711 on host"; None if none does. Writes nothing."""
    try:
        handle = os.open(lock_file, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written_owner(handle)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(handle)
    return None


def _written_owner(handle: int) -> str:
    """The process that wrote last that it holds the lock; "unknown" if the text is another hand's."""
    text = os.pread(handle, 300, 0).decode(errors="replace").strip()
    return text if re.fullmatch(r"[0-9]+( on [\w.-]+)?", text) else "unknown"
