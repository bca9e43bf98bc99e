"""A run directory in a folder that all machines of the sweep share."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from trainable.storage.base import Storage
from trainable.storage.folders import recorded_sha256


class FolderStorage(Storage):
    """A shared folder: a file that is written is there for all, so publishing and fetching have nothing to do.

    One driver at a time is kept by the run directory's lock on a file in the folder, not by a lease.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__(root)

    def name_of(self, path: Path) -> str:
        """The path itself."""
        return str(path)

    def here(self, path: Path) -> Path:
        """The same path: all machines see it there."""
        return path

    def publish(self, path: Path, keep: bool = True) -> None:
        """Nothing to do."""

    def fetch(self, path: Path) -> bool:
        """Whether the file or folder is there."""
        return path.exists()

    def forget(self, path: Path) -> None:
        """Nothing to do: there is no copy beside what all machines see."""

    def remove(self, path: Path) -> None:
        """Remove a file or a folder. It need not be there."""
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def folders(self, folder: Path) -> list[str]:
        """The names of the folders inside a folder; none if it is not there."""
        return [entry.name for entry in os.scandir(folder) if entry.is_dir()] if folder.is_dir() else []

    def read_text(self, path: Path) -> str:
        """The text of a small file."""
        return path.read_text(encoding="utf-8")

    def sha256(self, folder: Path, name: str) -> str | None:
        """The checksum that the folder's manifest has of a file."""
        return recorded_sha256(folder, name)

    def fetch_copy(self, patterns: Sequence[str], keep: Sequence[str] = ()) -> None:
        """Nothing to do: there is no copy."""

    def publish_database(self, file: Path) -> None:
        """Nothing to do."""

    def publish_changed(self, patterns: Sequence[str]) -> None:
        """Nothing to do."""

    def holds_others_files(self, ours: str) -> bool:
        """Whether the folder has entries, but none called `ours`."""
        names = os.listdir(self.root) if self.root.is_dir() else []
        return bool(names) and ours not in names

    def move_aside(self) -> str | None:
        """Rename the folder to its name with .old-1, or the first such number that is free."""
        if not self.root.exists():
            return None
        names = (self.root.with_name(f"{self.root.name}.old-{number}") for number in itertools.count(1))
        aside = next(path for path in names if not path.exists())
        os.rename(self.root, aside)
        return str(aside)

    def lease(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to do: the run directory's lock holds for all machines that share the folder."""
        return contextlib.nullcontext()

    def refuse_if_driven(self) -> None:
        """Nothing to do: the run directory's lock tells."""

    def driver(self) -> str | None:
        """None: the run directory's lock tells."""
        return None

    def refuse_if_changed(self, file: Path) -> None:
        """Nothing to do: all machines see the same file."""


LOCAL = FolderStorage()
