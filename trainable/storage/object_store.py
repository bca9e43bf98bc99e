"""A run directory in an object store, with a working copy on every machine of the sweep."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import itertools
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from trainable.errors import UserError
from trainable.storage.base import Storage
from trainable.storage.folders import MANIFEST, is_whole, remove, write_folder
from trainable.storage.lease import LEASE_FILE, Lease
from trainable.storage.objects import Objects
from trainable.storage.private_folder import working_folder


class ObjectStore(Storage):
    """A prefix of an object store; `root` is this machine's working copy of it.

    A folder is uploaded with its manifest last. A reader takes only a folder whose files agree with its manifest, so
    it sees the old folder, the new one or none, never a mixture.

    Args:
        root: The working copy. It need not be there yet.
        url: Any URL that pyarrow opens as a file system, like s3://bucket/prefix.
    """

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root, url)
        self.objects = Objects(root, url)
        self._lease = Lease(self.objects)
        self._root_of_sender = root  # the working copy of the machine that this object comes from
        self._published: dict[Path, tuple[int, int]] = {}  # size and time of each file that was published, as it was
        self._seen: dict[Path, int | None] = {}  # when each object was written that this machine knows, ns

    def __reduce__(self) -> tuple[Callable[[Path, str], ObjectStore], tuple[Path, str]]:
        return _received, (self.root, self.objects.url)

    def name_of(self, path: Path) -> str:
        """An object's URL."""
        return self.objects.name_of(path)

    def here(self, path: Path) -> Path:
        """A path of the sender's working copy, in this machine's one."""
        return self.root / path.relative_to(self._root_of_sender)

    # Files and folders

    def publish(self, path: Path, keep: bool = True) -> None:
        """Upload a file, or a folder with its manifest last."""
        if not path.is_dir():
            self._upload(path, path)
            return
        files = sorted((file for file in path.iterdir() if file.is_file()), key=lambda file: file.name == MANIFEST)
        self.objects.delete(path / MANIFEST)  # of an older folder: no reader may take a mixture for whole
        for file in files:
            self._upload(file, file)
        if not keep:
            self.forget(path)

    def _upload(self, path: Path, source: Path) -> None:
        if self._lease.lost:
            raise OSError(errno.EIO, "another driver has taken this sweep over", self.name_of(path))
        self.objects.upload(path, source)

    def fetch(self, path: Path) -> bool:
        """Download a file, or a folder if it is whole in the store."""
        from pyarrow.fs import FileType

        try:
            (info,) = self.objects.info(path)
            if info.type == FileType.File:
                content = self.objects.read(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                self._seen[path] = int(info.mtime_ns)
                return True
            return self._fetch_folder(path, self.objects.read(path / MANIFEST))
        except (FileNotFoundError, ValueError, TypeError, AttributeError):  # missing, or a manifest that is damaged
            return False

    def _fetch_folder(self, folder: Path, manifest: bytes) -> bool:
        if is_whole(folder) and (folder / MANIFEST).read_bytes() == manifest:
            return True
        wanted = json.loads(manifest)
        names = [name for name in wanted if "/" not in name and name not in ("", ".", "..")]

        def download(aside: Path) -> None:
            for name in names:
                self.objects.download(folder / name, aside / name)

        write_folder(folder, download)
        # `write_folder` has computed the checksums of what arrived.
        if json.loads((folder / MANIFEST).read_text(encoding="utf-8")) != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            return False
        return True

    def forget(self, path: Path) -> None:
        """Remove this machine's working copy of a folder."""
        shutil.rmtree(path, ignore_errors=True)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder from this machine and from the store."""
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if self.objects.is_file(path):
            self.objects.delete(path)
        else:
            self.objects.delete(path / MANIFEST)  # first: from now on no reader takes the folder for whole
            self.objects.delete_folder(path)

    def folders(self, folder: Path) -> list[str]:
        """The names of the folders inside a folder of the store."""
        return [name for name, is_folder in self.objects.entries(folder).items() if is_folder]

    def read_text(self, path: Path) -> str:
        """The text of a small object."""
        return self.objects.read_text(path)

    def sha256(self, folder: Path, name: str) -> str | None:
        """The checksum that the manifest in the store has of a file."""
        try:
            return str(json.loads(self.read_text(folder / MANIFEST))[name]["sha256"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    # The whole run directory

    def fetch_copy(self, patterns: Sequence[str], keep: Sequence[str] = ()) -> None:
        """Empty the working copy and download what fits the patterns; the store has the truth."""
        for entry in list(self.root.iterdir()) if self.root.is_dir() else []:
            if entry.name not in keep:
                remove(entry)
        self._published, self._seen = {}, {}
        for path in self._matching(patterns):
            self.fetch(path)

    def _matching(self, patterns: Sequence[str]) -> list[Path]:
        """The files and folders of the store that fit the patterns; each folder is listed once."""
        names_in = functools.cache(lambda folder: sorted(self.objects.entries(folder)))

        def below(folder: Path, parts: Sequence[str]) -> list[Path]:
            if not parts:
                return [folder]
            names = fnmatch.filter(names_in(folder), parts[0])
            return [path for name in names for path in below(folder / name, parts[1:])]

        return [path for pattern in patterns for path in below(self.root, pattern.split("/"))]

    def publish_database(self, file: Path) -> None:
        """Upload a copy that SQLite's own backup makes."""
        if not file.is_file():
            return
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            copy = Path(folder, file.name)
            source, target = sqlite3.connect(file), sqlite3.connect(copy)
            try:
                with contextlib.closing(source), contextlib.closing(target):
                    source.backup(target)
            except sqlite3.Error as error:
                raise OSError(errno.EIO, f"the study can't be copied: {error}", str(file)) from error
            self._upload(file, copy)
        self._seen[file] = self.objects.written_at(file)

    def publish_changed(self, patterns: Sequence[str]) -> None:
        """Upload the files of these patterns whose size or time is another one than when they were uploaded."""
        for file in [file for pattern in patterns for file in self.root.glob(pattern)]:
            stat = file.stat()
            facts = stat.st_size, stat.st_mtime_ns
            if self._published.get(file) != facts:
                self.publish(file)
                self._published[file] = facts

    def holds_others_files(self, ours: str) -> bool:
        """Whether there are objects, but none called `ours`. Raises FileNotFoundError if there is no such bucket."""
        from pyarrow.fs import FileType

        bucket = Path(self.objects.base).parts[0]
        found = self.objects.attempt(self.root, lambda: self.objects.files.get_file_info(bucket))
        if found.type == FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, "there is no such bucket", self.name_of(self.root))
        entries = self.objects.entries(self.root)
        if ours in entries:
            return False
        # A folder that was emptied may stay as an empty object. A lease says that a driver began, not that files exist.
        return any(
            not is_folder or bool(self.objects.keys_below(self.root / name))
            for name, is_folder in entries.items()
            if not name.startswith(LEASE_FILE)
        )

    def move_aside(self) -> str | None:
        """Copy all objects to the prefix with .old-1, or the first such number that is free, then delete them here."""
        from pyarrow.fs import FileType

        files, base = self.objects.files, self.objects.base
        keys = [key for key in self.objects.keys_below(self.root) if key != f"{base}/{LEASE_FILE}"]
        if not keys:
            return None
        suffix = next(
            f".old-{number}"
            for number in itertools.count(1)
            if files.get_file_info(f"{base}.old-{number}").type == FileType.NotFound
        )
        for key in keys:
            request = functools.partial(files.copy_file, key, base + suffix + key[len(base) :])
            self.objects.attempt(self.root, request)
        for key in keys:
            self.objects.attempt(self.root, functools.partial(files.delete_file, key))
        return self.name_of(self.root) + suffix

    # One driver at a time

    def lease(self) -> contextlib.AbstractContextManager[None]:
        """Be the only driver by signs of life in the store."""
        return self._lease.held()

    def refuse_if_driven(self) -> None:
        """Raise UserError, naming the owner, if another driver gave a sign of life lately."""
        self._lease.refuse_if_driven()

    def driver(self) -> str | None:
        """The driver that gave a sign of life lately, like "4711 on host"."""
        return self._lease.driver()

    def refuse_if_changed(self, file: Path) -> None:
        """Raise UserError if the object is another one than this machine fetched or published."""
        if self.objects.written_at(file) != self._seen.get(file):
            name = self.name_of(self.root)
            raise UserError([f"--out {name}: the sweep went on elsewhere meanwhile; give the same command again"])


def _received(root_of_sender: Path, url: str) -> ObjectStore:
    """What unpickling makes: a storage with a working copy of this machine's own."""
    storage = ObjectStore(working_folder(url), url)
    storage._root_of_sender = root_of_sender
    return storage
