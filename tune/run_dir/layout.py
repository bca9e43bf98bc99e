"""The run directory: the only place that knows what its files are called."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from trainable.errors import UserError
from trainable.storage.base import Storage
from trainable.storage.folder import FolderStorage
from trainable.storage.folders import MANIFEST, is_aside, is_whole, link, recorded_sha256, write_text
from trainable.storage.trouble import storage_failed
from trainable.storage.urls import open_storage
from tune.spec.yaml_file import write_yaml

WEIGHTS = "model.safetensors"
# What a driver fetches from an object store. Of a trial's states and events, it needs none.
FETCHED = (
    "spec.yaml", "study.db", "log.txt", "incumbent.json", "report.json", "report.html", "best",
    "trials/[0-9]*/model", "trials/[0-9]*/failure.txt",
)  # fmt: skip
PUBLISHED_AS_IT_GROWS = ("log.txt", "trials/*/failure.txt", "trials/*/events.*")
OF_BEST = ("README.md", "metrics.json")  # what best/ has beside the model
LOCK_TRIES, LOCK_PAUSE_S = 3, 0.05  # `owner` has the lock for a moment when it asks
WHAT_TO_DO = "restore it from a copy, or start over with --fresh"
# Of spec.yaml's `resolved`; `sweep`, the last line of all, ties study, states and report to it.
RESOLVED = (
    "precision", "model_fingerprint", "data_fingerprint", "text_columns", "label_column", "label_names", "f1",
    "max_length", "rows",
)  # fmt: skip


class RunDir:
    """Paths in one run directory, and its small files."""

    def __init__(self, root: Path, storage: Storage | None = None) -> None:
        self.root = root.expanduser().absolute()
        self.storage = FolderStorage(self.root) if storage is None else storage
        self.spec_file = self.root / "spec.yaml"
        self.study_file = self.root / "study.db"
        self.log_file = self.root / "log.txt"
        self.incumbent_file = self.root / "incumbent.json"
        self.best = self.root / "best"
        self.trials = self.root / "trials"
        self.report_json = self.root / "report.json"
        self.report_html = self.root / "report.html"
        self.lock_file = self.root / ".lock"

    @property
    def name(self) -> str:
        """What the user calls it: a path or a URL."""
        return self.storage.name_of(self.root)

    def trial(self, number: int) -> Path:
        """The folder of a trial: TensorBoard events, state/, model/, failure.txt."""
        return self.trials / str(number)

    def model(self, number: int) -> Path:
        """Where a trial leaves its model while it may still win."""
        return self.trial(number) / "model"

    def state(self, number: int) -> Path:
        """Where a trial leaves its states while it runs."""
        return self.trial(number) / "state"

    def failure(self, number: int) -> Path:
        """Why a trial failed, in full."""
        return self.trial(number) / "failure.txt"

    @property
    def holds_sweep(self) -> bool:
        """Whether a sweep was begun here."""
        return self.spec_file.exists()

    def problems(self, fresh: bool = False) -> list[str]:
        """What speaks against running a sweep here; a folder that is not there yet is fine.

        fresh: what is here will be moved aside
        """
        if self.root.exists() and not self.root.is_dir():
            return [f"--out {self.root}: is a file, not a folder"]
        if self.root.is_dir() and not self.holds_sweep:
            # A driver that was killed in its first moment leaves these two.
            others = [p for p in self.root.iterdir() if p != self.lock_file and not is_aside(p)]
            if not fresh and (self.study_file in others or self.trials in others):
                return [f"--out {self.root}: spec.yaml is gone, but a sweep's other files are there; {WHAT_TO_DO}"]
            if others:
                return [f"--out {self.root}: holds files but no sweep; give a new folder"]
        above = next(p for p in (self.root, *self.root.parents) if p.exists())
        if not os.access(above, os.W_OK):
            return [f"--out {self.root}: {above} can't be written to"]
        return self._unlike_ours() if self.holds_sweep and not fresh else []

    def _unlike_ours(self) -> list[str]:
        """Entries that are not what a sweep makes of that name, or that can't be read or written."""
        files = [self.spec_file, self.study_file, self.log_file, self.incumbent_file, self.lock_file]
        files += [self.report_json, self.report_html]
        files += [self.study_file.with_name(f"{self.study_file.name}-{part}") for part in ("journal", "wal", "shm")]
        folders = [self.best, self.trials]
        for number in self.trial_numbers() if self.trials.is_dir() else []:
            files.append(self.failure(number))
            folders += [self.trial(number), self.model(number), self.state(number)]
        found = []
        for path in filter(os.path.lexists, [*files, *folders]):
            is_file = path in files
            if not (path.is_file() if is_file else path.is_dir()):
                wanted, kind = ("file", "folder") if is_file else ("folder", "file")
                found.append(f"{path} is a {kind}, not a {wanted}; {WHAT_TO_DO}")
            elif not os.access(path, os.R_OK | os.W_OK | (0 if is_file else os.X_OK)):
                found.append(f"{path} can't be read and written; give yourself the right to, or another --out")
        return found

    def trial_numbers(self) -> list[int]:
        """The numbers of the trials that have a folder."""
        if not self.trials.is_dir():
            return []
        names = [path.name for path in self.trials.iterdir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name)

    def disk(self) -> tuple[int, int]:
        """Bytes that the sweep here takes, and bytes that are free on its disk."""
        taken = sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        above = next(path for path in (self.root, *self.root.parents) if path.exists())
        return taken, shutil.disk_usage(above).free

    def read_spec(self) -> dict[str, Any]:
        """What spec.yaml says, all of `resolved` among it. Raises UserError where it can't be read."""
        try:
            loaded = yaml.safe_load(self.spec_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError) as error:
            raise UserError([f"{self.spec_file} can't be read: {error}; {WHAT_TO_DO}"]) from error
        if not isinstance(loaded, dict):
            raise UserError([f"{self.spec_file} is damaged: it holds no fields; {WHAT_TO_DO}"])
        resolved = loaded.get("resolved")
        missing = [name for name in RESOLVED if not isinstance(resolved, dict) or name not in resolved]
        if missing:
            raise UserError([f"{self.spec_file} is damaged: its `resolved` has no {', '.join(missing)}; {WHAT_TO_DO}"])
        return loaded

    @property
    def sweep_id(self) -> str | None:
        """What ties study, states and report to spec.yaml; None where that has none, or is not there."""
        if not self.holds_sweep:
            return None
        found = self.read_spec()["resolved"].get("sweep")
        return None if found is None else str(found)

    def write_spec(self, values: Mapping[str, Any]) -> None:
        """Write spec.yaml."""
        header = "# The sweep as resolved. Written by finetune-search; the same command goes on from here.\n"
        write_text(self.spec_file, header + write_yaml(values))
        self.storage.publish(self.spec_file)

    def best_metrics(self) -> dict[str, Any] | None:
        """What best/ says of its model: trial, epoch, scores. None where it is not there whole, or another sweep's."""
        if not is_whole(self.best):
            return None
        try:
            metrics: dict[str, Any] = json.loads((self.best / "metrics.json").read_text(encoding="utf-8"))
            return metrics if metrics.get("sweep") == self.sweep_id else None
        except (OSError, ValueError, AttributeError):
            return None  # whole, but no folder of ours

    def best_trial(self) -> int | None:
        """The number of the trial whose model best/ holds, None where best/ is not there whole, or another sweep's."""
        metrics = self.best_metrics()
        return None if metrics is None else int(metrics["trial"])

    def model_of(self, number: int, sha256: str | None) -> Path | None:
        """The folder that holds a trial's model whole: its own, or best/; None where neither does.

        sha256: of its weights, as the study has it; None where it has none
        """
        own = self.model(number)
        if sha256 is None:
            return own if is_whole(own) else self.best if self.best_trial() == number else None
        whole = (f for f in (own, self.best) if recorded_sha256(f, WEIGHTS) == sha256 and is_whole(f, but=OF_BEST))
        return next(whole, None)

    def copy_best_model(self, folder: Path) -> None:
        """Put best/'s model into a folder, as a trial leaves it."""
        for path in self.best.iterdir():
            if path.name not in (MANIFEST, *OF_BEST):
                link(path, folder / path.name)

    def read_report(self) -> dict[str, Any] | None:
        """The report of this run, or None where there is none yet, or it is damaged or another sweep's."""
        try:
            loaded = json.loads(self.report_json.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        kinds = {"best": dict, "test": dict, "majority": dict, "trials": list, "wall_s": float}
        if not isinstance(loaded, dict) or not all(isinstance(loaded.get(name), kinds[name]) for name in kinds):
            return None
        if not all(isinstance(row, dict) for row in loaded["trials"]):
            return None
        return loaded if loaded.get("sweep") == self.sweep_id else None

    def holds_others_files(self) -> bool:
        """Whether files lie here, but no sweep. Raises OSError if an object store can't be read."""
        return self.storage.holds_others_files(self.spec_file.name)

    def fetch(self) -> None:
        """Copy what a driver needs from an object store to this machine; a shared folder is left as it is.

        Raises OSError if the store can't be read.
        """
        self.storage.fetch_copy(FETCHED, keep=[self.lock_file.name])

    def publish_progress(self) -> None:
        """Let another machine's driver go on from here, should this one die."""
        self.storage.publish_database(self.study_file)
        self.storage.publish_changed(PUBLISHED_AS_IT_GROWS)

    def refuse_if_locked(self) -> None:
        """Raise UserError naming the owner where another driver is at work here."""
        with contextlib.suppress(OSError):  # what can't be opened is told with all that is wrong here
            if self.lock_file.is_file():
                with self.held():
                    pass
            self.storage.refuse_if_driven()

    def move_aside(self) -> None:
        """Give the sweep that is here another name, so that a new one can begin in its place."""
        if self.storage.is_shared_folder and not self.root.exists():  # the lock would make it
            return
        with self.held(), self.storage.lease():
            kept = self.storage.move_aside()
            self.fetch()  # nothing is left to be fetched: a working copy is emptied
        if kept is not None:
            print(f"what was in {self.name} is kept in {kept}", flush=True)

    def owner(self) -> str | None:
        """The driver that is at work here, like "4711 on host"; None where none is. Writes nothing."""
        if (driver := self.storage.driver()) is not None:
            return driver
        try:
            handle = os.open(self.lock_file, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _owner(handle)
        except OSError:  # a file system without locks
            return None
        finally:
            os.close(handle)
        return None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One driver at a time. Raises UserError naming the owner where another one is at work."""
        with self.held(), self.storage.lease():
            self.storage.refuse_if_changed(self.study_file)
            try:
                yield
            finally:
                if not storage_failed():  # a store that does not answer is not asked again
                    with contextlib.suppress(OSError):
                        self.publish_progress()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """One process of this machine at a time. Raises UserError naming the owner where another one is at work."""
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for tries_left in reversed(range(LOCK_TRIES)):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if not tries_left:
                        told = f"--out {self.name}: another sweep is running here (process {_owner(handle)})"
                        raise UserError([told]) from None
                    time.sleep(LOCK_PAUSE_S)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
            yield
        finally:
            os.close(handle)  # gives the lock back


def open_run_dir(out: str | Path, reading: bool = False) -> RunDir:
    """A run directory by its path or URL.

    reading: not as a driver, whose working copy of what lies at a URL stays untouched; this one goes with the process
    """
    try:
        storage = open_storage(out, reading)
    except OSError as error:
        raise UserError([f"--out {str(out).partition('?')[0]}: its copy here has no place: {error}"]) from error
    return RunDir(storage.root, storage)


def _owner(handle: int) -> str:
    """Who wrote last that the lock is theirs."""
    text = os.pread(handle, 300, 0).decode(errors="replace").strip()
    return text if re.fullmatch(r"[0-9]+( on [\w.-]+)?", text) else "unknown"
