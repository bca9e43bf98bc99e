"""What a machine has and sees. These functions run on every node of a cluster before anything is trained there.

They are sent to the nodes by value (see `ask_nodes`), because a node may have another version of this project, or none.
So they call nothing of the project outside this module, unless the node's source files are the driver's. For the same
reason GPUs are found through nvidia-smi, which comes with every driver, and not through nvidia-ml-py.
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

COMPARED_PACKAGES = ("ray", "torch")  # whose versions must be the same everywhere
OUR_PACKAGES = ("tune", "trainable")


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi describes it."""

    name: str
    memory_mib: int


@dataclass(frozen=True)
class NodeFacts:
    """What a node has and sees."""

    versions: Mapping[str, str]
    """Of Python and of packages, by name, without their local part (+cpu); "" where a package is not installed."""
    project: str | None
    """Digest of this project's source files there; None where it is not installed."""
    model: str | None
    """Fingerprint of the model's folder there; None where there is no such folder, or the project is another one."""
    no_place_for_model: str | None
    """Why the model can't be written to that node, in words; None where it can."""
    free_bytes: int | None
    """On the disk of the run directory; None where no part of its path exists."""
    free_temporary_bytes: int
    """On the disk of the temporary folder, where a model that is sent goes, and what workers keep for themselves."""
    gpus: tuple[Gpu, ...] | None
    """None where there is no nvidia-smi."""
    unwritable: str | None = None
    """Why the node can't write below the run directory, in words; None where it can."""
    sees: frozenset[str] | None = None
    """Whose files below the run directory the node can read (node ids, and the driver); None where that is unknown."""
    clock_ahead_s: float = 0.0
    """By how many seconds at least its clock is ahead of the driver's; negative where it is behind."""


def facts_here(model_folder: str, project: str | None, root: str) -> dict[str, Any]:
    """The facts that this machine can know by itself, under the names of NodeFacts' fields.

    Plain dicts travel here, since the node may not know the class.

    Args:
        model_folder: Where the driver has the model.
        project: The digest of the driver's source files.
        root: The run directory.
    """
    digest = project_digest()
    model = no_place = None
    if digest is not None and digest == project:
        from trainable.hub.model_folder import model_fingerprint
        from trainable.storage.private_folder import private_folder

        with contextlib.suppress(OSError):
            model = model_fingerprint(Path(model_folder)) if os.path.isdir(model_folder) else None
        try:
            private_folder()
        except OSError as error:
            no_place = str(error)
    nearest = next((path for path in (Path(root), *Path(root).parents) if path.exists()), None)
    versions = {"Python": platform.python_version()}
    for name in COMPARED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return {
        "versions": versions,
        "project": digest,
        "model": model,
        "no_place_for_model": no_place,
        "free_bytes": None if nearest is None else shutil.disk_usage(nearest).free,
        "free_temporary_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
        "gpus": gpus_here(),
    }


def project_digest() -> str | None:
    """SHA-256 over the names and contents of this project's Python files; None where it is not installed."""
    digest = hashlib.sha256()
    for package in OUR_PACKAGES:
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
    """A machine's facts, from what it said of itself and from what was found by asking several machines together."""
    gpus = None if said["gpus"] is None else tuple(Gpu(*gpu) for gpu in said["gpus"])
    known = None if sees is None else frozenset(sees)
    return NodeFacts(**{**said, "gpus": gpus}, unwritable=unwritable, sees=known, clock_ahead_s=ahead_s)


def gpus_here() -> tuple[tuple[str, int], ...] | None:
    """Name and memory (MiB) of every GPU that nvidia-smi lists; None where there is no nvidia-smi."""
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


def leave_mark(root: str, in_store: bool, folder: str, name: str) -> str | None:
    """Write a file for the other machines to see.

    Args:
        root: A folder's path, or an object store's URL.
        in_store: Whether it is a URL. The driver decides that: this function calls nothing of the project.
        folder: The name of a folder below it.
        name: The name, and the content, of the file.

    Returns:
        Why it can't be written, in words; None where it was.
    """
    try:
        if in_store:
            files, base = _store(root)
            with files.open_output_stream(f"{base}/{folder}/{name}") as file:
                file.write(name.encode())
        else:
            Path(root, folder, name).write_text(name, encoding="utf-8")
    except (OSError, ImportError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error).strip().partition("\n")[0]
    return None


def seen_marks(root: str, in_store: bool, folder: str, names: Sequence[str], within_s: float) -> list[str]:
    """Those of the names whose files can be read here, after at most so many seconds of waiting for the rest."""
    until = time.monotonic() + within_s
    seen: list[str] = []
    try:
        files, base = _store(root) if in_store else (None, "")
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


def remove_marks(root: str, in_store: bool, folder: str) -> None:
    """Remove the folder and everything in it, if it exists and can be reached."""
    with contextlib.suppress(OSError):
        if in_store:
            files, base = _store(root)
            files.delete_dir(f"{base}/{folder}")
        else:
            shutil.rmtree(Path(root, folder))


def _store(url: str) -> tuple[Any, str]:
    """A pyarrow file system, and the URL's path in it."""
    from pyarrow.fs import FileSystem

    files, base = FileSystem.from_uri(url)
    return files, base.rstrip("/")


def read_clock() -> float:
    """Seconds since 1970, by this machine's clock."""
    return time.time()
