"""Curves and hyperparameters for TensorBoard: of every trial while it runs, and of the sweep.

TensorBoard calls a trial's run trials/N; its tags are train/loss, validation/loss, validation/accuracy and so on, by
epoch; rungs/..., by percent of the schedule; steps/..., by optimizer step. The run `sweep` has the plan, the domains of
the hyperparameters, and the winner's confusion matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.hparams import summary_v2
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from trainable.config import TrialConfig
from trainable.job import Assignment, Job
from trainable.metrics import METRICS
from trainable.storage.predictions import read_predictions
from tune.report.confusion_matrix import confusion_image
from tune.run_dir.layout import EVENTS, RunDir
from tune.run_dir.records import TrialRecord
from tune.spec.space import Choice, Domain, Fixed, Float, Int, Value
from tune.trackers.base import Axis

FLUSH_S = 5
PLAN, WINNER = "plan", "winner"  # how the files of the sweep end


class TensorBoardLog:
    """The event files of the trials that are running, a ScoreLog. No curve gets two points at one step."""

    def __init__(self, run_dir: RunDir) -> None:
        """Open no file yet."""
        self._run_dir = run_dir
        self._writers: dict[int, SummaryWriter] = {}
        self._last_steps: dict[int, dict[str, int]] = {}  # of each trial's tags

    def start(self, assignment: Assignment) -> None:
        """Open a trial's events with its hyperparameters, so that the HParams page shows it while it runs."""
        number = assignment.number
        folder = self._run_dir.trial(number)
        folder.mkdir(parents=True, exist_ok=True)
        self._last_steps[number] = last_steps(folder)  # a trial that goes on may train again what it has reported
        writer = SummaryWriter(str(folder), flush_secs=FLUSH_S)
        shown = {name: _shown(value) for name, value in assignment.config.named().items()}
        _, *session = hparams(shown, {})  # type: ignore[no-untyped-call]  # the first one knows no domains
        for summary in session:
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        self._writers[number] = writer

    def log(self, number: int, scores: Mapping[str, float], axis: Axis, step: int) -> None:
        """Add points to a running trial's events."""
        writer, last = self._writers[number], self._last_steps[number]
        for tag, value in scores.items():
            if step > last.get(tag, -1):
                writer.add_scalar(tag, value, step)
                last[tag] = step
        writer.flush()

    def finish(self, number: int, record: TrialRecord | None) -> None:
        """Close a trial's events."""
        self._writers.pop(number).close()
        del self._last_steps[number]


def last_steps(folder: Path) -> dict[str, int]:
    """The last step of each tag in a folder's event files; what a killed driver wrote half is left out."""
    found: dict[str, int] = {}
    for file in sorted(folder.glob(EVENTS)):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                found[value.tag] = max(event.step, found.get(value.tag, -1))
    return found


def write_plan(
    run_dir: RunDir, space: Mapping[str, Domain], points: Iterable[TrialConfig], lines: Sequence[str]
) -> None:
    """Write what the sweep is about to do: the domains for the HParams page, and a card of text.

    Args:
        run_dir: The sweep's.
        space: What is searched.
        points: Configurations that are tried first; they may have hyperparameters that the space lacks.
        lines: The plan as the user is told it.
    """
    values: dict[str, set[Value]] = {}
    for point in points:
        for name, value in point.named().items():
            values.setdefault(name, set()).add(value)
    domains = {name: Choice(tuple(each)) for name, each in values.items()} | dict(space)
    shown = [summary_v2.HParam(name, _domain(domain)) for name, domain in domains.items()]
    metrics = [summary_v2.Metric(metric.tag) for metric in METRICS.values()]
    with _sweeps_events(run_dir, PLAN) as writer:
        writer._get_file_writer().add_summary(summary_v2.hparams_config_pb(shown, metrics))
        writer.add_text("plan", "\n".join(f"    {line}" for line in lines))  # Markdown's block of code


def draw_winner(run_dir: RunDir, number: int, job: Job) -> None:
    """Write the confusion matrix on validation of the winner, a trial, as an image.

    None is written where there are too many classes, or where what the trial predicts is gone.
    """
    split, names = job.validation, job.label_names
    predictions = read_predictions(run_dir.predictions(number), len(split), len(names))
    if predictions is None:
        return
    title = f"trial {number} on validation: rows are classes, columns are answers"
    image = confusion_image(list(split.labels), predictions.argmax(axis=1).tolist(), names, title)
    if image is None:
        return
    with _sweeps_events(run_dir, WINNER) as writer:
        writer.add_image("winner/confusion_matrix", image, dataformats="HWC")


def _sweeps_events(run_dir: RunDir, kind: str) -> SummaryWriter:
    """New events of the sweep in place of those that an earlier driver wrote."""
    folder = run_dir.sweep_events
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob(f"{EVENTS}.{kind}"):
        run_dir.storage.remove(file)
    return SummaryWriter(str(folder), filename_suffix=f".{kind}")


def _shown(value: Value) -> Value:
    return "none" if value is None else value


def _domain(domain: Domain) -> summary_v2.Domain | None:
    """A domain as the HParams page has it; None for values of several types, which it can't filter by."""
    match domain:
        case Float(low, high):
            return summary_v2.RealInterval(low, high)
        case Int(low, high):
            return summary_v2.IntInterval(low, high)
        case Choice(values):
            return _discrete(values)
        case Fixed(value):
            return _discrete((value,))


def _discrete(values: Sequence[Value]) -> summary_v2.Discrete | None:
    shown = [_shown(value) for value in values]
    numbers = [float(value) for value in shown if isinstance(value, (int, float))]
    if len({type(value) for value in shown}) == 1:
        return summary_v2.Discrete(shown)
    return summary_v2.Discrete(numbers) if len(numbers) == len(shown) else None
