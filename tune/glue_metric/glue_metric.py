"""GLUE's scores as a metric module for `evaluate`, loaded from its path: works offline.

`evaluate.load("glue", ...)` downloads code from the hub and runs it. This one computes the same numbers with
scikit-learn, for any classification task: configuration "binary" (F1 of class 1, as GLUE's mrpc and qqp) or "macro".
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


class GlueMetric(evaluate.Metric):  # type: ignore[misc]
    """accuracy, f1 and matthews_correlation of predicted class ids."""

    def _info(self) -> Any:
        if self.config_name not in ("binary", "macro"):
            raise KeyError(f"configuration must be 'binary' or 'macro', but got {self.config_name!r}")
        return evaluate.MetricInfo(
            description="Accuracy, F1 and Matthews correlation.",
            citation="",
            inputs_description="predictions, references: class ids",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "f1": float(f1_score(references, predictions, average=self.config_name, zero_division=0)),
            "matthews_correlation": float(matthews_corrcoef(references, predictions)),
        }
