"""How far a trial's score is off by chance: its standard error on the validation rows."""

from __future__ import annotations

import math

import numpy as np

from trainable.job import Job
from trainable.storage.predictions import read_predictions
from tune.report.intervals import text_groups
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.statistics.contributions import contributions


class ScoreNoise:
    """Reads what the best epoch of a trial predicts of each validation row, and what each row adds to the score."""

    def __init__(self, run_dir: RunDir, job: Job, metric: str) -> None:
        self._run_dir, self._job, self._metric = run_dir, job, metric

    def __call__(self, record: TrialRecord) -> float:
        """The standard error of a trial's objective; 0 where its predictions can't be read."""
        file, rows = self._run_dir.predictions(record.number), self._job.validation
        self._run_dir.storage.fetch(file)
        predicted = read_predictions(file, len(rows), len(self._job.label_names))
        if predicted is None:
            return 0.0
        of_rows = contributions(self._metric, rows.labels, predicted, self._job.f1_average, text_groups(rows))
        return float(np.std(of_rows, ddof=1)) / math.sqrt(len(of_rows))
