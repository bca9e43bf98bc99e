"""Reads from a finished run directory how much time its sweep took, and how many bytes it wrote."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import optuna

from tune.run_dir.attributes import STUDY_NAME


@dataclass(frozen=True)
class SweepFigures:
    """The figures of one sweep."""

    to_first_step: float
    """Seconds from the start of the command to the first training step."""
    to_step_warm: float
    """Seconds from a trial's assignment to its first training step: the median over trials on warm workers."""
    overhead_percent: float
    """How much of the slots' time, from the first training step to the last trial's end, was not spent computing."""
    computing_s: float
    """Seconds of training and evaluation, summed over trials."""
    training_s: float
    """Seconds of training, summed over trials."""
    written_bytes: int
    """Bytes that the workers wrote, summed over trials."""
    full_bytes: int
    """Bytes that a checkpoint of weights and optimizer after every epoch would have written."""
    peak_memory_mib: tuple[float, ...]
    """The largest resident memory of each worker, MiB, in ascending order."""


def read_figures(run: Path, started_at: float, slots: int, model_bytes: int) -> SweepFigures:
    """Compute the figures of a finished sweep without early stopping.

    Args:
        run: The run directory.
        started_at: When the command was started, seconds since 1970.
        slots: How many trials ran side by side.
        model_bytes: The size of the model's weights.
    """
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
        # Adam keeps two numbers for each weight, so a full checkpoint is three times the weights.
        full_bytes=3 * model_bytes * sum(len(of) for of in epochs.values()),
        peak_memory_mib=tuple(sorted(memory.values())),
    )
