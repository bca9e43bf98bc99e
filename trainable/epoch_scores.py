"""What a worker reports of each epoch, and of each rung within one: typed values from the loop to the report.

The study and the states on disk hold them as flat JSON objects; `as_json` and `from_json` are the only places that
know their keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from trainable.metrics import METRICS, merit


@dataclass(frozen=True)
class WorkerFacts:
    """Which process ran an epoch, and what the trial cost it beside the training."""

    hostname: str
    """The machine's name."""

    pid: int
    """The process."""

    start_s: float
    """How long the worker took to begin the trial, seconds."""

    bytes_written: int
    """What the trial has written to disk since it began in this worker, bytes."""

    device: str | None = None
    """What it computed on, as `device_name` has it; None in the study of a version that did not write it."""

    threads: int | None = None
    """CPU threads that it computed with; None as above."""

    torch: str | None = None
    """The version of torch; None as above."""


@dataclass(frozen=True)
class EpochScores:
    """What one epoch of a trial gave."""

    epoch: int
    """The number of the epoch, from 1."""

    schedule_percent: float
    """How much of the trial's own schedule is done, (0, 100]."""

    train_loss: float
    """Mean loss over the training rows, nats, with dropout on and label smoothing in."""

    scores: Mapping[str, float]
    """The scores on the validation split, by their names in METRICS."""

    collapsed: bool
    """Whether the model gave every validation row the same class."""

    learning_rate: float
    """At the epoch's last optimizer step."""

    examples_per_second: float
    """Training rows per second."""

    began_at: float
    """When the epoch's training began, seconds since 1970."""

    train_s: float
    """How long training took, seconds."""

    eval_s: float
    """How long the evaluation on validation took, seconds."""

    peak_memory_mib: float
    """The most memory so far, MiB: of the process on a CPU, of the tensors on a GPU."""

    rows_at_once: int | None = None
    """The most rows that were computed together since memory ran out; None where it never did."""

    worker: WorkerFacts | None = None
    """Where the epoch was run; None until a driver has recorded it."""

    def merit(self, metric: str, direction: str) -> tuple[float, float]:
        """What epochs and trials are ranked by, larger is better: the objective, then the lower validation loss."""
        return merit(self.scores, metric, direction)

    @property
    def seconds(self) -> float:
        """Training and evaluation, seconds."""
        return self.train_s + self.eval_s

    @property
    def ended_at(self) -> float:
        """When the evaluation ended, seconds since 1970."""
        return self.began_at + self.train_s + self.eval_s

    def as_json(self) -> dict[str, Any]:
        """The flat object that the study and the states on disk hold."""
        flat = {
            "epoch": self.epoch,
            "schedule_percent": self.schedule_percent,
            "train_loss": self.train_loss,
            **self.scores,
            "collapsed": self.collapsed,
            "learning_rate": self.learning_rate,
            "examples_per_second": self.examples_per_second,
            "began_at": self.began_at,
            "train_s": self.train_s,
            "eval_s": self.eval_s,
            "peak_memory_mib": self.peak_memory_mib,
            "rows_at_once": self.rows_at_once,
        }
        facts = {} if self.worker is None else {name: getattr(self.worker, name) for name in WORKER_KEYS}
        return flat | {name: value for name, value in facts.items() if value is not None}

    @classmethod
    def from_json(cls, flat: Mapping[str, object], *, every_score: bool = False) -> EpochScores:
        """Read what `as_json` wrote.

        Args:
            flat: The flat object. Keys that are not known are left out: a later version may have written them.
            every_score: Whether a score may not be missing. What an earlier version wrote lacks the newer scores;
                what a worker has just reported must have all of them.

        Raises:
            ValueError: The object lacks a key, or a value has another type or is not finite; says which.
        """
        number = epoch_number(flat)
        read = _Reader(flat, f"epoch {number}")
        scores = {name: read.number(name) for name in METRICS if every_score or name in flat}
        rows_at_once = flat.get("rows_at_once")
        return cls(
            epoch=number,
            scores=scores,
            collapsed=read.boolean("collapsed"),
            rows_at_once=None if rows_at_once is None else read.integer("rows_at_once"),
            worker=_worker_facts(flat, read),
            **{name: read.number(name) for name in NUMBERS},
        )


@dataclass(frozen=True)
class RungScores:
    """What an evaluation within an epoch gave, at a rung: a share of the schedule at which trials are compared."""

    schedule_percent: float
    """How much of the trial's own schedule was done, (0, 100)."""

    steps: int
    """The trial's optimizer steps that were done."""

    train_loss: float
    """Mean loss over the training rows of the epoch so far, nats."""

    seconds: float
    """How long the epoch took so far, training and evaluation, seconds."""

    scores: Mapping[str, float]
    """The scores on the validation split, by their names in METRICS."""

    def as_json(self) -> dict[str, Any]:
        """The flat object that the study and the states on disk hold."""
        return {
            "schedule_percent": self.schedule_percent,
            "steps": self.steps,
            "train_loss": self.train_loss,
            "seconds": self.seconds,
            **self.scores,
        }

    @classmethod
    def from_json(cls, flat: Mapping[str, object], *, every_score: bool = False) -> RungScores:
        """Read what `as_json` wrote; the arguments and the errors are those of `EpochScores.from_json`."""
        read = _Reader(flat, "a rung")
        return cls(
            schedule_percent=read.number("schedule_percent"),
            steps=read.integer("steps"),
            train_loss=read.number("train_loss"),
            seconds=read.number("seconds"),
            scores={name: read.number(name) for name in METRICS if every_score or name in flat},
        )


@dataclass(frozen=True)
class CurvePoint:
    """Training loss and learning rate within an epoch, for curves; neither the study nor the report holds them."""

    steps: int
    """The trial's optimizer steps that were done."""

    train_loss: float
    """Mean loss over the rows that were trained since the epoch's point before, nats."""

    learning_rate: float
    """At the last of these steps."""

    def as_json(self) -> dict[str, Any]:
        """The flat object that a worker reports."""
        return {"steps": self.steps, "train_loss": self.train_loss, "learning_rate": self.learning_rate}

    @classmethod
    def from_json(cls, flat: Mapping[str, object]) -> CurvePoint:
        """Read what `as_json` wrote. Raises ValueError as `EpochScores.from_json` does."""
        read = _Reader(flat, "a point of the curve")
        return cls(read.integer("steps"), read.number("train_loss"), read.number("learning_rate"))


NUMBERS = (
    "schedule_percent", "train_loss", "learning_rate", "examples_per_second", "began_at", "train_s", "eval_s",
    "peak_memory_mib",
)  # fmt: skip
WORKER_KEYS = tuple(field.name for field in fields(WorkerFacts))


def best_epoch(epochs: Iterable[EpochScores], metric: str, direction: str) -> EpochScores | None:
    """The epoch of the greatest merit, of equals the earliest; None without epochs."""
    return max(epochs, key=lambda epoch: epoch.merit(metric, direction), default=None)


def epoch_number(flat: Mapping[str, object]) -> int:
    """The number of an epoch that is held as a flat object.

    Raises:
        ValueError: It is missing, or no integer from 1.
    """
    number = flat.get("epoch")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"epoch {_found(flat, 'epoch')}; it must be an integer from 1")
    return number


@dataclass(frozen=True)
class _Reader:
    """Reads one value at a time; its errors name what it is of, and the key."""

    flat: Mapping[str, object]
    of: str

    def number(self, name: str) -> float:
        value = self.flat.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._wrong(name, "a finite number")
        return float(value)

    def integer(self, name: str) -> int:
        value = self.flat.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "an integer")
        return value

    def boolean(self, name: str) -> bool:
        value = self.flat.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def text(self, name: str) -> str:
        value = self.flat.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def _wrong(self, name: str, rule: str) -> ValueError:
        return ValueError(f"{name} of {self.of} {_found(self.flat, name)}; it must be {rule}")


def _found(flat: Mapping[str, object], name: str) -> str:
    return f"is {flat[name]!r}" if name in flat else "is missing"


def _worker_facts(flat: Mapping[str, object], read: _Reader) -> WorkerFacts | None:
    if not any(name in flat for name in WORKER_KEYS):
        return None
    return WorkerFacts(
        hostname=read.text("hostname"),
        pid=read.integer("pid"),
        start_s=read.number("start_s"),
        bytes_written=read.integer("bytes_written"),
        device=read.text("device") if "device" in flat else None,
        threads=read.integer("threads") if "threads" in flat else None,
        torch=read.text("torch") if "torch" in flat else None,
    )
