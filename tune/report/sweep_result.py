"""What `tune.search.run` gives back to Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class SweepResult(Mapping[str, Any]):
    """What a sweep gave. As a mapping it is the report, with the keys of report.json."""

    def __init__(self, report: Mapping[str, Any], out: str | Path) -> None:
        """Hold a report and the run directory that it lies in."""
        self.report = dict(report)
        self.out = out

    @property
    def best(self) -> str:
        """The folder of the best model, which `transformers.pipeline` opens; a URL where the run directory is one."""
        return f"{self.out}/best"

    @property
    def config(self) -> dict[str, Any]:
        """The winner's hyperparameters."""
        return dict(self.report["best"]["config"])

    @property
    def validation(self) -> dict[str, float]:
        """The winner's scores on the validation split, by which it was chosen."""
        return dict(self.report["best"]["validation"])

    @property
    def test(self) -> dict[str, float] | None:
        """The winner's scores on the test split, and their rows; None where no test split was wanted."""
        return None if self.report["test"] is None else dict(self.report["test"])

    def __getitem__(self, key: str) -> Any:
        return self.report[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.report)

    def __len__(self) -> int:
        return len(self.report)

    def __repr__(self) -> str:
        scores = self.test or self.validation
        metric = self.report["metric"]
        where = "test" if self.test else "validation"
        trials = len(self.report["trials"])
        return f"<SweepResult: {metric} {scores[metric]:.4f} on {where}, best of {trials} trials, model in {self.best}>"
