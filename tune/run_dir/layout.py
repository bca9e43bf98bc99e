"""The run directory: where its files are and what they are called.

This is the one place for the names of files and folders directly in the run directory and in a trial's folder. What
lies inside the deeper ones (a trial's state/, a model) is named by whoever writes it, in `trainable`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainable.errors import UserError
from trainable.hub.model_folder import WEIGHT_FILES
from trainable.storage.base import Storage
from trainable.storage.folder import FolderStorage
from trainable.storage.folders import MANIFEST, is_whole, link, recorded_sha256
from trainable.storage.predictions import PREDICTIONS
from trainable.storage.trouble import storage_failed
from trainable.storage.urls import is_url, open_storage
from tune.run_dir import documents, lock

SPEC, STUDY, LOG, INCUMBENT, LOCK = "spec.yaml", "study.db", "log.txt", "incumbent.json", ".lock"
REPORT_JSON, REPORT_HTML = "report.json", "report.html"
BEST, TRIALS = "best", "trials"
MODEL, STATE, FAILURE, EVENTS = "model", "state", "failure.txt", "events.*"  # in a trial's folder
SWEEP_EVENTS = "sweep"  # TensorBoard's run of the sweep as a whole
LOG_TO = "log_to"  # what each tracker has
METRICS_OF_BEST = "metrics.json"
TEST_PREDICTIONS = "test_predictions.npy"  # what a model predicts of the test split
SOUP = "soup"  # in a trial's folder: a model whose weights are the average of several runs
MODEL_ONNX = "model.onnx"  # in best/, as optimum calls it: what `--export onnx` makes
OF_BEST = ("README.md", METRICS_OF_BEST, TEST_PREDICTIONS, MODEL_ONNX)  # what best/ has beside the model's files
WEIGHTS = WEIGHT_FILES[0]  # of every model that a trial leaves

# What a driver fetches from an object store. It needs neither states, which the workers fetch, nor curves of trials; it
# replaces the events of the sweep.
FETCHED = (
    SPEC, STUDY, LOG, INCUMBENT, REPORT_JSON, REPORT_HTML, BEST,
    f"{TRIALS}/[0-9]*/{MODEL}", f"{TRIALS}/[0-9]*/{FAILURE}", f"{TRIALS}/[0-9]*/*.npy", f"{LOG_TO}/*.jsonl",
    f"{SWEEP_EVENTS}/{EVENTS}",
)  # fmt: skip
PUBLISHED_AS_IT_GROWS = (
    LOG,
    f"{TRIALS}/*/{FAILURE}",
    f"{TRIALS}/*/{EVENTS}",
    f"{SWEEP_EVENTS}/{EVENTS}",
    f"{LOG_TO}/*.jsonl",
)


class RunDir:
    """One run directory: its paths, its small files, and the right to work in it.

    Args:
        root: The folder on this machine: the run directory itself, or the working copy of one in an object store.
        storage: Where the files lie for all machines; by default in `root`.
    """

    def __init__(self, root: Path, storage: Storage | None = None) -> None:
        self.root = root.expanduser().absolute()
        self.storage = FolderStorage(self.root) if storage is None else storage
        self.spec_file = self.root / SPEC
        self.study_file = self.root / STUDY
        self.log_file = self.root / LOG
        self.incumbent_file = self.root / INCUMBENT
        self.best = self.root / BEST
        self.trials = self.root / TRIALS
        self.sweep_events = self.root / SWEEP_EVENTS
        self.report_json = self.root / REPORT_JSON
        self.report_html = self.root / REPORT_HTML
        self.lock_file = self.root / LOCK

    @property
    def name(self) -> str:
        """What the user calls it: a path or a URL."""
        return self.storage.name_of(self.root)

    def trial(self, number: int) -> Path:
        """A trial's folder, with its TensorBoard events, state/, model/ and failure.txt."""
        return self.trials / str(number)

    def model(self, number: int) -> Path:
        """Where a trial's model lies as long as the trial may still win."""
        return self.trial(number) / MODEL

    def state(self, number: int) -> Path:
        """Where a trial's states lie while it runs."""
        return self.trial(number) / STATE

    def soup(self, number: int) -> Path:
        """Where the average of a winner's fresh runs lies, beside the one of them that would be handed over alone."""
        return self.trial(number) / SOUP

    def predictions(self, number: int) -> Path:
        """What a trial's best epoch predicts of the validation split."""
        return self.trial(number) / PREDICTIONS

    def test_predictions(self, number: int) -> Path:
        """What a trial's model predicts of the test split; only a few models are asked."""
        return self.trial(number) / TEST_PREDICTIONS

    def failure(self, number: int) -> Path:
        """Why a trial failed, in full."""
        return self.trial(number) / FAILURE

    def tracker_notes(self, name: str) -> Path:
        """The notes of what a tracker has."""
        return self.root / LOG_TO / f"{name}.jsonl"

    def trial_numbers(self) -> list[int]:
        """The numbers of the trials that have a folder."""
        if not self.trials.is_dir():
            return []
        names = [path.name for path in self.trials.iterdir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name)

    @property
    def holds_sweep(self) -> bool:
        """Whether a sweep was begun here."""
        return self.spec_file.exists()

    def disk(self) -> tuple[int, int]:
        """Bytes that the sweep takes here, and bytes that are free on the disk."""
        taken = sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        existing = next(path for path in (self.root, *self.root.parents) if path.exists())
        return taken, shutil.disk_usage(existing).free

    # Small files

    @property
    def sweep_id(self) -> str | None:
        """What ties study, states and report to spec.yaml; None if that is missing, or an early version wrote it."""
        return documents.sweep_id_of(self.spec_file)

    def read_spec(self) -> dict[str, Any]:
        """What spec.yaml says, with everything that `resolved` must have. Raises UserError if it can't be read."""
        return documents.read_spec(self.spec_file)

    def write_spec(self, values: Mapping[str, Any]) -> None:
        """Write spec.yaml, for all machines."""
        documents.write_spec(self.spec_file, values)
        self.storage.publish(self.spec_file)

    def read_report(self) -> dict[str, Any] | None:
        """This sweep's report; None if there is none yet, or it is damaged or another sweep's."""
        return documents.read_report(self.report_json, self.sweep_id)

    # Models

    def best_metrics(self) -> dict[str, Any] | None:
        """What best/ says of its model; None if best/ is missing, damaged or another sweep's."""
        return documents.read_best_metrics(self.best / METRICS_OF_BEST, self.sweep_id)

    def best_trial(self) -> int | None:
        """The number of the trial whose model best/ holds; None if best/ is missing, damaged or another sweep's."""
        metrics = self.best_metrics()
        return None if metrics is None else int(metrics["trial"])

    def model_of(self, number: int, sha256: str | None) -> Path | None:
        """The folder that holds a trial's whole model: the trial's own, or best/; None if neither does.

        Args:
            number: The trial.
            sha256: The checksum of its weights, as the study has it; None if an early version ran the trial.
        """
        own = self.model(number)
        if sha256 is None:
            return own if is_whole(own) else self.best if self.best_trial() == number else None
        whole = (f for f in (own, self.best) if recorded_sha256(f, WEIGHTS) == sha256 and is_whole(f, but=OF_BEST))
        return next(whole, None)

    def has_model(self, number: int, sha256: str | None) -> bool:
        """Whether a trial's model is there, as the trial left it: where trials write, or in best/."""
        own = self.storage.sha256(self.model(number), WEIGHTS)
        return (own is not None and own == sha256) or self.model_of(number, sha256) is not None

    def fetch_model(self, number: int, sha256: str | None) -> Path | None:
        """`model_of`, where the model may lie on another machine yet."""
        self.storage.fetch(self.model(number))
        return self.model_of(number, sha256)

    def copy_best_model(self, folder: Path) -> None:
        """Put the model of best/ into a folder, as its trial left it."""
        for path in self.best.iterdir():
            if path.name not in (MANIFEST, *OF_BEST):
                link(path, folder / path.name)

    # For all machines

    def holds_others_files(self) -> bool:
        """Whether files lie here, but no sweep. Raises OSError if an object store can't be read."""
        return self.storage.holds_others_files(SPEC)

    def fetch(self) -> None:
        """Copy what a driver needs from an object store to this machine; a shared folder is left as it is.

        Raises OSError if the store can't be read.
        """
        self.storage.fetch_copy(FETCHED, keep=[LOCK])

    def publish_progress(self) -> None:
        """Publish what another machine's driver would continue from if this one died."""
        self.storage.publish_database(self.study_file)
        self.storage.publish_changed(PUBLISHED_AS_IT_GROWS)

    # One driver at a time

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only process of this machine here. Raises UserError, naming the owner, if there is another one."""
        self.root.mkdir(parents=True, exist_ok=True)
        with lock.held(self.lock_file, self.name):
            yield

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only driver, on all machines. Raises UserError, naming the owner, if there is another one.

        At the end, what has changed is published.
        """
        with self.held(), self.storage.lease():
            self.storage.refuse_if_changed(self.study_file)
            try:
                yield
            finally:
                if not storage_failed():  # a store that does not answer is not asked again
                    with contextlib.suppress(OSError):
                        self.publish_progress()

    def owner(self) -> str | None:
        """The driver that is at work here, like "4711 on host"; None if there is none. Writes nothing."""
        return self.storage.driver() or lock.owner(self.lock_file)

    def refuse_if_locked(self) -> None:
        """Raise UserError, naming the owner, if another driver is at work here."""
        with contextlib.suppress(OSError):  # what can't be read is told later, with everything else that is wrong
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


def open_run_dir(out: str | Path, reading: bool = False) -> RunDir:
    """A run directory by its path or URL.

    Args:
        out: The path or URL, as the user gives it.
        reading: Whether the caller only reads. Then the driver's working copy of an object store stays untouched.

    Raises:
        UserError: There is no place for the working copy.
    """
    try:
        storage = open_storage(out, reading)
    except OSError as error:
        raise UserError([f"--out {str(out).partition('?')[0]}: its copy here has no place: {error}"]) from error
    return RunDir(storage.root, storage)


def stored_spec(out: str) -> str | None:
    """The specification of the sweep in a run directory on this machine; None where there is none."""
    file = os.path.join(os.path.expanduser(out), SPEC)
    return file if not is_url(out) and os.path.isfile(file) else None
