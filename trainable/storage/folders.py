"""Folders and small files that are written whole or not at all, whatever fails or is killed meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

MANIFEST = "manifest.json"  # in each folder: the size and the SHA-256 of its files by name
# The name that a folder has while it is written, or (.old) while its successor takes its place.
_ASIDE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}(?P<old>\.old)?")


def write_folder(folder: Path, write: Callable[[Path], None]) -> int:
    """Make `folder` with the files that `write` puts into it, or replace an older folder of that name.

    The files are written into a folder beside it, get a manifest with checksums, are synced to the disk, and then the
    two folders exchange their names. So whatever fails, and whenever the process is killed, the old or the new folder
    is there. Where the file system can't exchange names (NFS, macOS), a kill between two renames leaves neither, and
    `sweep_asides` brings the old one back.

    Args:
        folder: Where the folder is to be. Folders above it are made.
        write: Gets an empty folder and writes files into it.

    Returns:
        The bytes written.

    Raises:
        OSError: Something could not be written. The error names a path.
    """
    aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    with naming(folder):
        try:
            aside.mkdir(parents=True)
            write(aside)
            files = sorted(p for p in aside.iterdir() if p.is_file())
            manifest = {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in files}
            (aside / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            for path in [*files, aside / MANIFEST, aside]:
                sync(path)
            _put(aside, folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    return sum(entry["bytes"] for entry in manifest.values())  # type: ignore[misc]


def _put(aside: Path, folder: Path) -> None:
    """Rename a folder into place, then remove the one that was there."""
    old = aside
    if not os.path.lexists(folder):
        os.rename(aside, folder)
    elif not _exchange(aside, folder):
        old = aside.with_name(aside.name + ".old")
        os.rename(folder, old)
        try:
            os.rename(aside, folder)
        except OSError:
            os.rename(old, folder)
            raise
    sync(folder.parent)
    with contextlib.suppress(OSError):  # the new folder is in place; `sweep_asides` removes the old one later
        remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths exchange their names in one step; False if the system or the file system can't (NFS, macOS)."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_fdcwd, rename_exchange = -100, 2
    if renameat2 is None:
        return False
    if renameat2(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def write_text(path: Path, text: str) -> None:
    """Write or replace a small file. A reader sees the old text or the new one. Raises OSError that names a path."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same of a file that is no text."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with naming(path):
        try:
            aside.write_bytes(content)
            sync(aside)
            os.replace(aside, path)
            sync(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


def same_text(path: Path, text: str) -> bool:
    """Whether a file is there and holds this text."""
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add this path to an OSError that names none: errors of writing and syncing don't."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def is_whole(folder: Path, but: Collection[str] = ()) -> bool:
    """Whether every file of the folder's manifest is there and has its checksum.

    Args:
        folder: A folder that `write_folder` made; False if it is not there.
        but: Names of files that are not checked.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest) and all(
            (folder / name).stat().st_size == entry["bytes"] and _sha256(folder / name) == entry["sha256"]
            for name, entry in manifest.items()
            if name not in but
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def recorded_sha256(folder: Path, name: str) -> str | None:
    """The checksum that the folder's manifest has of a file, unchecked; None if it has none."""
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))[name]["sha256"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def link(source: Path, target: Path) -> None:
    """Give a file a second name (a hard link), or copy it if the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sweep_asides(root: Path) -> None:
    """Remove the unfinished folders and files that killed writers left below `root`, while nobody writes there.

    A folder that had been moved away, and whose successor never took its place, gets its name back.
    """
    for path, found in [(path, _ASIDE.fullmatch(path.name)) for path in root.rglob(".*")]:
        if found is None:
            continue
        place = path.with_name(found["name"])
        if found["old"] and not os.path.lexists(place):
            os.rename(path, place)
        else:
            remove(path)


def is_aside(path: Path) -> bool:
    """Whether a path has the name of an unfinished folder or file."""
    return _ASIDE.fullmatch(path.name) is not None


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it. A file need not be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file's content, or a folder's list of entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
