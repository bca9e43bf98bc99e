"""Folders that are there whole or not at all."""

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

MANIFEST = "manifest.json"
_ASIDE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}(?P<old>\.old)?")


def write_folder(folder: Path, write: Callable[[Path], None]) -> int:
    """Make `folder` with what `write` puts into it: aside, checksummed, synced, then renamed into place.

    An older folder of that name is replaced: whatever fails or is killed, the old or the new one is there, on file
    systems that can't exchange two folders once `sweep_asides` was called. Returns the bytes written. Raises OSError
    that names a path.
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
    """Rename a folder into place, then remove what was there."""
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
    with contextlib.suppress(OSError):  # the new one is there; `sweep_asides` comes by
        remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places at once; False where the system or the file system can't (NFS, macOS)."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2 is None:
        return False
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), both) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def write_text(path: Path, text: str) -> None:
    """Replace a small file; a reader sees the old or the new text. Raises OSError that names a path."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with naming(path):
        try:
            aside.write_text(text, encoding="utf-8")
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
    """Let an OSError that comes without a path, as those of writes and syncs do, name this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def is_whole(folder: Path, but: Collection[str] = ()) -> bool:
    """Whether every file that the folder's manifest names, `but` these, is there with its checksum."""
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
    """What the folder's manifest says of a file, which `is_whole` compares it with; None where it says nothing."""
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))[name]["sha256"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def link(source: Path, target: Path) -> None:
    """The same file under a second name where the file system can do that, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sweep_asides(root: Path) -> None:
    """Remove what killed writers left half made below a folder; nobody may be writing there.

    A folder that was moved away and not yet replaced comes back.
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
    """Whether a writer made this on its way to another name."""
    return _ASIDE.fullmatch(path.name) is not None


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds; nothing may be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
