"""What a worker is told: the job that all trials of a sweep share, and the assignment of one trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.config import Batching, Precision, TrialConfig
from trainable.hub.shipping import Files, folder_at_hand
from trainable.metrics import Direction, F1Average
from trainable.storage.base import Storage
from trainable.storage.folder import LOCAL
from trainable.tasks import DEFAULT_TASK

if TYPE_CHECKING:
    from trainable.data.tokens import TokenizedSplit


@dataclass(frozen=True)
class Job:
    """What all trials of a sweep share. Ray's object store carries it to each machine once."""

    model_folder: str
    """A local folder in Hugging Face's format."""

    label_names: tuple[str, ...]
    """The classes' names by id; their number is the number of classes (>= 2)."""

    train: TokenizedSplit
    """The training split."""

    validation: TokenizedSplit
    """The validation split. The test split is not here: no trial can see it."""

    pad_id: int
    """The token id that fills short rows."""

    pad_token: str | None = None
    """The token of `pad_id` where the tokenizer has no padding token of its own; else None."""

    max_length: int | None = None
    """The tokens that rows were cut to; the tokenizer beside the written model says so. None leaves it as it is."""

    task: str = DEFAULT_TASK
    """The task type, a key of TASKS."""

    f1_average: F1Average = "binary"
    """The way F1 is averaged; "binary" takes class id 1 for the positive one."""

    metric: str = "f1"
    """The objective on validation, a key of METRICS."""

    mode: Direction = "max"
    """Whether the objective is to be large or small."""

    precision: Precision = "fp32"
    """Of the arithmetic in training and validation; weights are float32 in either."""

    threads: int = 1
    """CPU threads of one trial."""

    gpus_per_trial: float = 0.0
    """GPUs of one trial, mostly a fraction of one; 0 means that trials train on the CPU."""

    incumbent_file: str | None = None
    """Holds {"trial": ..., "merit": [...]} of the trial to beat, as JSON; None means that every trial may win."""

    rungs_percent: tuple[float, ...] = ()
    """The shares of its schedule at which a trial is scored also where one falls within an epoch, in (0, 100)."""

    state_interval_s: float = 60.0
    """A trial's whole state is written at most this often, seconds."""

    batching: Batching = "bucketed"
    """Whether rows of like length train together, or rows as they come."""

    storage: Storage = LOCAL
    """Where the files lie that trials write."""

    heartbeats: str | None = None
    """Where in the head's key-value store the workers show that they work; None means that nobody looks."""

    sweep_id: str | None = None
    """The sweep that a state must name: a state of another sweep may have the same configuration."""

    model_fingerprint: str | None = None
    """What `model_folder` must hold on every machine; None where all trials run on this one."""

    model_files: Any = None
    """A reference to the model's files in Ray's object store, for machines that lack them; None as above."""


@dataclass(frozen=True)
class Assignment:
    """One trial for a worker: which, with what configuration, and where it writes."""

    number: int
    """The trial's number in the study."""

    seed: int
    """Seeds the new head, the order of rows and dropout."""

    config: TrialConfig
    """The trial's hyperparameters."""

    folder: str
    """The trial's folder in the run directory."""

    confirms: int | None = None
    """The trial whose configuration this one trains again from a fresh seed: it is not stopped early, and its model is
    kept. None of a trial of the search."""

    memory_multiplier: int = 1
    """How many times the usual GPU fraction, or the usual cores, this trial has; 2 after memory ran out once."""


def with_model_at_hand(job: Job, fetch: Callable[[Any], Files]) -> Job:
    """The same job with a model folder that lies on this machine; `folder_at_hand` says which, and what it raises."""
    if job.model_files is None or job.model_fingerprint is None:
        return job
    folder = folder_at_hand(Path(job.model_folder), job.model_fingerprint, lambda: fetch(job.model_files))
    return replace(job, model_folder=str(folder))
