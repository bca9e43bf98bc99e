"""What a sweep asks of the place where its files lie."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence
from pathlib import Path


class Storage(abc.ABC):
    """The place of a run directory, as the driver and the workers of a sweep use it.

    All files are written and read below `root`, a folder of this machine. If every machine sees that folder
    (`FolderStorage`), nothing else is needed. If the files lie in an object store (`ObjectStore`), `root` is only this
    machine's working copy. Whoever has completed a file or a folder then publishes it. Whoever reads it fetches it
    first. Code that does both works with every kind of storage. `tests/contracts/test_storage.py` states what each
    kind must keep.

    A storage knows no file names of a sweep: the run directory gives it paths below `root`, and patterns of them.

    A storage is sent to other machines by pickle. On arrival it has that machine's own working copy as its root, so a
    path that came from the driver goes through `here` before it is used.

    Example:
        A worker writes a state, and a worker on another machine goes on from it::

            write_folder(state, write)  # complete on this machine
            storage.publish(state)

            state = storage.here(state)  # on the other machine
            if storage.fetch(state):
                run.load_state(state)
    """

    def __init__(self, root: Path, url: str | None = None) -> None:
        self.root = root
        self.url = url

    @property
    def is_shared_folder(self) -> bool:
        """Whether `root` itself is the place, not a working copy of it."""
        return self.url is None

    @abc.abstractmethod
    def name_of(self, path: Path) -> str:
        """What the user calls a path below `root`: a path or a URL."""

    @abc.abstractmethod
    def here(self, path: Path) -> Path:
        """Where this machine has what the machine that sent this object has at `path`."""

    # Files and folders

    @abc.abstractmethod
    def publish(self, path: Path, keep: bool = True) -> None:
        """Let all machines see a file, or a folder that `write_folder` made.

        A reader sees a folder whole or not at all, also while an older folder of that name is being replaced.

        Args:
            path: A file or a folder below `root`.
            keep: Whether this machine's working copy of it stays.

        Raises:
            OSError: It could not be written. The error names the path or the URL.
        """

    @abc.abstractmethod
    def fetch(self, path: Path) -> bool:
        """Bring a published file or folder to this machine.

        Returns:
            Whether it is here now. A folder that is not whole counts as not there.
        """

    @abc.abstractmethod
    def forget(self, path: Path) -> None:
        """Remove this machine's working copy of a folder; what is published stays."""

    @abc.abstractmethod
    def remove(self, path: Path) -> None:
        """Remove a file or a folder for all machines. It need not be there."""

    @abc.abstractmethod
    def folders(self, folder: Path) -> list[str]:
        """The names of the folders inside a folder, in no particular order; none if it is not there."""

    @abc.abstractmethod
    def read_text(self, path: Path) -> str:
        """The text of a small file. Raises OSError if it is not there, ValueError if it is not UTF-8."""

    @abc.abstractmethod
    def sha256(self, folder: Path, name: str) -> str | None:
        """The checksum that a folder's manifest has of a file; None if there is no manifest or no such file in it."""

    # The whole run directory

    @abc.abstractmethod
    def fetch_copy(self, patterns: Sequence[str], keep: Sequence[str] = ()) -> None:
        """Replace this machine's working copy by what is published.

        Args:
            patterns: What to fetch, relative to `root`, like "best" or "trials/*/model".
            keep: Names directly below `root` that belong to this machine and stay as they are.

        Raises:
            OSError: The storage could not be read.
        """

    @abc.abstractmethod
    def publish_database(self, file: Path) -> None:
        """Publish an SQLite file that may be open for writing, as it stands between two writes."""

    @abc.abstractmethod
    def publish_changed(self, patterns: Sequence[str]) -> None:
        """Publish the files of these patterns that have changed since they were published last."""

    @abc.abstractmethod
    def holds_others_files(self, ours: str) -> bool:
        """Whether files lie here, but none directly below `root` that is called `ours`."""

    @abc.abstractmethod
    def move_aside(self) -> str | None:
        """Give everything here another name, so that a new sweep can begin in its place.

        Returns:
            The new name, as a path or a URL; None if there was nothing to move.
        """

    # One driver at a time

    @abc.abstractmethod
    def lease(self) -> contextlib.AbstractContextManager[None]:
        """Be the only driver, on all machines, while the context lasts.

        Raises:
            UserError: Another driver is at work. The error names its process and machine.
        """

    @abc.abstractmethod
    def refuse_if_driven(self) -> None:
        """Raise UserError, naming the owner, if a driver on another machine is at work here."""

    @abc.abstractmethod
    def driver(self) -> str | None:
        """The driver that holds the lease, like "4711 on host"; None if there is none. Writes nothing."""

    @abc.abstractmethod
    def refuse_if_changed(self, file: Path) -> None:
        """Raise UserError if another machine has published `file` since this one fetched or published it."""
