"""What a finished run directory says about the time and the bytes that its sweep took."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import optuna

from tune.run_dir.records import STUDY_NAME


@dataclass(frozen=True)
class SweepFigures:
    """Seconds unless the name says otherwise.

    to_first_step: from `started_at` (the command's start, seconds since 1970) to the first training step
    to_step_warm: from a trial's assignment to its first training step, median over trials on workers that had run one
    overhead_percent: of the time from the first trial's start to the last one's end, what no slot spent on training
        and evaluation; computing_s: training and evaluation, training_s: training, summed over trials
    full_bytes: what a checkpoint of weights and optimizer after every epoch would have written
    """

    to_first_step: float
    to_step_warm: float
    overhead_percent: float
    computing_s: float
    training_s: float
    written_bytes: int
    full_bytes: int
    peak_memory_mib: tuple[float, ...]


def read_figures(run: Path, started_at: float, slots: int, model_bytes: int) -> SweepFigures:
    """The figures of a finished sweep without early stopping."""
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{run / 'study.db'}")
    trials = study.get_trials(deepcopy=False)
    epochs = {t.number: [v for k, v in sorted(t.user_attrs.items()) if k.startswith("epoch ")] for t in trials}
    first_steps = {number: min(e["began_at"] for e in of) for number, of in epochs.items()}
    ends = [t.datetime_complete.timestamp() for t in trials if t.datetime_complete]
    waits: list[float] = []
    seen: set[int] = set()
    memory: dict[int, float] = {}
    for trial in sorted(trials, key=lambda t: first_steps[t.number]):
        worker = epochs[trial.number][0]["pid"]
        if worker in seen and trial.datetime_start is not None:
            waits.append(first_steps[trial.number] - trial.datetime_start.timestamp())
        seen.add(worker)
        memory[worker] = max(memory.get(worker, 0.0), *(e["peak_memory_mib"] for e in epochs[trial.number]))
    computing = sum(e["train_s"] + e["eval_s"] for of in epochs.values() for e in of)
    wall = max(ends) - min(first_steps.values())
    return SweepFigures(
        to_first_step=min(first_steps.values()) - started_at,
        to_step_warm=statistics.median(waits),
        overhead_percent=100 * (wall - computing / slots) / wall,
        computing_s=computing,
        training_s=sum(e["train_s"] for of in epochs.values() for e in of),
        written_bytes=sum(max(e["bytes_written"] for e in of) for of in epochs.values()),
        # Adam keeps two numbers for every weight.
        full_bytes=3 * model_bytes * sum(len(of) for of in epochs.values()),
        peak_memory_mib=tuple(sorted(memory.values())),
    )
