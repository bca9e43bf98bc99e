"""Which worker ran which trial when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from trainable.epoch_scores import EpochScores
from tune.report.details import WorkerSpan
from tune.run_dir.records import TrialRecord

Worker = tuple[str, int]  # host and process


def timeline_of(records: Sequence[TrialRecord]) -> list[WorkerSpan]:
    """The times in which each worker ran a trial, in the order in which they began.

    Epochs of which an early version noted no worker are left out.
    """
    runs: list[tuple[int, Worker, float, float]] = []
    for record in records:
        for worker, epochs in groupby(record.epochs, key=_worker):
            if worker is not None:
                first, *others = epochs
                runs.append((record.number, worker, first.began_at, (others or [first])[-1].ended_at))
    runs.sort(key=lambda run: (run[2], run[0]))
    slots = _slots(runs)
    return [
        WorkerSpan(trial=number, host=worker[0], pid=worker[1], slot=slots[worker], began_at=began, ended_at=ended)
        for number, worker, began, ended in runs
    ]


def _worker(epoch: EpochScores) -> Worker | None:
    return None if epoch.worker is None else (epoch.worker.hostname, epoch.worker.pid)


def _slots(runs: Sequence[tuple[int, Worker, float, float]]) -> dict[Worker, int]:
    """The slot of each worker. One that began after another of its machine had ended takes that one's slot."""
    lives: dict[Worker, tuple[float, float]] = {}
    for _, worker, began, ended in runs:
        first, last = lives.get(worker, (began, ended))
        lives[worker] = min(first, began), max(last, ended)
    free_from: dict[str, list[float]] = defaultdict(list)
    slots = {}
    for worker, (began, ended) in sorted(lives.items(), key=lambda life: (life[1], life[0])):
        ends = free_from[worker[0]]
        slot = next((i for i, end in enumerate(ends) if end <= began), len(ends))
        ends[slot : slot + 1] = [ended]
        slots[worker] = slot + 1
    return slots
