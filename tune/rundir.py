"""The run directory: the only place that knows what its files are called."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from trainable.errors import UserError
from trainable.storage import MANIFEST, is_whole, link, write_text


class RunDir:
    """Paths in one run directory, and its small files."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.spec_file = self.root / "spec.yaml"
        self.study_file = self.root / "study.db"
        self.log_file = self.root / "log.txt"
        self.incumbent_file = self.root / "incumbent.json"
        self.best = self.root / "best"
        self.report_json = self.root / "report.json"
        self.report_html = self.root / "report.html"
        self._lock_file = self.root / ".lock"

    def trial(self, number: int) -> Path:
        """The folder of a trial: TensorBoard events, state/, model/, failure.txt."""
        return self.root / "trials" / str(number)

    def model(self, number: int) -> Path:
        """Where a trial leaves its model while it may still win."""
        return self.trial(number) / "model"

    def failure(self, number: int) -> Path:
        """Why a trial failed, in full."""
        return self.trial(number) / "failure.txt"

    @property
    def holds_sweep(self) -> bool:
        """Whether a sweep was begun here."""
        return self.spec_file.exists()

    def problems(self) -> list[str]:
        """What speaks against running a sweep here; a folder that is not there yet is fine."""
        if self.root.exists() and not self.root.is_dir():
            return [f"--out {self.root}: is a file, not a folder"]
        if self.root.is_dir() and not self.holds_sweep and any(self.root.iterdir()):
            return [f"--out {self.root}: holds files but no sweep; give a new folder"]
        above = next(p for p in (self.root, *self.root.parents) if p.exists())
        if not os.access(above, os.W_OK):
            return [f"--out {self.root}: {above} can't be written to"]
        return []

    def read_spec(self) -> dict[str, Any]:
        """What spec.yaml says. Raises UserError where it can't be read."""
        try:
            loaded = yaml.safe_load(self.spec_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError([f"{self.spec_file} can't be read: {error}"]) from error
        if not isinstance(loaded, dict):
            raise UserError([f"{self.spec_file} is damaged: it holds no fields"])
        return loaded

    def write_spec(self, values: Mapping[str, Any]) -> None:
        """Write spec.yaml."""
        header = "# The sweep as resolved. Written by finetune-search; the same command goes on from here.\n"
        write_text(self.spec_file, header + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))

    def best_trial(self) -> int | None:
        """The number of the trial whose model best/ holds, None where best/ is not there whole."""
        if not is_whole(self.best):
            return None
        try:
            return int(json.loads((self.best / "metrics.json").read_text(encoding="utf-8"))["trial"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def copy_best_model(self, folder: Path) -> None:
        """Put best/'s model into a folder, as a trial leaves it."""
        for path in self.best.iterdir():
            if path.name not in (MANIFEST, "README.md", "metrics.json"):
                link(path, folder / path.name)

    def read_report(self) -> dict[str, Any] | None:
        """The report of this run, or None where there is none yet."""
        try:
            loaded: dict[str, Any] = json.loads(self.report_json.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return loaded

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One driver at a time. Raises UserError naming the owner where another one is at work."""
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                owner = os.pread(handle, 100, 0).decode(errors="replace").strip() or "unknown"
                raise UserError([f"--out {self.root}: another sweep is running here (process {owner})"]) from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)  # gives the lock back
