"""Folders that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

MANIFEST = "manifest.json"
_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}(\.old)?")


def write_folder(folder: Path, write: Callable[[Path], None]) -> int:
    """Make `folder` with what `write` puts into it: aside, checksummed, synced, then renamed into place.

    An older folder of that name is replaced; for a moment there is none. Returns the bytes written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    aside.mkdir()
    try:
        write(aside)
        files = sorted(p for p in aside.iterdir() if p.is_file())
        manifest = {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in files}
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in [*files, aside / MANIFEST, aside]:
            sync(path)
        if folder.exists():
            old = aside.with_name(aside.name + ".old")
            os.rename(folder, old)
            os.rename(aside, folder)
            shutil.rmtree(old)
        else:
            os.rename(aside, folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return sum(entry["bytes"] for entry in manifest.values())  # type: ignore[misc]


def write_text(path: Path, text: str) -> None:
    """Replace a small file; a reader sees the old or the new text."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        sync(aside)
        os.replace(aside, path)
        sync(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def is_whole(folder: Path) -> bool:
    """Whether every file that the folder's manifest names is there with its checksum."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest) and all(
            (folder / name).stat().st_size == entry["bytes"] and _sha256(folder / name) == entry["sha256"]
            for name, entry in manifest.items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def link(source: Path, target: Path) -> None:
    """The same file under a second name where the file system can do that, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def is_aside(path: Path) -> bool:
    """Whether a name is one that a writer gives to what is not whole yet."""
    return _ASIDE.fullmatch(path.name) is not None


def sweep_asides(root: Path) -> None:
    """Remove what killed writers left half made below a folder; nobody may be writing there."""
    for path in [path for path in root.rglob(".*") if is_aside(path)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


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
