"""Every trial's curves and hyperparameters for TensorBoard, written while it runs.

A trial's run is called trials/N; its tags are train/loss, validation/loss, validation/accuracy and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from tune.run_dir.layout import RunDir

TAGS = {
    "train_loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "examples_per_second": "train/examples_per_second",
    "loss": "validation/loss",
    "accuracy": "validation/accuracy",
    "f1": "validation/f1",
    "matthews_correlation": "validation/matthews_correlation",
}


class TensorBoardLog:
    """Event files of the trials that are running."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._writers: dict[int, SummaryWriter] = {}

    def start(self, number: int, config: Mapping[str, Any]) -> None:
        """Open a trial's events with its hyperparameters, so that the HParams page shows it while it runs."""
        folder = self._run_dir.trial(number)
        folder.mkdir(parents=True, exist_ok=True)
        writer = SummaryWriter(str(folder), flush_secs=5)
        shown = {name: "none" if value is None else value for name, value in config.items()}
        metrics = {tag: None for name, tag in TAGS.items() if tag.startswith("validation/")}
        for summary in hparams(shown, metrics):  # type: ignore[no-untyped-call]
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        self._writers[number] = writer

    def epoch(self, number: int, result: Mapping[str, Any]) -> None:
        """One epoch's points; the step is the epoch."""
        for name, tag in TAGS.items():
            self._writers[number].add_scalar(tag, result[name], result["epoch"])
        self._writers[number].flush()

    def finish(self, number: int) -> None:
        """Close a trial's events."""
        self._writers.pop(number).close()
