"""Where a run directory lies: a folder that all machines share, or an object store with a working copy on each."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trainable.errors import StorageFailed, UserError
from trainable.redaction import one_line
from trainable.storage.folders import MANIFEST, is_whole, private_folder, recorded_sha256, remove, write_folder
from trainable.storage.request_timeout import answered, copy_moving

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")

TRIES = 4  # of each request, with pauses of 1, 2 and 4 s; the file system's own come before
BEAT_S = 15.0  # a driver gives a sign of life this often
DEAD_AFTER_S = 60.0  # a driver that gave none for so long is taken for dead
SETTLE_S = 1.0  # after which two drivers that began at once know which one came later
DRIVER_FILE = "driver.json"


class Shared:
    """A folder that every machine of the sweep sees: what is written is there for all."""

    url: str | None = None

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def here(self, path: Path) -> Path:
        """Where this machine has what the driver's machine has at a path."""
        return path

    def refuse_if_changed(self) -> None:
        """Raise UserError where the sweep went on elsewhere since it was fetched."""

    def publish(self, path: Path, keep: bool = True) -> None:
        """Let all machines see a file or a folder that was written here whole; keep: this copy stays."""

    def fetch(self, path: Path) -> bool:
        """Have a folder that another machine may have published; False where there is none that is whole."""
        return path.exists()

    def forget(self, path: Path) -> None:
        """Remove this machine's copy of what is published."""

    def folders(self, folder: Path) -> list[str]:
        """The folders in a folder; none where it is not there."""
        return [entry.name for entry in os.scandir(folder) if entry.is_dir()] if folder.is_dir() else []

    def read_text(self, path: Path) -> str:
        """A small file. Raises OSError where it is not there, ValueError where it is no text."""
        return path.read_text(encoding="utf-8")

    def sha256(self, folder: Path, name: str) -> str | None:
        """What the manifest of a folder says of a file; None where it says nothing."""
        return recorded_sha256(folder, name)

    def publish_study(self, study_file: Path) -> None:
        """Let all see the study as it stands."""

    def publish_changed(self, *patterns: str) -> None:
        """Let all see the files of these patterns that grow while the sweep runs."""

    def fetch_sweep(self) -> None:
        """Have here what the driver needs."""

    def lease(self) -> contextlib.AbstractContextManager[None]:
        """Be the only driver; a folder's lock is its own."""
        return contextlib.nullcontext()

    def refuse_if_driven(self) -> None:
        """Raise UserError where another driver is at work on another machine."""

    def driver(self) -> str | None:
        """The driver at work here, like "4711 on host", by its signs of life; a folder has a lock instead."""
        return None

    def name_of(self, path: Path) -> str:
        """What the user calls it."""
        return str(path)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder for all; nothing may be there."""
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


LOCAL = Shared()
_SECRET = re.compile(r"secret|passw|token|key|sig|cred|@", re.IGNORECASE)  # in what follows the question mark


class Store(Shared):
    """A folder of an object store. `root` is this machine's working copy; paths below it name objects.

    A folder's manifest is its last object, so that who reads sees it whole or not at all.
    url: any that pyarrow opens as a file system, like s3://bucket/prefix
    """

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        self.url = url
        self._opened: tuple[FileSystem, str] | None = None
        self._lost = False  # another driver has taken over
        self._published: dict[Path, tuple[int, int]] = {}
        self._sender = root  # the working copy of the machine that this object comes from
        self._study_seen: int | None = None  # when the study was written that this machine knows of, ns

    def __reduce__(self) -> tuple[Callable[[Path, str], Store], tuple[Path, str]]:
        return _received, (self.root, str(self.url))

    @property
    def _files(self) -> FileSystem:
        return self._open()[0]

    def _open(self) -> tuple[FileSystem, str]:
        if self._opened is None:
            from pyarrow.fs import FileSystem

            files, base = answered(lambda: FileSystem.from_uri(self.url))
            self._opened = files, base.rstrip("/")
        return self._opened

    def _key(self, path: Path) -> str:
        inside = path.relative_to(self.root).as_posix()
        base = self._open()[1]
        return base if inside == "." else f"{base}/{inside}"

    def _try(self, what: Path, request: Callable[[], T]) -> T:
        """Do that, again where it fails. Raises OSError that names the object; FileNotFoundError at once."""
        for attempt in range(TRIES):
            try:
                return answered(request)
            except FileNotFoundError:
                raise
            except OSError as error:
                if attempt == TRIES - 1 or isinstance(error, TimeoutError):
                    raise OSError(errno.EIO, str(error).strip().partition("\n")[0], self.name_of(what)) from error
                time.sleep(2.0**attempt)
        raise AssertionError("not reached")

    def name_of(self, path: Path) -> str:
        """An object's URL, for the user."""
        inside = path.relative_to(self.root).as_posix()
        url = str(self.url).partition("?")[0].rstrip("/")
        return url if inside == "." else f"{url}/{inside}"

    def here(self, path: Path) -> Path:
        """Where this machine has what the driver's machine has at a path."""
        return self.root / path.relative_to(self._sender)

    # Files and folders

    def publish(self, path: Path, keep: bool = True) -> None:
        """Copy a file, or a folder with its manifest last, into the store."""
        if path.is_dir():
            files = sorted((file for file in path.iterdir() if file.is_file()), key=lambda file: file.name == MANIFEST)
            self._delete(path / MANIFEST)  # of an older one: no reader may see a mixture
            for file in files:
                self._put(file)
            if not keep:
                self.forget(path)
        else:
            self._put(path)

    def forget(self, path: Path) -> None:
        """Remove this machine's copy of a folder that is published."""
        shutil.rmtree(path, ignore_errors=True)

    def _put(self, file: Path, source: Path | None = None) -> None:
        if self._lost:
            raise OSError(errno.EIO, "another driver has taken this sweep over", self.name_of(file))

        def put() -> None:
            with (source or file).open("rb") as here, self._files.open_output_stream(self._key(file)) as there:
                copy_moving(here, there)

        self._try(file, put)

    def publish_study(self, study_file: Path) -> None:
        """Copy the study as it stands between two writes (SQLite's backup)."""
        if not study_file.is_file():
            return
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            copy = Path(folder, "study.db")
            source, target = sqlite3.connect(study_file), sqlite3.connect(copy)
            try:
                with contextlib.closing(source), contextlib.closing(target):
                    source.backup(target)
            except sqlite3.Error as error:
                raise OSError(errno.EIO, f"the study can't be copied: {error}", str(study_file)) from error
            self._put(study_file, copy)
        self._study_seen = self._written_at(study_file)

    def publish_changed(self, *patterns: str) -> None:
        """Copy the files of these patterns that have changed since they were copied last."""
        for file in [file for pattern in patterns for file in self.root.glob(pattern)]:
            facts = file.stat().st_size, file.stat().st_mtime_ns
            if self._published.get(file) != facts:
                self.publish(file)
                self._published[file] = facts

    def fetch(self, path: Path) -> bool:
        """Bring a file here, or a folder: only where it is whole."""
        from pyarrow.fs import FileType

        try:
            if self._try(path, lambda: self._files.get_file_info(self._key(path))).type == FileType.File:
                text = self._read(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)
                return True
            manifest = self._read(path / MANIFEST)
            if is_whole(path) and (path / MANIFEST).read_bytes() == manifest:
                return True
            names = [name for name in json.loads(manifest) if "/" not in name and name not in ("", ".", "..")]

            def get(aside: Path) -> None:
                for name in names:
                    self._get(path / name, aside / name)

            write_folder(path, get)
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return False
        if json.loads((path / MANIFEST).read_text(encoding="utf-8")) != json.loads(manifest):
            shutil.rmtree(path, ignore_errors=True)
            return False
        return True

    def _get(self, path: Path, target: Path) -> None:
        def get() -> None:
            with self._files.open_input_stream(self._key(path)) as there, target.open("wb") as here:
                copy_moving(there, here)

        self._try(path, get)

    def _read(self, path: Path) -> bytes:
        def read() -> bytes:
            with self._files.open_input_stream(self._key(path)) as file:
                return bytes(file.read())

        return self._try(path, read)

    def read_text(self, path: Path) -> str:
        """A small object. Raises OSError where it is not there, ValueError where it is no text."""
        return self._read(path).decode("utf-8")

    def sha256(self, folder: Path, name: str) -> str | None:
        """What the manifest of a folder says of a file; None where it says nothing."""
        try:
            return str(json.loads(self.read_text(folder / MANIFEST))[name]["sha256"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def folders(self, folder: Path) -> list[str]:
        """The folders in a folder of the store; none where it is not there."""
        return [name for name, is_folder in self._entries(folder).items() if is_folder]

    def _entries(self, folder: Path) -> dict[str, bool]:
        """What lies in a folder of the store, and whether it is a folder."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._key(folder), allow_not_found=True)
        found = self._try(folder, lambda: self._files.get_file_info(selector))
        return {info.base_name: info.type == FileType.Directory for info in found if info.base_name}

    def remove(self, path: Path) -> None:
        """Remove a file or a folder, here and in the store: its manifest first."""
        super().remove(path)
        if path.suffix:  # only our files have one
            self._delete(path)
            return
        self._delete(path / MANIFEST)
        with contextlib.suppress(FileNotFoundError):
            self._try(path, lambda: self._files.delete_dir(self._key(path)))

    def _delete(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._try(path, lambda: self._files.delete_file(self._key(path)))

    # The sweep

    def fetch_sweep(self) -> None:
        """Make the working copy anew of what the driver needs: all but states and events, which only grow there.

        Raises OSError where the store can't be read.
        """
        for entry in list(self.root.iterdir()) if self.root.is_dir() else []:
            if entry.name != ".lock":
                remove(entry)
        names = set(self._entries(self.root))
        self._published = {}
        self._study_seen = self._written_at(self.root / "study.db")
        for name in ("spec.yaml", "study.db", "log.txt", "incumbent.json", "report.json", "report.html", "best"):
            if name in names:
                self.fetch(self.root / name)
        for number in self._entries(self.root / "trials"):
            trial = self.root / "trials" / number
            inside = self._entries(trial) if number.isdecimal() else []
            for name in ("model", "failure.txt"):
                if name in inside:
                    self.fetch(trial / name)

    def holds_other_things(self) -> bool:
        """Whether there is something but no sweep. Raises OSError where the store can't be read."""
        from pyarrow.fs import FileType

        bucket = Path(self._open()[1]).parts[0]
        if self._try(self.root, lambda: self._files.get_file_info(bucket)).type == FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, "there is no such bucket", self.name_of(self.root))
        names = {name for name in self._entries(self.root) if not name.startswith(DRIVER_FILE)}
        if "spec.yaml" in names:
            return False
        # Folders that were emptied may stay as empty objects.
        return bool(names - {"trials", "best"}) or any(self._objects(self.root / name) for name in names)

    def _objects(self, folder: Path) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._key(folder), allow_not_found=True, recursive=True)
        found = self._try(folder, lambda: self._files.get_file_info(selector))
        return [info.path for info in found if info.type == FileType.File]

    def move_aside(self) -> str | None:
        """Give all objects another prefix; returns its URL, None where there are none."""
        from pyarrow.fs import FileType

        files, base = self._open()
        objects = [path for path in self._objects(self.root) if path != f"{base}/{DRIVER_FILE}"]
        if not objects:
            return None
        aside = next(
            f".old-{number}"
            for number in itertools.count(1)
            if files.get_file_info(f"{base}.old-{number}").type == FileType.NotFound
        )
        for path in objects:
            self._try(self.root, partial(files.copy_file, path, base + aside + path[len(base) :]))
        for path in objects:
            self._try(self.root, partial(files.delete_file, path))
        return self.name_of(self.root) + aside

    def refuse_if_driven(self) -> None:
        """Raise UserError naming the owner where another driver gave a sign of life lately."""
        file = self.root / DRIVER_FILE
        try:
            owner = json.loads(self.read_text(file))
            host, pid = str(owner["host"]), int(owner["pid"])
            silent_s = self._silent_s(file)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return
        # A process that restarted itself keeps its number, as one does in a container that is started again.
        gone = host == socket.gethostname() and (pid == os.getpid() or not _lives(pid))
        if silent_s > DEAD_AFTER_S or gone:
            return
        raise UserError(
            [
                f"--out {self.name_of(self.root)}: another sweep is running here (process {pid} on {one_line(host)}, "
                f"last heard of {silent_s:.0f} s ago); where it was killed, wait for {DEAD_AFTER_S:.0f} s"
            ]
        )

    def driver(self) -> str | None:
        """The driver that gave a sign of life lately, by this machine's clock: asking the store's own writes there."""
        file = self.root / DRIVER_FILE
        try:
            owner = json.loads(self.read_text(file))
            told = f"{int(owner['pid'])} on {one_line(str(owner['host']))}"
            (info,) = self._try(file, lambda: self._files.get_file_info([self._key(file)]))
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return told if time.time() - info.mtime_ns / 1e9 < DEAD_AFTER_S else None

    def refuse_if_changed(self) -> None:
        """Raise UserError where the sweep went on elsewhere since it was fetched."""
        if self._written_at(self.root / "study.db") != self._study_seen:
            told = (
                f"--out {self.name_of(self.root)}: the sweep went on elsewhere meanwhile; give the same command again"
            )
            raise UserError([told])

    def _written_at(self, file: Path) -> int | None:
        """When an object was written, ns; None where there is none."""
        info = self._try(file, lambda: self._files.get_file_info(self._key(file)))
        return None if info.mtime_ns is None else int(info.mtime_ns)

    def _silent_s(self, file: Path) -> float:
        """How long ago an object was written, by the store's own clock."""
        probe = self.root / f"{DRIVER_FILE}.{uuid.uuid4().hex[:8]}"
        try:
            self._write(probe, "now")
            keys = [self._key(probe), self._key(file)]
            now, then = self._try(file, lambda: self._files.get_file_info(keys))
        finally:
            self._delete(probe)
        return float((now.mtime_ns - then.mtime_ns) / 1e9)

    def _write(self, path: Path, text: str) -> None:
        def write() -> None:
            with self._files.open_output_stream(self._key(path)) as file:
                file.write(text.encode())

        self._try(path, write)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Be the only driver as long as the context lasts: a sign of life is written again and again.

        Raises UserError naming the owner where there is another one. Whose signs stopped for a minute, as those of a
        machine that slept, may find that another driver has taken over: then nothing more is published.
        """
        self.refuse_if_driven()
        file, mine = self.root / DRIVER_FILE, {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
        self._write(file, json.dumps(mine))
        time.sleep(SETTLE_S)
        if json.loads(self.read_text(file)) != mine:  # two came at once: the later one stays
            self.refuse_if_driven()
        end = threading.Event()

        def beat() -> None:
            while not end.wait(BEAT_S):
                try:
                    self._lost = json.loads(self.read_text(file)) != mine
                    if not self._lost:
                        self._write(file, json.dumps(mine))
                except (FileNotFoundError, ValueError):  # another driver came, and went
                    self._lost = True
                except OSError:  # the store does not answer; what must be written there will tell
                    continue
                if self._lost:
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            if not storage_failed():  # else the next driver finds out that this one is gone
                thread.join()
            if not storage_failed() and not self._lost:
                with contextlib.suppress(OSError):
                    self._delete(file)


def storage_failed() -> bool:
    """Whether what ends a context just now is that something could not be written or read."""
    return isinstance(sys.exception(), (OSError, StorageFailed))


def url_problem(out: str) -> str | None:
    """Why text with a scheme is no place for a run directory; None where it may be one."""
    scheme, _, rest = out.partition("://")
    where = rest.partition("?")[0].strip("/")
    if not scheme.isalnum() or not where:
        return "must be a folder or a URL like s3://bucket/prefix"
    if scheme.lower() == "file":
        return f"{out}: is a folder; give its path alone"
    user = where.partition("/")[0].rpartition("@")[0]
    if ":" in user or (user and not scheme.startswith("abfs")) or _SECRET.search(rest.partition("?")[2]):
        return "a URL with a key or a password in it would be written into logs; give keys as the provider's tools do"
    return None


def _received(sender: Path, url: str) -> Store:
    store = Store(working_folder(url), url)
    store._sender = sender
    return store


def working_folder(url: str) -> Path:
    """This user's working copy of what lies at a URL. Raises PermissionError where somebody else has put it there."""
    return private_folder() / hashlib.sha256(url.encode()).hexdigest()[:16]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
