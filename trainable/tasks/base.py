"""What a task type must do: from the labels in a table to the scores in a report.

A task type brings its labels, the model's head, the loss, what an evaluation counts, the scores that follow from the
counts, and the scores of a trivial answer to compare with. The training loop and the data know none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trainable.data.labels import LabelReader
from trainable.data.splits import Label
from trainable.metrics import F1Average

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Counts:
    """What an evaluation counted over a whole split."""

    loss_sum: float
    """The loss summed over all rows, nats."""

    by_class: Sequence[Sequence[int]]
    """What the task counts of each class, by class id."""


class Task(Protocol):
    """One task type. Its modules import torch inside functions only: `--plan` reads labels without it."""

    @property
    def name(self) -> str:
        """How a job names it."""
        ...

    @property
    def labels(self) -> LabelReader:
        """How the cells of a label column become labels."""
        ...

    def head(self, label_names: Sequence[str]) -> dict[str, Any]:
        """The fields of a transformers configuration that make the model's head fit these classes."""
        ...

    def f1_averages(self, num_classes: int) -> tuple[F1Average, ...]:
        """The ways in which F1 can be averaged for so many classes, the default first."""
        ...

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """The loss of a batch, summed over its rows.

        Args:
            logits: float32 [rows, outputs].
            labels: int64, as `TokenizedSplit.labels` has them for these rows.
            label_smoothing: In [0, 1).
        """
        ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the model gives each class: float32 [rows, classes], from the logits [rows, outputs]."""
        ...

    def count(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What is counted in a batch: one float64 vector on the logits' device.

        Vectors of batches add up to that of the whole split. float64 holds every count up to 2^53, so that losses and
        counts cross to the host together; nothing here may wait for the device.
        """
        ...

    def counts(self, total: Sequence[float]) -> Counts:
        """The counts of a split, from the sum of its batches' vectors."""
        ...

    def scores(self, counts: Counts, average: F1Average) -> dict[str, float]:
        """All scores of METRICS that the task has, by name; the loss among them."""
        ...

    def f1_by_class(self, counts: Counts) -> list[float]:
        """F1 of each class, by class id."""
        ...

    def collapsed(self, counts: Counts) -> bool:
        """Whether the model gave every row the same answer."""
        ...

    def majority(
        self, train: Sequence[Label], split: Sequence[Label], num_classes: int, average: F1Average
    ) -> dict[str, float]:
        """The scores on a split of always giving the answer that is most frequent in training.

        Args:
            train: Labels of the training split.
            split: Labels of the split to be scored.
            num_classes: How many classes there are.
            average: The way F1 is averaged.

        Returns:
            The scores of those metrics whose `majority` is "scored".
        """
        ...
