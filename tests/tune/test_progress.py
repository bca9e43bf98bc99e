"""What is shown must not end what is done."""

from __future__ import annotations

import sys
import types
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores
from tune.report.progress import ENDED_SHOWN, Progress
from tune.run_dir.records import TrialRecord
from tune.spec.space import Choice, Fixed, Float, Int
from tune.spec.sweep_spec import SweepSpec


class ClosedPipe(StringIO):
    """`| head` that has seen enough."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_reader_that_goes_away_does_not_end_the_sweep(tmp_path: Path) -> None:
    spec = SweepSpec(name="s", model="m", dataset="d")
    with Progress(spec, tmp_path / "log.txt", out=ClosedPipe()) as progress:
        progress.say("first")
        progress.say("second")
    assert [line[20:] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["first", "second"]


def record(number: int, f1: float, best: int, epochs: int = 3, **config: float) -> TrialRecord:
    scores = {"loss": 0.5, "accuracy": f1, "f1": f1, "matthews_correlation": f1}
    run = [EpochScores(
        epoch=i, schedule_percent=100 * i / epochs, train_loss=0.5, scores=scores | {"f1": f1 - 0.1 * abs(i - best)},
        collapsed=False, learning_rate=1e-4, examples_per_second=9.0, began_at=1.8e9, train_s=1.0, eval_s=0.5,
        peak_memory_mib=99.0,
    ) for i in range(1, epochs + 1)]  # fmt: skip
    chosen = TrialConfig.from_values({"learning_rate": 1e-4, "batch_size": 8, "epochs": epochs, **config})
    return TrialRecord(number, "COMPLETE", chosen, 1, tuple(run), run[best - 1], f1)


def test_a_sweep_that_goes_on_knows_its_best_trial(tmp_path: Path) -> None:
    spec = SweepSpec(name="s", model="m", dataset="d")
    earlier = [record(0, 0.7, best=2), record(1, 0.9, best=2)]
    with Progress(spec, tmp_path / "log.txt", earlier, out=StringIO()) as progress:
        assert "best f1 0.9000 (trial 1)" in progress.summary()


def shown(progress: Progress, width: int = 80) -> list[str]:
    out = StringIO()
    Console(file=out, width=width).print(progress._table())
    return out.getvalue().splitlines()


def test_the_table_at_80_columns_shows_the_winner_and_what_tells_trials_apart(tmp_path: Path) -> None:
    space = {"learning_rate": Float(1e-5, 1e-3, True), "batch_size": Choice((8, 16)), "epochs": Int(2, 4),
             "weight_decay": Fixed(0.05)}  # fmt: skip
    spec = SweepSpec(name="s", model="m", dataset="d", space=space, num_trials=50)
    with Progress(spec, tmp_path / "log.txt", out=StringIO()) as progress:
        winner = record(3, 0.9, best=2, weight_decay=0.05)
        progress.started(3, winner.config)
        progress.finished(winner, winner)
        for number in range(4, 30):
            other = record(number, 0.5, best=1, learning_rate=number * 1e-5, weight_decay=0.05)
            progress.started(number, other.config)
            progress.finished(other, winner)
        running = record(30, 0.4, best=3)
        progress.started(30, running.config)
        progress.epoch(30, running.epochs[1])
        lines = shown(progress)
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line for line in lines if line.split()[0].isdigit() and "/" in line}
    assert len(rows) == ENDED_SHOWN + 2, "the winner, the last ones, and the one that runs"
    assert rows["3"].split()[1:4] == ["done", "*", "2/3"], "the winner stays, and its scores are those of epoch 2"
    assert "0.9000" in rows["3"]
    assert "learning_rate=0.0001 batch_size=8" in rows["3"]
    assert all("weight_decay" not in row and "epochs" not in row for row in rows.values())
    assert rows["30"].split()[1:3] == ["running", "2/3"]
    assert "0.3000" in rows["30"], "of the last epoch, whose number stands there"


def test_the_time_left_counts_the_score_on_the_test_split(tmp_path: Path) -> None:
    spec = SweepSpec(name="s", model="m", dataset="d", num_trials=1)
    left = []
    for share in (0.0, 240.0):
        with Progress(spec, tmp_path / "log.txt", out=StringIO(), test_share=share) as progress:
            done = record(0, 0.9, best=2)
            progress.started(0, done.config)
            for epoch in done.epochs:
                progress.epoch(0, epoch)
            progress.finished(done, done)
            left.append(progress.summary().rpartition(", about ")[2])
    assert left == ["0:00 left", "2:00 left"], "240 times the rows of validation, which took half a second"


def test_a_notebook_gets_one_output_that_is_updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handle:
        texts: ClassVar[list[str]] = []

        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            self.texts.append(data["text/plain"])

    asked: list[dict[str, Any]] = []
    fake = types.ModuleType("IPython")
    fake.get_ipython = lambda: types.SimpleNamespace(kernel=1)  # type: ignore[attr-defined]
    display = types.ModuleType("IPython.display")
    display.display = lambda data, **more: asked.append(more) or Handle()  # type: ignore[attr-defined, func-returns-value]
    monkeypatch.setitem(sys.modules, "IPython", fake)
    fake.display = display  # type: ignore[attr-defined]
    spec = SweepSpec(name="s", model="m", dataset="d", num_trials=1)
    out = StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with Progress(spec, tmp_path / "log.txt") as progress:
        progress.say("note: this stays")
        done = record(0, 0.9, best=2)
        progress.started(0, done.config)
        progress.epoch(0, done.epochs[0])
        progress.finished(done, done)
        progress.end_table()
        progress.say("the end")
    assert asked == [{"raw": True, "display_id": True}], "one output"
    assert out.getvalue() == "note: this stays\nthe end\n"
    assert "0.9000" in Handle.texts[-1]
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 5
