"""What the user sees of a running sweep: a live table on a terminal, plain lines elsewhere and in the log file."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores, RungScores
from trainable.metrics import METRICS, Metric
from trainable.redaction import one_line, plain
from tune.report.text import clock, short
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.budgets import settings_of
from tune.spec.confirm import most_fresh_runs
from tune.spec.space import Fixed
from tune.spec.sweep_spec import SweepSpec

ENDED_SHOWN = 8
NOTEBOOK_WIDTH = 110  # characters
OUTCOMES = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}  # what the table calls Optuna's states


class Progress:
    """Shows a running sweep. Use it as a context, and tell it what happens.

    A terminal gets a live table; a pipe or a file gets a line for each event. The log file gets every line in any case,
    so that a sweep that was started in the background can be followed and explained later.
    """

    def __init__(
        self,
        spec: SweepSpec,
        log_file: Path,
        earlier: Sequence[TrialRecord] = (),
        out: TextIO | None = None,
        test_share: float = 0.0,
    ) -> None:
        """Get ready to show a sweep.

        Args:
            spec: The sweep's specification.
            log_file: Every line is appended to it.
            earlier: The trials that an earlier driver has run.
            out: Where the user reads; standard output where it is None.
            test_share: The rows of the test split for each row of the validation split: the winner is scored on them.
        """
        self.spec = spec
        self._most = "at most " if settings_of(spec) else ""
        self._test_share = test_share
        self._eval_s = 0.0
        self._log_file = log_file
        self._out = out or sys.stdout
        self._live: Live | None = None
        self._notebook: NotebookTable | None = None
        self._reader_gone = False  # the other end of the pipe was closed
        self._budget_until: float | None = None  # monotonic seconds
        self._began: float | None = None  # when the first trial took its worker, monotonic seconds
        self._running: dict[int, tuple[TrialConfig, EpochScores | None]] = {}  # with the last epoch
        self._percent: dict[int, float] = {}  # how much of its schedule a trial has run
        self._ended = deque((record for record in earlier if record.state in OUTCOMES), maxlen=ENDED_SHOWN)
        searched = of_the_search(earlier)
        self._counts = {state: sum(record.state == state for record in searched) for state in OUTCOMES}
        self._confirmed = sum(record.confirms is not None and record.state in OUTCOMES for record in earlier)
        self._ended_before = sum(self._counts.values()) + self._confirmed
        self._epochs = 0
        self._best = next(iter(rank(earlier, spec.metric, spec.mode)), None)

    def __enter__(self) -> Progress:
        self._log = self._log_file.open("a", encoding="utf-8")
        if self._out.isatty():
            self._live = Live(console=Console(file=self._out), get_renderable=self._table, refresh_per_second=2)
            self._live.start()
        elif self._out is sys.stdout and in_notebook():
            self._notebook = NotebookTable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._event("stopped; the same command goes on")
        self.end_table()
        self._log.close()

    def end_table(self) -> None:
        """Leave the table as it stands; later lines appear below it."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._notebook is not None:
            self._notebook.show(self._table())
            self._notebook = None

    def say(self, text: str) -> None:
        """Show a line to the user, above the table where there is one, and log it."""
        text = self._logged(text)
        if self._live is not None:
            self._live.console.print(Text(text))
        elif not self._reader_gone:
            try:
                print(text, file=self._out, flush=True)
            except (OSError, ValueError):  # its reader is gone, or the stream was closed: the sweep goes on without
                self._reader_gone = True

    def say_each(self, lines: Iterable[str]) -> None:
        """Show and log several lines."""
        for line in lines:
            self.say(line)

    def _event(self, text: str) -> None:
        """Log a line, and show it only where no table says the same."""
        if self._live is None and self._notebook is None:
            self.say(text)
        else:
            self._logged(text)
        if self._notebook is not None:
            self._notebook.show(self._table())

    def _logged(self, text: str) -> str:
        text = plain(text)
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self._log.flush()
        return text

    def started(self, number: int, config: TrialConfig, confirms: int | None = None) -> None:
        """A trial begins; `confirms` is the trial that it trains again from a fresh seed, if it does."""
        self._began = self._began or time.monotonic()
        self._running[number] = (config, None)
        again = "" if confirms is None else f" (trial {confirms} again, from a fresh seed)"
        self._event(f"trial {number} started{again}: {short(config)}")

    def epoch(self, number: int, epoch: EpochScores) -> None:
        """A trial has finished an epoch."""
        config, _ = self._running[number]
        self._running[number] = (config, epoch)
        self._percent[number] = epoch.schedule_percent
        self._epochs += 1
        self._eval_s += epoch.eval_s
        self._event(f"trial {number} epoch {epoch.epoch}/{config.epochs}: {_scores(epoch)}")

    def limit(self, left_s: float | None) -> None:
        """Tell how long the budget lets the sweep train on, seconds; None where it does not say."""
        self._budget_until = None if left_s is None else time.monotonic() + left_s

    def rung(self, number: int, rung: RungScores) -> None:
        """A trial was scored within an epoch."""
        self._percent[number] = rung.schedule_percent
        self._event(f"trial {number} at {rung.schedule_percent:.3g} % of its schedule: {_scores(rung)}")

    def set_aside(self, number: int, why: str) -> None:
        """A trial can't go on for now."""
        self._running.pop(number, None)
        self.say(f"trial {number} set aside: {why}")

    def finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """A trial has ended. `best` is the best finished trial so far."""
        self._running.pop(record.number, None)
        self._ended.append(record)
        if record.confirms is None:
            self._counts[record.state] += 1
        else:
            self._confirmed += 1
        self._best = best
        self._event(f"trial {record.number} {outcome(record, self.spec.metric)}; {self.summary()}")

    def failed(self, number: int, config: TrialConfig, failure: str, log: str) -> None:
        """A trial has failed: why, with which configuration, and where its log is."""
        self.say(f"trial {number} FAILED: {failure.strip()}\n  configuration: {short(config)}\n  log: {log}")

    def summary(self) -> str:
        """The state of the sweep in a line."""
        best = "no best yet"
        confirmed = f", {self._confirmed} fresh runs of finalists" if self._confirmed else ""
        if self._best is not None:
            best = f"best {self.spec.metric} {self._best.value:.4f} (trial {self._best.number})"
        return (
            f"{len(self._running)} running, {self._counts['COMPLETE']} done, {self._counts['PRUNED']} stopped early, "
            f"{self._counts['FAIL']} failed of {self._most}{self.spec.num_trials}{confirmed}; {best}; "
            f"{self._epochs} {'epoch' if self._epochs == 1 else 'epochs'} in {clock(self._elapsed_s())}, "
            f"{self._time_left()} left"
        )

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began if self._began is not None else 0.0

    def _time_left(self) -> str:
        """Estimate the time left from the trials that this driver has run; of a running trial, its done part counts.

        A finalist's fresh run counts as a trial. A row of the test split takes as long as one of validation.
        """
        parts = [self._percent.get(number, 0.0) / 100 for number in self._running]
        done = sum(self._counts.values()) + self._confirmed - self._ended_before + sum(parts)
        if done == 0:
            return "?" if self._budget_until is None else f"at most {clock(self._budget_until - time.monotonic())}"
        left = max(self.spec.num_trials + most_fresh_runs(self.spec) - self._ended_before - done, 0)
        test_s = self._test_share * self._eval_s / self._epochs if self._epochs else 0.0
        left_s = self._elapsed_s() / done * left
        if self._budget_until is not None:
            left_s = min(left_s, max(0.0, self._budget_until - time.monotonic()))
        return f"about {clock(left_s + test_s)}"

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", expand=True)
        widths = {"trial": 5, "state": 9, "epoch": 5}
        widths |= {metric.column: max(len(metric.column), 6) for metric in _shown_metrics()}
        for name, width in widths.items():
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True, min_width=width)
        table.add_column("configuration", overflow="ellipsis", no_wrap=True, ratio=1)  # a narrow terminal cuts it
        best = self._best
        if best is not None and best.number not in [record.number for record in tuple(self._ended)]:
            self._add_ended(table, best)  # it never scrolls away
        for record in tuple(self._ended):  # another thread may add one
            self._add_ended(table, record)
        for number, (config, epoch) in sorted(self._running.items()):
            table.add_row(*self._cells(number, "running", config, epoch), style="cyan")
        return Group(table, Text(one_line(self.summary()), style="bold"))

    def _add_ended(self, table: Table, record: TrialRecord) -> None:
        is_best = self._best is not None and record.number == self._best.number
        state = OUTCOMES[record.state] + (" *" if is_best else "")
        style = "green" if is_best else None
        shown = record.best or next(reversed(record.rungs), None)  # it may have been stopped within its first epoch
        table.add_row(*self._cells(record.number, state, record.config, shown), style=style)

    def _cells(
        self, number: int, state: str, config: TrialConfig, shown: EpochScores | RungScores | None
    ) -> list[Text]:
        """Fill a row with the scores of one epoch, whose number stands beside them: the best, or the last so far."""
        found = shown.scores if shown else {}  # what an earlier version recorded may lack a newer score
        scores = [f"{found[metric.name]:.4f}" if metric.name in found else "" for metric in _shown_metrics()]
        epoch = f"{shown.epoch if isinstance(shown, EpochScores) else 0}/{config.epochs}"
        cells = [str(number), state, epoch, *scores, self._short(config)]
        return [Text(one_line(cell)) for cell in cells]  # rich would read markup in a string

    def _short(self, config: TrialConfig) -> str:
        """What tells the trial from the others: what is searched, without the epochs, which stand in their column."""
        same = {name for name, domain in self.spec.space.items() if isinstance(domain, Fixed)} | {"epochs"}
        return short(config, without=same)


class NotebookTable:
    """A table in a notebook's cell: one output, which is updated in place. What the cell has printed stays."""

    def __init__(self) -> None:
        """Show nothing yet, so that what is printed before the first trial stands above."""
        self._handle: Any = None

    def show(self, table: Group) -> None:
        """Replace what is shown."""
        text = StringIO()
        # In a notebook Rich would otherwise show each table as an output of its own, and write nothing into `text`.
        Console(file=text, width=NOTEBOOK_WIDTH, force_jupyter=False).print(table)
        if self._handle is None:
            from IPython import display

            shown: Any = display  # it has no types
            self._handle = shown.display({"text/plain": text.getvalue()}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": text.getvalue()}, raw=True)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def _shown_metrics() -> list[Metric]:
    """The scores for which a terminal has room."""
    return [metric for metric in METRICS.values() if metric.while_running]


def _scores(scored: EpochScores | RungScores) -> str:
    scores = ", ".join(f"{metric.name} {scored.scores[metric.name]:.4f}" for metric in _shown_metrics())
    return f"train_loss {scored.train_loss:.4f}, {scores}"


def outcome(record: TrialRecord, metric: str) -> str:
    """How a trial ended, in words."""
    if record.state == "FAIL":
        return f"failed: {record.failure}"
    words = {"COMPLETE": "done", "PRUNED": "stopped early"}[record.state]
    note = " (collapsed: it predicts one class only)" if record.collapsed else ""
    if record.value is None:  # it was stopped within its first epoch
        if not record.rungs:
            return f"{words} before it was scored"
        rung = record.rungs[-1]
        return f"{words}: {metric} {rung.scores[metric]:.4f} at {rung.schedule_percent:.3g} % of its schedule"
    return f"{words}: {metric} {record.value:.4f} at epoch {record.best_epoch}{note}"
