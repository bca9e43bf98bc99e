"""What the page shows beside the scores, as parts of report.json: epochs, workers, importance, errors, the data.

A report of an earlier version has none of it: each field of `SweepReport` that holds such a part has a default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tune.report.parts import Part

SplitName = Literal["test", "validation"]


class EpochRow(Part):
    """What one epoch of a trial gave."""

    epoch: int
    """Its number, from 1."""
    train_loss: float
    """Mean loss over the training rows, nats."""
    scores: dict[str, float]
    """On the validation split, by their names in METRICS."""
    seconds: float
    """Training and evaluation."""


class RungRow(Part):
    """What a trial scored within an epoch, at a rung where trials are compared."""

    schedule_percent: float
    """How much of the trial's own schedule was done, (0, 100)."""
    train_loss: float
    """Mean loss over the training rows of the epoch so far, nats."""
    scores: dict[str, float]
    """On the validation split, by their names in METRICS."""
    seconds: float
    """How long the epoch took so far, training and evaluation."""


class WorkerSpan(Part):
    """A time in which one worker ran epochs of one trial."""

    trial: int
    host: str
    """The machine's name."""
    pid: int
    """The worker's process."""
    slot: int
    """Which of the workers that its machine had at a time it was, from 1."""
    began_at: float
    """Seconds since 1970."""
    ended_at: float
    """Seconds since 1970."""


class Importance(Part):
    """How much of the differences between trials each hyperparameter that was searched explains."""

    method: str
    """Of Optuna's evaluators the one that was used."""
    shares: dict[str, float]
    """By hyperparameter, the most important first; they add up to 1."""
    trials: int
    """How many trials this was computed of: those of the search that ran their whole schedule."""
    warning: str | None = None
    """Why these numbers can't be relied on; None where they can."""


class ClassRow(Part):
    """What a model makes of one class."""

    name: str
    rows: int
    """Rows of the class."""
    answers: int
    """Rows that the model says are of the class."""
    precision: float
    """The part of these answers that is right; 0 without answers."""
    recall: float
    """The part of the class's rows that is found; 0 without rows."""
    f1: float


class Confused(Part):
    """How many rows of a class got an answer."""

    label: str
    answer: str
    rows: int


class CalibrationBin(Part):
    """The rows whose answer has a probability between `low` and `high`."""

    low: float
    high: float
    rows: int
    confidence: float
    """The mean probability of their answers."""
    accuracy: float
    """The part of their answers that is right."""


class Calibration(Part):
    """Whether a model's probabilities mean what they say."""

    error: float
    """The expected calibration error: the mean over the rows of |confidence - accuracy| of their bin."""
    bins: list[CalibrationBin]
    """Those that have rows."""


class WorstError(Part):
    """A row that the model gets wrong although it is sure."""

    row: int
    """Its number in the split, from 0."""
    texts: list[str] | None
    """One for each text column, cut where they are long; None where the sweep keeps texts out of its report."""
    label: str
    answer: str
    probability: float
    """What the model gives its answer."""
    probability_of_label: float
    """What the model gives the right class."""


class Answers(Part):
    """What the model in best/ answers to the rows of a split."""

    on: SplitName
    """`validation` where what it answers on test is not known: it was chosen there, which flatters it."""
    rows: int
    classes: list[ClassRow]
    """By class id."""
    confusion: list[Confused]
    """The pairs that occur, in the order of class ids; those on the diagonal are right."""
    calibration: Calibration
    wrong: int
    """How many answers are wrong."""
    worst: list[WorstError]
    """The wrong answers that the model is most sure of."""


class SplitSummary(Part):
    """What a split holds."""

    rows: int
    classes: dict[str, int]
    """Rows by class."""
    median_tokens: float | None = None
    """Tokens of its rows after cutting; None where the split was not tokenised in this process."""
    longest_tokens: int | None = None
    cut_rows: int | None = None
    """Rows that were longer than `max_length` and lost tokens."""


class DataSummary(Part):
    """What was trained and scored on."""

    text_columns: list[str]
    label_column: str
    max_length: int
    """Tokens to which rows were cut."""
    splits: dict[str, SplitSummary]
    cut_from_train: list[str]
    """Splits that the sweep itself cut from the training rows."""


class Provenance(Part):
    """Where the result comes from: what one needs to make it again."""

    command: str | None
    """As it was typed last; None where Python called it."""
    spec: dict[str, Any]
    """The sweep's specification, as spec.yaml has it."""
    model_fingerprint: str
    data_fingerprint: str
    environment: dict[str, str]
    """The machine that ran the sweep and what its trials were given, in words."""


@dataclass(frozen=True)
class Details:
    """The parts of the report that only the page shows in full."""

    timeline: list[WorkerSpan] = field(default_factory=list)
    importance: Importance | None = None
    answers: Answers | None = None
    data: DataSummary | None = None
    provenance: Provenance | None = None


def without_texts(answers: Answers) -> Answers:
    """The same without the texts of rows."""
    return answers.model_copy(update={"worst": [each.model_copy(update={"texts": None}) for each in answers.worst]})
