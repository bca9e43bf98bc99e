"""Requests to an object store: each with a time limit, and tried again if it fails."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trainable.storage.request_timeout import answered, copy_moving

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")

MAX_ATTEMPTS = 4  # of each request, with pauses of 1, 2 and 4 s; the store's client makes some of its own before


class Objects:
    """The objects below a URL, each addressed by the path of its working copy on this machine.

    Every method raises OSError with the object's URL as its file name if the store refuses four times or stops
    answering, and FileNotFoundError at once if there is no such object.

    Args:
        root: This machine's working copy. A path below it stands for the object of the same name below `url`.
        url: Any URL that pyarrow opens as a file system, like s3://bucket/prefix.
    """

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self._opened: tuple[FileSystem, str] | None = None

    def _open(self) -> tuple[FileSystem, str]:
        if self._opened is None:
            from pyarrow.fs import FileSystem

            files, base = answered(lambda: FileSystem.from_uri(self.url))
            self._opened = files, base.rstrip("/")
        return self._opened

    @property
    def files(self) -> FileSystem:
        """The store as pyarrow's file system, opened at the first request."""
        return self._open()[0]

    @property
    def base(self) -> str:
        """What all keys below the URL begin with: the bucket and the prefix."""
        return self._open()[1]

    def key(self, path: Path) -> str:
        """The store's own name of an object."""
        inside = path.relative_to(self.root).as_posix()
        return self.base if inside == "." else f"{self.base}/{inside}"

    def name_of(self, path: Path) -> str:
        """An object's URL, without the options that follow the question mark."""
        inside = path.relative_to(self.root).as_posix()
        url = self.url.partition("?")[0].rstrip("/")
        return url if inside == "." else f"{url}/{inside}"

    def attempt(self, path: Path, request: Callable[[], T]) -> T:
        """Make a request about the object at `path`, again if it fails."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                return answered(request)
            except FileNotFoundError:
                raise
            except OSError as error:
                # A request that timed out has already waited long enough.
                if attempt == MAX_ATTEMPTS - 1 or isinstance(error, TimeoutError):
                    raise OSError(errno.EIO, str(error).strip().partition("\n")[0], self.name_of(path)) from error
                time.sleep(2.0**attempt)
        raise AssertionError("not reached")

    # Contents

    def read(self, path: Path) -> bytes:
        """The whole content of a small object."""

        def request() -> bytes:
            with self.files.open_input_stream(self.key(path)) as file:
                return bytes(file.read())

        return self.attempt(path, request)

    def read_text(self, path: Path) -> str:
        """The text of a small object. Raises ValueError if it is not UTF-8."""
        return self.read(path).decode("utf-8")

    def write(self, path: Path, text: str) -> None:
        """Write a small object."""

        def request() -> None:
            with self.files.open_output_stream(self.key(path)) as file:
                file.write(text.encode())

        self.attempt(path, request)

    def upload(self, path: Path, source: Path) -> None:
        """Copy a file of this machine, of any size, to the object at `path`."""

        def request() -> None:
            with source.open("rb") as here, self.files.open_output_stream(self.key(path)) as there:
                copy_moving(here, there)

        self.attempt(path, request)

    def download(self, path: Path, target: Path) -> None:
        """Copy the object at `path`, of any size, to a file of this machine."""

        def request() -> None:
            with self.files.open_input_stream(self.key(path)) as there, target.open("wb") as here:
                copy_moving(there, here)

        self.attempt(path, request)

    def delete(self, path: Path) -> None:
        """Delete an object. It need not be there."""
        with contextlib.suppress(FileNotFoundError):
            self.attempt(path, lambda: self.files.delete_file(self.key(path)))

    def delete_folder(self, path: Path) -> None:
        """Delete all objects in a folder. It need not be there."""
        with contextlib.suppress(FileNotFoundError):
            self.attempt(path, lambda: self.files.delete_dir(self.key(path)))

    # What is there

    def info(self, *paths: Path) -> list[FileInfo]:
        """What pyarrow tells of each of these objects: its kind, its size and when it was written."""
        return self.attempt(paths[0], lambda: self.files.get_file_info([self.key(path) for path in paths]))

    def is_file(self, path: Path) -> bool:
        """Whether there is an object at `path` itself, which may also be a folder of objects or not be there."""
        from pyarrow.fs import FileType

        return bool(self.info(path)[0].type == FileType.File)

    def written_at(self, path: Path) -> int | None:
        """When an object was written, by the store's clock, in nanoseconds since 1970; None if it is not there."""
        written_ns = self.info(path)[0].mtime_ns
        return None if written_ns is None else int(written_ns)

    def entries(self, folder: Path) -> dict[str, bool]:
        """The names in a folder, and whether each is a folder itself; empty if it is not there."""
        from pyarrow.fs import FileType

        found = self._list(folder, recursive=False)
        return {info.base_name: info.type == FileType.Directory for info in found if info.base_name}

    def keys_below(self, folder: Path) -> list[str]:
        """The keys of all objects in a folder and in its folders."""
        from pyarrow.fs import FileType

        return [info.path for info in self._list(folder, recursive=True) if info.type == FileType.File]

    def _list(self, folder: Path, recursive: bool) -> Sequence[FileInfo]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.key(folder), allow_not_found=True, recursive=recursive)
        return self.attempt(folder, lambda: self.files.get_file_info(selector))
