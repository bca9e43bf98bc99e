"""Every trial's curves and hyperparameters for TensorBoard, written while the trial runs.

TensorBoard calls a trial's run trials/N; its tags are train/loss, validation/loss, validation/accuracy and so on.
"""

from __future__ import annotations

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores, RungScores
from trainable.metrics import METRICS
from tune.run_dir.layout import RunDir


class TensorBoardLog:
    """The event files of the trials that are running."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._writers: dict[int, SummaryWriter] = {}

    def start(self, number: int, config: TrialConfig) -> None:
        """Open a trial's events with its hyperparameters, so that the HParams page shows it while it runs."""
        folder = self._run_dir.trial(number)
        folder.mkdir(parents=True, exist_ok=True)
        writer = SummaryWriter(str(folder), flush_secs=5)
        shown = {name: "none" if value is None else value for name, value in config.named().items()}
        tags = {metric.tag: None for metric in METRICS.values()}
        for summary in hparams(shown, tags):  # type: ignore[no-untyped-call]
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        self._writers[number] = writer

    def epoch(self, number: int, epoch: EpochScores) -> None:
        """Add the points of an epoch; the step is the epoch's number."""
        points = {
            "train/loss": epoch.train_loss,
            "train/learning_rate": epoch.learning_rate,
            "train/examples_per_second": epoch.examples_per_second,
            **{METRICS[name].tag: score for name, score in epoch.scores.items()},
        }
        for tag, value in points.items():
            self._writers[number].add_scalar(tag, value, epoch.epoch)
        self._writers[number].flush()

    def rung(self, number: int, rung: RungScores) -> None:
        """Add the points of a rung within an epoch; the step is the percentage of the schedule that was done."""
        for name, score in rung.scores.items():
            self._writers[number].add_scalar(f"rungs/{name}", score, round(rung.schedule_percent))
        self._writers[number].flush()

    def finish(self, number: int) -> None:
        """Close a trial's events."""
        self._writers.pop(number).close()
