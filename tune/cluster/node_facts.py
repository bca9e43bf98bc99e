"""What a machine has and sees, as a node of a cluster is asked before anything is trained there.

The functions are sent to the nodes as they stand: a node may have another version of this project, or none of it. They
call nothing of the project but what stands here, unless its sources there are the driver's.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch")
OURS = ("tune", "trainable")


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi tells of it; memory in MiB."""

    name: str
    memory_mib: int


@dataclass(frozen=True)
class NodeFacts:
    """What a node has and sees.

    versions: of Python and packages by name, without their local part (+cpu); "" where a package is not there
    project: digest of this project's sources there; None where it is not there
    model: fingerprint of what lies in the model's folder; None where nothing does, or where the project is another one
    unsealed: why a shipped model can't lie there, in words; None where it can
    free_bytes: where the run directory is or will be; None where there is no such path
    free_temporary_bytes: where a shipped model goes, and what a worker writes that is kept elsewhere
    gpus: None where there is no nvidia-smi
    unwritable: why it can't write below the run directory, in words; None where it can
    sees: whose files below the run directory it can read (node ids, DRIVER); None where that is not known
    clock_ahead_s: of the driver's, by at least so much; negative where it is behind
    """

    versions: Mapping[str, str]
    project: str | None
    model: str | None
    unsealed: str | None
    free_bytes: int | None
    free_temporary_bytes: int
    gpus: tuple[Gpu, ...] | None
    unwritable: str | None = None
    sees: frozenset[str] | None = None
    clock_ahead_s: float = 0.0


def facts_here(model_folder: str, project: str | None, root: str) -> dict[str, Any]:
    """The facts of this machine, as far as it can know them itself, by NodeFacts' fields.

    project: the driver's digest
    """
    digest = project_digest()
    model = unsealed = None
    if digest is not None and digest == project:
        from trainable.hub.model_folder import model_fingerprint
        from trainable.storage.folders import private_folder

        with contextlib.suppress(OSError):
            model = model_fingerprint(Path(model_folder)) if os.path.isdir(model_folder) else None
        try:
            private_folder()
        except OSError as error:
            unsealed = str(error)
    above = next((path for path in (Path(root), *Path(root).parents) if path.exists()), None)
    versions = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return {
        "versions": versions,
        "project": digest,
        "model": model,
        "unsealed": unsealed,
        "free_bytes": None if above is None else shutil.disk_usage(above).free,
        "free_temporary_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
        "gpus": gpus_here(),
    }


def project_digest() -> str | None:
    """SHA-256 over the names and contents of this project's Python files; None where it is not installed."""
    digest = hashlib.sha256()
    for package in OURS:
        found = importlib.util.find_spec(package)
        places = list(found.submodule_search_locations or []) if found is not None else []
        if not places:
            return None
        for path in sorted(Path(places[0]).rglob("*.py")):
            name = path.relative_to(places[0]).as_posix()
            digest.update(f"{package}/{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def facts_of(
    said: Mapping[str, Any],
    sees: Sequence[str] | None = None,
    unwritable: str | None = None,
    ahead_s: float = 0.0,
) -> NodeFacts:
    """A machine's facts: what it said of itself, and what came of asking several together."""
    gpus = None if said["gpus"] is None else tuple(Gpu(*gpu) for gpu in said["gpus"])
    known = None if sees is None else frozenset(sees)
    return NodeFacts(**{**said, "gpus": gpus}, unwritable=unwritable, sees=known, clock_ahead_s=ahead_s)


def gpus_here() -> tuple[tuple[str, int], ...] | None:
    """Name and memory (MiB) of every GPU that NVIDIA's tool knows; None where there is no such tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
        rows = [line.rpartition(",") for line in lines if line.strip()]
        return tuple((name.strip(), int(memory)) for name, _, memory in rows)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def leave_mark(root: str, folder: str, name: str) -> str | None:
    """Write a file for the others to see; returns why that can't be, in words.

    root: a folder, or an object store's URL; folder: below it
    """
    try:
        if "://" in root:
            files, base = _store(root)
            with files.open_output_stream(f"{base}/{folder}/{name}") as file:
                file.write(name.encode())
        else:
            Path(root, folder, name).write_text(name, encoding="utf-8")
    except (OSError, ImportError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error).strip().partition("\n")[0]
    return None


def seen_marks(root: str, folder: str, names: Sequence[str], within_s: float) -> list[str]:
    """Whose files can be read here, of these; waits for those that can't."""
    until = time.monotonic() + within_s
    seen: list[str] = []
    try:
        files, base = _store(root) if "://" in root else (None, "")
    except (OSError, ImportError, ValueError):
        return seen
    while True:
        for name in [name for name in names if name not in seen]:
            with contextlib.suppress(OSError, ValueError):
                if files is None:
                    text = Path(root, folder, name).read_text(encoding="utf-8")
                else:
                    with files.open_input_stream(f"{base}/{folder}/{name}") as file:
                        text = file.read().decode()
                if text == name:
                    seen.append(name)
        if len(seen) == len(names) or time.monotonic() > until:
            return seen
        time.sleep(0.2)


def remove_marks(root: str, folder: str) -> None:
    """Remove the folder with all that is in it, where it is there and can be reached."""
    with contextlib.suppress(OSError):
        if "://" in root:
            files, base = _store(root)
            files.delete_dir(f"{base}/{folder}")
        else:
            shutil.rmtree(Path(root, folder))


def _store(url: str) -> tuple[Any, str]:
    """A file system of pyarrow's, and what the URL means there."""
    from pyarrow.fs import FileSystem

    files, base = FileSystem.from_uri(url)
    return files, base.rstrip("/")


def read_clock() -> float:
    """Seconds since 1970, as this machine has it."""
    return time.time()
