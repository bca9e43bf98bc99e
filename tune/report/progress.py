"""What the user sees of a running sweep: a live table on a terminal, plain lines elsewhere and in the log file."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trainable.redaction import one_line, plain
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec

FINISHED_SHOWN = 8
STATES = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}  # Optuna's words, and the table's


def clock(seconds: float) -> str:
    """Seconds as 2:05 or 1:02:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(config: Mapping[str, Any]) -> str:
    """A configuration in a line."""
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in config.items()
    )


class Progress:
    """Shows a sweep. Use as a context; tell it what happens."""

    def __init__(
        self, spec: SweepSpec, log_file: Path, earlier: Sequence[TrialRecord] = (), out: TextIO | None = None
    ) -> None:
        self.spec = spec
        self._log_file = log_file
        self._out = out or sys.stdout
        self._live: Live | None = None
        self._deaf = False  # nobody reads what is printed
        self._began: float | None = None  # when the first trial took its worker
        self._running: dict[int, tuple[Mapping[str, Any], Mapping[str, Any] | None]] = {}
        self._ended = deque((r for r in earlier if r.state in STATES), maxlen=FINISHED_SHOWN)
        self._counts = {state: sum(record.state == state for record in earlier) for state in STATES}
        self._ended_before = sum(self._counts.values())
        self._epochs = 0
        self._best: TrialRecord | None = None

    def __enter__(self) -> Progress:
        self._log = self._log_file.open("a", encoding="utf-8")
        if self._out.isatty():
            self._live = Live(console=Console(file=self._out), get_renderable=self._table, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._detail("stopped; the same command goes on")
        self.end_table()
        self._log.close()

    def end_table(self) -> None:
        """Leave the table as it stands; what is said from here on stands below it."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A plain line, into the log and (above the table) to the user."""
        text = plain(text)
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self._log.flush()
        if self._live is not None:
            self._live.console.print(Text(text))
        elif not self._deaf:
            try:
                print(text, file=self._out, flush=True)
            except BrokenPipeError:  # whoever read has gone; the sweep has not
                self._deaf = True

    def _detail(self, text: str) -> None:
        """A line that the table makes needless on a terminal."""
        text = plain(text)
        if self._live is None:
            self.say(text)
        else:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
            self._log.flush()

    def started(self, number: int, config: Mapping[str, Any]) -> None:
        """A trial begins."""
        self._began = self._began or time.monotonic()
        self._running[number] = (config, None)
        self._detail(f"trial {number} started: {short(config)}")

    def epoch(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial finished an epoch."""
        config, _ = self._running[number]
        self._running[number] = (config, result)
        self._epochs += 1
        self._detail(
            f"trial {number} epoch {result['epoch']}/{config['epochs']}: train_loss {result['train_loss']:.4f}, "
            f"loss {result['loss']:.4f}, accuracy {result['accuracy']:.4f}, f1 {result['f1']:.4f}"
        )

    def set_aside(self, number: int, why: str) -> None:
        """A trial can't go on for now."""
        self._running.pop(number, None)
        self.say(f"trial {number} set aside: {why}")

    def finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """A trial came to its end."""
        self._running.pop(record.number, None)
        self._ended.append(record)
        self._counts[record.state] += 1
        self._best = best
        self._detail(f"trial {record.number} {outcome(record, self.spec.metric)}; {self.summary()}")

    def failed(self, number: int, config: Mapping[str, Any], failure: str, where: str) -> None:
        """A trial failed: what, with which configuration, and where the log lies."""
        self.say(f"trial {number} FAILED: {failure.strip()}\n  configuration: {short(config)}\n  log: {where}")

    def summary(self) -> str:
        """The state of the sweep in a line."""
        best = (
            f"best {self.spec.metric} {self._best.value:.4f} (trial {self._best.number})"
            if self._best
            else "no best yet"
        )
        return (
            f"{len(self._running)} running, {self._counts['COMPLETE']} done, {self._counts['PRUNED']} stopped early, "
            f"{self._counts['FAIL']} failed of {self.spec.num_trials}; {best}; "
            f"{self._epochs} {'epoch' if self._epochs == 1 else 'epochs'} in {clock(self._elapsed())}, "
            f"{self._time_left()} left"
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began if self._began is not None else 0.0

    def _time_left(self) -> str:
        shares = [result["schedule_percent"] / 100 if result else 0.0 for _, result in self._running.values()]
        ended = sum(self._counts.values())
        now = ended - self._ended_before + sum(shares)
        if now == 0:
            return "?"
        left = self.spec.num_trials - self._ended_before - now
        return f"about {clock(self._elapsed() / now * left)}"

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        widths = {"trial": 5, "state": 9, "epoch": 5, "train_loss": 10, "loss": 6, "accuracy": 8, "f1": 6}
        for name, width in widths.items():
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True, min_width=width)
        table.add_column("configuration", overflow="ellipsis", no_wrap=True, ratio=1)  # what narrow terminals cut
        for record in self._ended:
            mark = " *" if self._best is not None and record.number == self._best.number else ""
            best = None if record.best is None else record.best.as_json()
            state = STATES[record.state] + mark
            table.add_row(*_cells(record.number, state, len(record.epochs), record.config.named(), best))
        for number, (config, result) in sorted(self._running.items()):
            epochs = result["epoch"] if result else 0
            table.add_row(*_cells(number, "running", epochs, config, result), style="cyan")
        return Group(table, Text(one_line(self.summary()), style="bold"))


def _cells(
    number: int, state: str, epochs: int, config: Mapping[str, Any], result: Mapping[str, Any] | None
) -> list[Text]:
    """A row: epochs run of those planned, and the scores of the best epoch, or of the last while it runs."""
    scores = [f"{result[name]:.4f}" if result else "" for name in ("train_loss", "loss", "accuracy", "f1")]
    cells = [str(number), state, f"{epochs}/{config['epochs']}", *scores, short(config)]
    return [Text(one_line(cell)) for cell in cells]  # a string would be read as rich's markup


def outcome(record: TrialRecord, metric: str) -> str:
    """How a trial ended, in words."""
    if record.state == "FAIL":
        return f"failed: {record.failure}"
    words = {"COMPLETE": "done", "PRUNED": "stopped early"}[record.state]
    note = " (collapsed: it predicts one class only)" if record.collapsed else ""
    return f"{words}: {metric} {record.value:.4f} at epoch {record.best_epoch}{note}"
