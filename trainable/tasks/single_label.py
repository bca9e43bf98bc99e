"""Classification in which each row has exactly one class: cross-entropy, and what is right of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainable.data.labels import SINGLE_LABEL, LabelReader
from trainable.data.splits import Label
from trainable.metrics import ClassCounts, F1Average, collapsed, f1_of_class, majority_scores, scores
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

    def probabilities(self, logits: Tensor) -> Tensor:
        """The softmax over the classes."""
        return logits.softmax(dim=-1)

    def count(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, then for each class its rows, its answers and the right ones, flat: float64 [1 + 3 * classes]."""
        import torch

        answers = logits.argmax(dim=-1)
        ones = torch.ones_like(labels, dtype=torch.float64)
        cells = torch.zeros(logits.shape[-1], 3, dtype=torch.float64, device=logits.device)
        cells[:, 0].index_add_(0, labels, ones)  # bincount would sync on a GPU
        cells[:, 1].index_add_(0, answers, ones)
        cells[:, 2].index_add_(0, labels, (answers == labels).double())
        return torch.cat([self.loss(logits, labels, 0.0).double().view(1), cells.flatten()])

    def counts(self, total: Sequence[float]) -> Counts:
        """Cut the flat cells into those of each class."""
        loss_sum, *cells = total
        return Counts(loss_sum, [ClassCounts(*map(int, cells[i : i + 3])) for i in range(0, len(cells), 3)])

    def scores(self, counts: Counts, average: F1Average) -> dict[str, float]:
        """Every score of METRICS, computed from the counts and the loss."""
        return scores(self._by_class(counts), counts.loss_sum, average)

    def f1_by_class(self, counts: Counts) -> list[float]:
        """2 TP / (rows + answers) of each class."""
        return [f1_of_class(of) for of in self._by_class(counts)]

    def collapsed(self, counts: Counts) -> bool:
        """Whether one class was predicted for every row."""
        return collapsed(self._by_class(counts))

    def _by_class(self, counts: Counts) -> list[ClassCounts]:
        return [ClassCounts(*of_class) for of_class in counts.by_class]

    def majority(
        self, train: Sequence[Label], split: Sequence[Label], num_classes: int, average: F1Average
    ) -> dict[str, float]:
        """The scores of always answering the class that is most frequent in training; of equals the first one."""
        of_train, of_split = ([Counter(labels)[i] for i in range(num_classes)] for labels in (train, split))
        return majority_scores(of_train, of_split, average)


TASK = SingleLabel()
