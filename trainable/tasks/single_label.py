"""Classification in which each row has exactly one class: cross-entropy and a confusion matrix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainable.data.labels import SINGLE_LABEL, LabelReader
from trainable.data.splits import Label
from trainable.metrics import F1Average, collapsed, majority_scores, scores
from trainable.tasks.base import Counts

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SingleLabel:
    """One class for each row."""

    name: str = "single_label"
    labels: LabelReader = SINGLE_LABEL

    def head(self, label_names: Sequence[str]) -> dict[str, Any]:
        """One output for each class, under a softmax."""
        return {
            "num_labels": len(label_names),
            "id2label": dict(enumerate(label_names)),
            "label2id": {name: i for i, name in enumerate(label_names)},
            "problem_type": "single_label_classification",
        }

    def f1_averages(self, num_classes: int) -> tuple[F1Average, ...]:
        """Two classes have a positive one, class 1; more have only the mean over the classes."""
        return ("binary", "macro") if num_classes == 2 else ("macro",)

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Cross-entropy, nats."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)

    def count(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, then the rows by (true, predicted) class, flat: float64 [1 + classes * classes]."""
        import torch

        classes = logits.shape[-1]
        cells = torch.zeros(classes**2, dtype=torch.float64, device=logits.device)
        cell = labels * classes + logits.argmax(dim=-1)
        cells.index_add_(0, cell, torch.ones_like(cell, dtype=torch.float64))  # bincount would sync on a GPU
        return torch.cat([self.loss(logits, labels, 0.0).double().view(1), cells])

    def counts(self, total: Sequence[float]) -> Counts:
        """Cut the flat cells into the rows of the confusion matrix."""
        loss_sum, *cells = total
        classes = math.isqrt(len(cells))
        return Counts(loss_sum, [[int(n) for n in cells[i : i + classes]] for i in range(0, classes**2, classes)])

    def scores(self, counts: Counts, average: F1Average) -> dict[str, float]:
        """Every score of METRICS, computed from the confusion matrix and the loss."""
        return scores(counts.confusion, counts.loss_sum, average)

    def collapsed(self, counts: Counts) -> bool:
        """Whether one class was predicted for every row."""
        return collapsed(counts.confusion)

    def majority(
        self, train: Sequence[Label], split: Sequence[Label], num_classes: int, average: F1Average
    ) -> dict[str, float]:
        """The scores of always answering the class that is most frequent in training; of equals the first one."""
        of_train, of_split = ([Counter(labels)[i] for i in range(num_classes)] for labels in (train, split))
        return majority_scores(of_train, of_split, average)


TASK = SingleLabel()
