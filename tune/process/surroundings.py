"""What a command does before anything else about where it was started: streams, the working directory, caches.

Nothing here imports more than the standard library.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# Caches of the libraries below, which they put below HOME. Each takes the folder that its variable names.
CACHES = {
    "HF_HOME": "huggingface",
    "XDG_CACHE_HOME": "cache",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}
READ_ONLY = "HF_DATASETS_CACHE"  # what `datasets` writes, where the hub's cache is only read


def get_ready(say: Callable[[str], None]) -> None:
    """Make the process run wherever it was started.

    Args:
        say: Shows a line to the user.
    """
    keep_streams_open()
    leave_working_directory()
    if said := use_temporary_caches():
        say(said)


def keep_streams_open() -> None:
    """Let output that nobody can read, or that the stream has no letters for, end no sweep."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a standard stream was closed: a file or socket would take its number, and get what is printed
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _Stream.in_place_of(stream))


class _Stream(io.TextIOWrapper):
    """A stream whose reader may go, as that of `| head` does: what is printed then goes nowhere, and nothing fails."""

    @classmethod
    def in_place_of(cls, stream: io.TextIOWrapper) -> _Stream:
        """Take over a stream; letters that it can't write become escapes."""
        encoding, is_line_buffered, is_unbuffered = stream.encoding, stream.line_buffering, stream.write_through
        stream.flush()
        return cls(
            stream.detach(),
            encoding,
            "backslashreplace",
            line_buffering=is_line_buffered,
            write_through=is_unbuffered,
        )

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def leave_working_directory() -> None:
    """Take the working directory off the path of imports, where `python -m` puts it.

    A user's evaluate.py or datasets.py would otherwise be imported in place of the library.
    """
    if not in_source_folder():
        here = os.path.realpath(os.curdir)
        sys.path[:] = [path for path in sys.path if os.path.realpath(path or os.curdir) != here]


def in_source_folder() -> bool:
    """Whether the working directory is the one from which this program is imported."""
    return os.path.realpath(os.curdir) == os.path.realpath(Path(__file__).parents[2])


def use_temporary_caches() -> str:
    """Where the home folder can't be written to, put the caches of the libraries into a temporary folder.

    Returns:
        What was done, for the user; empty where nothing had to be.
    """
    home = os.path.expanduser("~")
    there = home
    while not os.path.isdir(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)  # the libraries make a home that is missing, where they may
    if os.access(there, os.W_OK | os.X_OK):
        return ""
    can_be_read = os.path.isdir(os.path.join(home, ".cache", "huggingface", "hub"))  # models that were put there before
    caches = {(READ_ONLY if name == "HF_HOME" and can_be_read else name): where for name, where in CACHES.items()}
    unset = [name for name in caches if name not in os.environ]
    if not unset:
        return ""
    folder = os.path.join(tempfile.gettempdir(), f"finetune-search-cache-{os.getuid()}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.stat(folder).st_uid != os.getuid():  # somebody else was there first
        folder = tempfile.mkdtemp(prefix="finetune-search-cache-")
    for name in unset:
        os.environ[name] = os.path.join(folder, caches[name])
    os.environ.setdefault("USER", str(os.getuid()))  # getpass asks for it before the list of users
    if home == "~":  # no HOME, and no user of this number: Ray asks for one when it is imported
        os.environ["HOME"] = folder
        return f"note: there is no home folder: caches go to {folder}"
    what = "is missing" if not os.path.isdir(home) else "can't be written to"
    return f"note: the home folder {home} {what}: caches go to {folder}"
