"""What a model answers to the rows of a split: classes, confusion, calibration, and the errors it is most sure of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainable.metrics import ClassCounts, f1_of_class
from tune.report.confusion_matrix import confusion_matrix
from tune.report.details import Answers, Calibration, CalibrationBin, ClassRow, Confused, SplitName, WorstError

if TYPE_CHECKING:
    import numpy.typing as npt

CALIBRATION_BINS = 10
MOST_ERRORS = 20
MOST_CHARACTERS = 300  # of a text

Texts = Sequence[Sequence[str]]
"""By column: `texts[c][i]` is the text of row i in column c."""


def answers_of(
    on: SplitName,
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.floating],
    label_names: Sequence[str],
    texts: Texts | None,
) -> Answers:
    """Say what a model answers.

    Args:
        on: The split.
        labels: The class id of each row, [rows].
        probabilities: What the model gives each class, [rows, classes].
        label_names: The classes, by class id.
        texts: Of the rows; None where the report is to hold none.
    """
    sure = probabilities.astype(np.float64)
    answers = sure.argmax(axis=1)
    counts = confusion_matrix(labels.tolist(), answers.tolist(), len(label_names))
    return Answers(
        on=on,
        rows=len(labels),
        classes=[
            _class_row(name, ClassCounts(int(counts[i].sum()), int(counts[:, i].sum()), int(counts[i, i])))
            for i, name in enumerate(label_names)
        ],
        confusion=[
            Confused(label=label_names[i], answer=label_names[j], rows=int(counts[i, j]))
            for i, j in np.argwhere(counts).tolist()
        ],
        calibration=_calibration(sure.max(axis=1), answers == labels),
        wrong=int((answers != labels).sum()),
        worst=_worst(labels, sure, label_names, texts),
    )


def _class_row(name: str, of: ClassCounts) -> ClassRow:
    return ClassRow(
        name=name,
        rows=of.rows,
        answers=of.answers,
        precision=of.right / of.answers if of.answers else 0.0,
        recall=of.right / of.rows if of.rows else 0.0,
        f1=f1_of_class(of),
    )


def _calibration(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> Calibration:
    """Compare how sure the answers are with how often they are right, in bins of equal width (Guo et al., 2017)."""
    place = np.clip((confidence * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    bins = [
        CalibrationBin(
            low=i / CALIBRATION_BINS,
            high=(i + 1) / CALIBRATION_BINS,
            rows=int((place == i).sum()),
            confidence=float(confidence[place == i].mean()),
            accuracy=float(right[place == i].mean()),
        )
        for i in np.unique(place).tolist()
    ]
    error = sum(each.rows * abs(each.confidence - each.accuracy) for each in bins) / max(len(right), 1)
    return Calibration(error=error, bins=bins)


def _worst(
    labels: npt.NDArray[np.int64], sure: npt.NDArray[np.float64], label_names: Sequence[str], texts: Texts | None
) -> list[WorstError]:
    answers, confidence = sure.argmax(axis=1), sure.max(axis=1)
    wrong = np.flatnonzero(answers != labels)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_ERRORS].tolist()
    return [
        WorstError(
            row=i,
            texts=None if texts is None else [_cut(column[i]) for column in texts],
            label=label_names[labels[i]],
            answer=label_names[answers[i]],
            probability=float(confidence[i]),
            probability_of_label=float(sure[i, labels[i]]),
        )
        for i in chosen
    ]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
